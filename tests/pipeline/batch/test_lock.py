"""One run at a time in an output folder, or one of each shard, whatever ends them."""

import errno
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import filelock
import pytest

from configs import ConfigError
from pipeline.batch import lock
from pipeline.batch.lock import InUseError, hold
from pipeline.batch.run_record import Shard

REPO = Path(__file__).resolve().parents[3]

CHILD = """
import sys
from pathlib import Path
from pipeline.batch.lock import hold

with hold(Path(sys.argv[1]), command=("cytolibra", "screen", "a night")):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_run(out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the folder until its input ends."""
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", CHILD, str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"held"
        yield child
        child.kill()


def test_a_second_run_is_told_who_is_at_work_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    with another_run(tmp_path) as child:
        with pytest.raises(InUseError) as refusal, hold(tmp_path):
            pass
        told = str(refusal.value)
        assert f"process {child.pid} on {platform.node()}, since 20" in told
        assert "cytolibra screen 'a night'" in told  # as it can be called again
        assert "wait until it has ended, name another --out" in told
        assert told.endswith("[out-in-use]")
        assert refusal.value.exit_code == 2
        child.kill()
        child.wait()
    assert {p.name for p in tmp_path.iterdir()} == {".run.lock", ".run.holder.json"}
    with hold(tmp_path) as doubts:  # what it left behind stands for nothing
        assert doubts == ()
        holder = json.loads((tmp_path / ".run.holder.json").read_text())
        assert holder["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


PARTS = {name: Shard.parse(name) for name in ("1/3", "2/3", "1/2")} | {"all": None}


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("1/3", "2/3", True),
        ("1/3", "1/3", False),
        ("1/3", "all", False),
        ("all", "1/3", False),
        ("all", "all", False),
        ("1/3", "1/2", False),  # they share slides
    ],
)
def test_shards_of_one_count_share_a_folder_and_nothing_else_does(
    first: str, second: str, together: bool, tmp_path: Path
) -> None:
    with hold(tmp_path, PARTS[first], ("the", "first")):
        with ExitStack() as later:
            if together:
                later.enter_context(hold(tmp_path, PARTS[second]))
            else:
                with pytest.raises(InUseError, match="the first"):
                    later.enter_context(hold(tmp_path, PARTS[second]))
        with pytest.raises(InUseError, match="the first"):  # the second took nothing along
            later.enter_context(hold(tmp_path, PARTS[first]))
    with hold(tmp_path, PARTS[second]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with hold(tmp_path / "link"), pytest.raises(InUseError), hold(tmp_path / "real"):
        pass


@pytest.mark.parametrize("word", [b"", b"{", b'{"host": 1}', b"\xff", None])
def test_a_word_that_says_nothing_still_refuses(word: bytes | None, tmp_path: Path) -> None:
    with hold(tmp_path):
        if word is None:
            (tmp_path / ".run.holder.json").unlink()
        else:
            (tmp_path / ".run.holder.json").write_bytes(word)
        with pytest.raises(InUseError, match="it does not say who"), hold(tmp_path):
            pass


def test_a_word_of_a_stranger_cannot_move_the_cursor(tmp_path: Path) -> None:
    with hold(tmp_path, None, ["cytolibra", "\x1b[2J", "two\nlines", "bytes\udcff"]):
        with pytest.raises(InUseError) as refusal, hold(tmp_path):
            pass
        assert str(refusal.value).isprintable()
        assert r"cytolibra '?[2J' 'two?lines' 'bytes\udcff'" in str(refusal.value)


def test_a_command_of_thousands_of_slides_is_cut(tmp_path: Path) -> None:
    with hold(tmp_path, None, ["cytolibra", "screen", *map(str, range(5000))]):
        with pytest.raises(InUseError) as refusal, hold(tmp_path):
            pass
        assert "cytolibra screen 0 1 2" in str(refusal.value)
        assert len(str(refusal.value)) < 700 + len(str(tmp_path))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_goes_on_and_says_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock._native._unix.lock_fd_nonblocking", refuse)
    if filelock.FileLock is not filelock.UnixFileLock:
        pytest.skip("locks are made otherwise here")
    with hold(tmp_path) as doubts:
        assert [doubt.code for doubt in doubts] == ["no-lock"]
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), hold(tmp_path):  # what fails inside comes out as it is
        raise ZeroDivisionError


def test_a_lock_that_cannot_be_made_is_a_wrong_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with (
        pytest.raises(ConfigError, match=r"--out .*: can't be locked: No space left"),
        hold(tmp_path),
    ):
        pass


def test_without_room_for_the_word_the_lock_still_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock, "write_whole", refuse)
    with hold(tmp_path), pytest.raises(InUseError, match="it does not say who"), hold(tmp_path):
        pass
