"""A reader of another package behind a process of its own, whose crash or hang costs one slide.

Each process has the slide open and reads one region at a time; where several threads read, as many
processes are started as there are cores, each when it is first needed. A process that dies or takes
too long fails the slide: what crashed once would crash for each quarter of a region again. Whoever
screens many slides may try one that crashed a second time, from its beginning.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from configs.codes import REFUSALS
from pipeline.children import start_module, tell_end
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect
from pipeline.slides.checked import Described
from pipeline.slides.plugins import LONGEST, CrashError, PluginError
from pipeline.slides.readers.base import Reader, show

OPEN_S = 120.0
"""How long a process may take to start, to import the package and to open the slide."""

END_S = 2.0
"""How long a process may take to end by itself."""

_MOST_SAID = 200
"""Of the last line that a process wrote before it died, in characters."""


_FAILED = {"unread", "refused", "broken"}
"""What an answer has instead of pixels."""

_NONSENSE = "its process answers nonsense"


class InProcess(Exception):  # noqa: N818 - an answer, not an error
    """The plug-in asks to run in the process of whoever calls it."""


class Worker:
    """A process that has one slide open; asked by one thread at a time.

    Args:
        plugin: ``module:Name``, as its entry point has it.
        path: of the slide.

    Attributes:
        is_opened: whether the file is of the plug-in's format; if not, there is nothing below.
        name: of the plug-in.
        timeout_s: how long reading a region may take.
        said: header and the like.

    Raises:
        InProcess: the plug-in wants no process.
        PluginError: it is none, it crashed, it took too long, or no process can be had.
        SlideError: it refuses the file.
    """

    def __init__(self, plugin: str, path: Path) -> None:
        self._interrupted = False
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
            self._process = start_module("pipeline.slides.worker", self._errors)
        except OSError as error:
            raise PluginError(f"no process can be started: {error.strerror}") from error
        try:
            answer = self._ask({"plugin": plugin, "path": os.path.abspath(path)}, OPEN_S)
            if answer.get("isolate") is False:
                raise InProcess
            self.is_opened = answer.get("opens") is not False
            if self.is_opened:
                opened = _checked(answer)
                self.name, self.timeout_s = opened.name, opened.timeout_s
                self.said = Described.read(opened.said)
        except BaseException:
            self.end()
            raise

    def read(self, level: int, region: Rect, shrink: int) -> NDArray[np.uint8]:
        """Pixels of one level; see `Reader.read`.

        Raises:
            ReadError: the region can't be read.
            SlideError: the plug-in says that the slide can't.
            PluginError: it crashed, took too long, or gave what are no pixels.
        """
        asked = {
            "level": level,
            "region": [region.x, region.y, region.width, region.height],
            "shrink": shrink,
        }
        pixels = np.empty((region.height, region.width, 3), np.uint8)
        self._ask(asked, self.timeout_s, pixels)
        return pixels

    def end(self) -> None:
        """Ends the process, and waits for that; a second time does nothing."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._errors.close()

    def _ask(
        self, asked: dict[str, Any], limit: float, pixels: NDArray[np.uint8] | None = None
    ) -> dict[str, Any]:
        """One question and its answer; the pixels that come with it go into an array."""
        if self._interrupted:
            raise PluginError("was interrupted amid a region; open the slide again")
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(limit, kill)
        timer.daemon = True
        timer.start()
        try:
            answer = self._exchange(asked, pixels)
        except (ValueError, RecursionError) as error:
            raise PluginError(_NONSENSE) from error
        except BaseException:  # Ctrl-C: whoever asks next would get the answer to this question
            self._interrupted = True
            self._process.kill()
            raise
        finally:
            timer.cancel()
        if answer is None and late.is_set():
            raise PluginError(f"took longer than {limit:g} s")
        if answer is None:
            raise CrashError(self._death())
        code = str(answer.get("code", ""))
        code = code if code in REFUSALS else ""
        if "unread" in answer:
            raise ReadError(_line(answer["unread"]), code)
        if "refused" in answer:
            raise SlideError(_line(answer["refused"]), code)
        if "broken" in answer:
            raise PluginError(_line(answer["broken"]))
        return answer

    def _exchange(
        self, asked: dict[str, Any], pixels: NDArray[np.uint8] | None
    ) -> dict[str, Any] | None:
        """The answer; None where the process ended before it had given all of it."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None
        assert out is not None
        try:
            into.write(json.dumps(asked).encode() + b"\n")
            into.flush()
        except OSError:
            return None
        line = out.readline()
        if not line.endswith(b"\n"):
            return None
        answer: dict[str, Any] = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError(answer)
        if pixels is not None and not answer.keys() & _FAILED:
            if answer.get("bytes") != pixels.nbytes:
                raise ValueError(answer)
            if out.readinto(pixels.data.cast("B")) != pixels.nbytes:  # type: ignore[attr-defined]
                return None
        return answer

    def _death(self) -> str:
        """How the process ended, and the last that it wrote."""
        how = tell_end(self._process.wait())
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 4096))
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        shown = "".join(c for c in said[:_MOST_SAID] if c.isprintable())
        return f"its process died: {how}" + (f" ({shown})" if shown else "")


class _Opened(BaseModel):
    """The answer of a process that has opened a slide."""

    name: str = Field(pattern=r"^\S+$")
    timeout_s: float = Field(gt=0, le=LONGEST)
    said: str


def _checked(answer: dict[str, Any]) -> _Opened:
    try:
        return _Opened.model_validate(answer)
    except ValidationError as error:
        raise PluginError(_NONSENSE) from error


def _line(text: object) -> str:
    """What a process says on one line."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())


class IsolatedReader(Reader):
    """A slide that is read by processes, as many as there are cores.

    Args:
        first: has the slide open already.
        plugin: as its entry point has it.
        path: of the slide.
        library: names the reader.
    """

    def __init__(self, first: Worker, plugin: str, path: Path, library: str) -> None:
        self.library = library
        self._said = first.said
        self.header = first.said.header
        self._plugin = plugin
        self._path = path
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._idle.put(first)
        self._all = [first]
        self._lock = threading.Lock()
        self._most = os.cpu_count() or 1
        self._failure: PluginError | None = None
        self._end = weakref.finalize(self, _end, self._all)

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._said.shrinks[level]

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._said.profile

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`.

        Raises:
            ReadError: the plug-in can't read the region.
            WorkerLostError: it crashed, here or at an earlier region.
            SlideError: likewise, it took too long.
        """
        try:
            with self._worker() as worker:
                return worker.read(level, region, shrink)
        except PluginError as error:
            self._failure = self._failure or error
            raise error.of(f"{show(self._path)}: its reader, {self.library}: {error}") from error

    def close(self) -> None:
        """See `Reader.close`."""
        self._failure = self._failure or PluginError("is closed")
        self._end()

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        """A process that nobody else asks; one more where all are busy and cores are left."""
        if self._failure:
            raise type(self._failure)(str(self._failure))
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = self._one_more() or self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)

    def _one_more(self) -> Worker | None:
        with self._lock:
            if len(self._all) >= self._most or self._failure:
                return None
            worker = Worker(self._plugin, self._path)
            self._all.append(worker)
        if not worker.is_opened or worker.said != self._said:
            raise PluginError("opened a second time, it says something else of the slide")
        return worker


def _end(workers: list[Worker]) -> None:
    for worker in workers:
        worker.end()
