"""``cytolibra screen --metrics``: how a run goes, as a file for Prometheus.

What is told is of this process: counters begin at zero with it, and stay in the file when it has
ended. Names of slides are no labels, so that there are as many series for a million slides as for
ten. All have the label ``batch``, the file's name without its ending: node_exporter refuses two
files of one folder that give the same series.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from configs import ConfigError, CytoLibraError
from configs.doubts import split_code
from pipeline.batch.discovery import SlideJob
from pipeline.batch.exposition import Family, Sample, expose, histogram
from pipeline.batch.run_record import SlideRecord
from pipeline.reports.report import encodable, software_versions
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.writers import write_whole
from pipeline.slides.readers.base import show

EVERY_S = 15.0
"""Seconds after which the file is written at the latest, so that its age tells whether a run
lives."""

_PAUSE_S = 1.0
"""Seconds between two writings at least: thousands of slides that are done before end at once."""

BOUNDS_S: tuple[float, ...] = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
"""Of the histogram of seconds a slide."""

SUFFIX = ".prom"
"""That node_exporter looks for."""

_REFUSED = 2
"""Exit code of a call that is wrong."""

_MM2 = 1e-6
"""Square metres."""

_OUTCOMES = ("screened", "rescored", "reused", "failed", "elsewhere")


class RunMetrics:
    """How a run goes, in numbers; a `pipeline.batch.plan.Listener`, called from any thread."""

    def __init__(self, batch: str) -> None:
        """Nothing has happened yet.

        Args:
            batch: its name, a label of all samples.
        """
        self.changed = threading.Event()
        """Set with each slide that begins or ends."""
        self._labels = {"batch": batch}
        self._lock = threading.Lock()
        self._started = time.time()
        self._clock = time.monotonic()
        self._ended: tuple[float, float] | None = None
        self._exit_code: int | None = None
        self._model = ""
        self._slides = 0
        self._running: set[str] = set()
        self._tiles_of: dict[Path, int] = {}
        self._outcomes = Counter[str]()
        self._failed_elsewhere = 0
        self._complete: float | None = None
        self._failures = Counter[str]()
        self._warnings = Counter[str]()
        self._cells = Counter[str]()
        self._abnormal = 0
        self._tiles = 0
        self._mm2 = 0.0
        self._below = dict.fromkeys(BOUNDS_S, 0)
        self._seconds = 0.0

    def describe(self, model: str) -> None:
        """Says which model screens."""
        with self._lock:
            self._model = model

    def batch_started(self, slides: int) -> None:
        """See `pipeline.batch.plan.Listener`."""
        with self._lock:
            self._slides = slides

    def slide_started(self, job: SlideJob) -> None:
        """See `pipeline.batch.plan.Listener`."""
        with self._lock:
            self._running.add(job.name)
            self._tiles_of[job.path] = 0
        self.changed.set()

    def tiles_done(self, slide: Path, done: int, tiles: int) -> None:
        """So many tiles of a slide have been screened; of slides that have ended it is too late."""
        with self._lock:
            if slide in self._tiles_of:
                self._tiles += max(0, done - self._tiles_of[slide])
                self._tiles_of[slide] = done

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: SlideSummary | None) -> None:
        """See `pipeline.batch.plan.Listener`."""
        with self._lock:
            self._running.discard(job.name)
            self._tiles_of.pop(job.path, None)
            outcome = _outcome(record)
            self._outcomes[outcome] += 1
            if report is None:
                self._failures[split_code(record.error or "")[1] or "other"] += 1
            elif outcome != "reused":
                self._complete = time.time()
                self._warnings.update(report.codes)
            if report is not None and outcome == "screened":
                self._add(record, report)
        self.changed.set()

    def slide_ended_elsewhere(
        self, job: SlideJob, record: SlideRecord, report: SlideSummary | None
    ) -> None:
        """See `pipeline.batch.plan.Listener`; of what was found its own process tells."""
        with self._lock:
            self._running.discard(job.name)  # where it was taken over from this one
            self._tiles_of.pop(job.path, None)
            self._outcomes["elsewhere"] += 1
            self._failed_elsewhere += record.status == "failed"
        self.changed.set()

    def joined(self, whom: str) -> None:
        """See `pipeline.batch.plan.Listener`."""

    def waiting(self, slides: int, whom: str) -> None:
        """See `pipeline.batch.plan.Listener`."""

    def _add(self, record: SlideRecord, report: SlideSummary) -> None:
        """Counts what was seen of a slide that was screened just now."""
        self._mm2 += report.screened_mm2
        self._cells.update(dict(zip(report.common.names, report.counts, strict=True)))
        self._abnormal += report.abnormal_cells
        seconds = record.seconds or 0.0
        self._seconds += seconds
        for bound in BOUNDS_S:
            self._below[bound] += seconds <= bound

    @property
    def ended(self) -> bool:
        """Whether the run has."""
        return self._ended is not None

    def end(self, exit_code: int | None) -> None:
        """The run has ended; None where it has no exit code."""
        with self._lock:
            self._ended = (time.time(), time.monotonic())
            self._exit_code = exit_code
            self._running.clear()

    def text(self) -> str:
        """All of it in Prometheus's text format."""
        with self._lock:
            return expose([*self._of_the_run(), *self._of_slides(), *self._of_work()], self._labels)

    def _of_the_run(self) -> Iterator[Family]:
        version = software_versions().get("cytolibra", "")
        info = {"version": version, "model": self._model}
        yield _gauge("build_info", "Version of cytolibra and name of the model.", 1, info)
        yield _gauge("run_active", "1 while the run goes on, 0 when it has ended.", not self._ended)
        yield _gauge("run_start_timestamp_seconds", "When the run began.", self._started)
        if self._ended:
            yield _gauge("run_end_timestamp_seconds", "When the run ended.", self._ended[0])
        if self._exit_code is not None:
            about = "The command's: 0 all done, 1 some failed, 2 refused, 130 interrupted."
            yield _gauge("run_exit_code", about, self._exit_code)

    def _of_slides(self) -> Iterator[Family]:
        outcomes = {one: self._outcomes[one] for one in _OUTCOMES}
        failed, running = outcomes["failed"] + self._failed_elsewhere, len(self._running)
        ended = sum(outcomes.values())
        states = {
            "pending": max(0, self._slides - ended - running),
            "running": running,
            "complete": ended - failed,
            "failed": failed,
        }
        about = "Slides of the batch, by state; those that others have in work are pending."
        yield _labelled("slides", "gauge", about, "state", states)
        about = "Slides that have ended: screened now, reported anew of what was found before "
        about += "(rescored), done before (reused), failed, or done by other processes (elsewhere)."
        yield _labelled("slides_ended_total", "counter", about, "outcome", outcomes)
        about = "Slides that failed, by the code of the refusal; other for damage of no known kind."
        yield _labelled("slide_failures_total", "counter", about, "code", self._failures)
        about = "Slides of which new reports have a warning, by its code."
        yield _labelled("slide_warnings_total", "counter", about, "code", self._warnings)
        if self._complete is not None:
            about = "When a slide was last screened or rescored."
            yield _gauge("last_success_timestamp_seconds", about, self._complete)
        spent = (self._ended[1] if self._ended else time.monotonic()) - self._clock
        done_here = outcomes["screened"] + outcomes["rescored"] + outcomes["failed"]
        rate = done_here / spent if spent > 0 else 0.0
        about = "Slides screened, rescored or failed a second since the run began."
        yield _gauge("slides_per_second", about, rate)
        left = states["pending"] + running
        if rate and not self._ended and not outcomes["elsewhere"]:  # whose rate nobody knows here
            about = "Until all slides have ended, at that rate; none where others share the slides."
            yield _gauge("remaining_seconds", about, left / rate)

    def _of_work(self) -> Iterator[Family]:
        about = "Tiles that the network has seen, as far as it tells while it works."
        yield _counter("tiles_total", about, self._tiles)
        about = "Area of slides that were screened."
        yield _counter("screened_area_square_meters_total", about, self._mm2 * _MM2)
        about = "Cells reported on slides that were screened, by class of the model."
        yield _labelled("cells_total", "counter", about, "class", self._cells)
        about = "Those of abnormal classes."
        yield _counter("abnormal_cells_total", about, self._abnormal)
        about = "Time that a slide took which was screened, from opening it to its report."
        count = self._outcomes["screened"]
        samples = histogram(self._below, count, self._seconds, {})
        yield Family(f"{_PREFIX}slide_duration_seconds", "histogram", about, samples)


_PREFIX = "cytolibra_"


def _gauge(name: str, about: str, value: float, labels: Mapping[str, str] | None = None) -> Family:
    return Family(_PREFIX + name, "gauge", about, [Sample(value, labels or {})])


def _counter(name: str, about: str, value: float) -> Family:
    return Family(_PREFIX + name, "counter", about, [Sample(value)])


def _labelled(
    name: str, kind: Literal["counter", "gauge"], about: str, label: str, values: Mapping[str, int]
) -> Family:
    samples = [Sample(value, {label: key}) for key, value in sorted(values.items())]
    return Family(_PREFIX + name, kind, about, samples)


def _outcome(record: SlideRecord) -> str:
    if record.status == "failed":
        return "failed"
    return "reused" if record.reused else "rescored" if record.rescored else "screened"


@contextmanager
def metrics_file(
    path: Path, tell: Callable[[str], None], every: float = EVERY_S
) -> Iterator[RunMetrics]:
    """Keeps a file of a run's metrics up to date, by a thread, for as long as it lasts.

    Args:
        path: of the file, which is replaced as a whole each time; its name ends with ``.prom``.
        tell: is told in one sentence what goes wrong later, each kind once, from another thread.
        every: seconds after which it is written at the latest.

    Raises:
        ConfigError: it can't be written, or would be read by nobody.
    """
    if path.suffix != SUFFIX or not path.stem:
        raise ConfigError(
            f"--metrics {show(path)}: node_exporter reads files alone whose names end with "
            f"{SUFFIX}; name it such as {show(path.with_suffix(SUFFIX))}"
        )
    metrics = RunMetrics(encodable(path.stem))
    try:
        writer = _Writer(path, metrics, tell)
        writer.write()
    except OSError as error:
        problem = error.strerror or str(error)
        raise ConfigError(f"--metrics {show(path)}: can't be written: {problem}") from error
    stop = threading.Event()
    thread = threading.Thread(target=_keep, args=(writer, stop, every), name="metrics", daemon=True)
    thread.start()
    try:
        yield metrics
    except CytoLibraError:
        metrics.end(_REFUSED)
        raise
    finally:
        stop.set()
        metrics.changed.set()
        thread.join()
        if not metrics.ended:  # by what nobody foresaw
            metrics.end(None)
        writer.try_to_write()


def _keep(writer: _Writer, stop: threading.Event, every: float) -> None:
    changed = writer.metrics.changed
    while not stop.wait(_PAUSE_S):
        changed.wait(every)
        changed.clear()
        writer.try_to_write()


class _Writer:
    """Writes the file, and tells once what hinders it."""

    def __init__(self, path: Path, metrics: RunMetrics, tell: Callable[[str], None]) -> None:
        self.metrics = metrics
        self._path, self._tell = path, tell
        self._last: bytes | None = None
        self._told: set[str] = set()

    def write(self) -> None:
        """Writes it.

        Raises:
            OSError: it can't be written.
        """
        text = self.metrics.text()
        write_whole(self._path, text)
        self._last = text.encode()

    def try_to_write(self) -> None:
        """Writes it, and tells of what goes wrong."""
        try:
            if self._is_anothers():
                self._tell_once("is written by another run, too; give each run a FILE of its own")
            self.write()
        except OSError as error:
            self._tell_once(
                f"can't be written: {error.strerror or error}; the run goes on without it, as long "
                "as that is so"
            )

    def _is_anothers(self) -> bool:
        """Whether what lies there is not what was written last; that it is gone is no matter."""
        try:
            return self._path.read_bytes() != self._last
        except FileNotFoundError:
            return False

    def _tell_once(self, problem: str) -> None:
        if problem not in self._told:
            self._told.add(problem)
            self._tell(f"--metrics {show(self._path)}: {problem}")
