"""Who watches the process that works: signals go through, and a death is no end."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
LONG_S = 60

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nobody watches elsewhere")

BEGINNING = """
import os, signal, sys, time
from scripts import supervision
from scripts.supervision import resumption, supervise
{before}
supervise()
me = resumption()
print(len(me.deaths), flush=True)
{then}
"""


@contextmanager
def watched(then: str, before: str = "") -> Iterator["subprocess.Popen[str]"]:
    """A process that is watched, in a group of its own; with who watches it at first."""
    script = BEGINNING.format(before=textwrap.dedent(before), then=textwrap.dedent(then))
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def played(then: str, before: str = "") -> tuple[int, list[str], str]:
    """Exit code, lines and errors of one that ends by itself."""
    with watched(then, before) as process:
        out, errors = process.communicate(timeout=LONG_S)
    return process.returncode, out.splitlines(), errors


def test_what_ends_by_itself_ends_as_if_nobody_watched() -> None:
    assert played("sys.exit(3)") == (3, ["0"], "")


def test_a_crash_has_another_process_go_on_that_knows_of_it() -> None:
    code, lines, errors = played("""
        if not me.deaths:
            assert me.since is None and not me.doubts
            me.note(chosen=["a"])
            me.allow()
            os.abort()
        print(me.deaths, me.noted["chosen"], me.since, me.isolates)
        print(*(doubt.code for doubt in me.doubts))
        sys.exit(1)
        """)
    assert code == 1, errors
    assert lines[:2] == ["0", "1"]
    assert lines[2].startswith("('it aborted itself',) ['a'] 2")
    assert lines[2].endswith("+00:00 False")
    assert lines[3] == "resumed"
    assert errors == (
        "warning: the process that screens died: it aborted itself; another one goes on, and each "
        "slide that was in work has a process of its own\n"
    )


def test_the_fourth_death_is_the_end_and_before_it_all_slides_are_apart() -> None:
    code, lines, errors = played("""
        print(me.isolates, flush=True)
        me.allow()
        os.kill(os.getpid(), signal.SIGSEGV)
        """)
    assert code == -signal.SIGSEGV
    assert lines == ["0", "False", "1", "False", "2", "False", "3", "True"]
    assert errors.count("warning: ") == 3
    assert "every slide has a process of its own" in errors.splitlines()[2]
    assert errors.splitlines()[3] == "error: the process died: segmentation fault"


def test_a_crash_before_a_batch_begins_is_the_end() -> None:
    code, lines, errors = played("os.abort()")
    assert (code, lines) == (-signal.SIGABRT, ["0"])
    assert errors == "error: the process died: it aborted itself\n"


@pytest.mark.parametrize(
    ("kills", "code", "lines"), [("0", -signal.SIGKILL, ["0"]), ("1", 5, ["0", "1"])]
)
def test_a_kill_is_the_end_unless_memory_was_short(kills: str, code: int, lines: list[str]) -> None:
    """The system counts how often it has killed for want of memory; the marker stands for that."""
    before = f"""
        import tempfile
        marker = tempfile.mkdtemp()
        supervision._kills_of_system = lambda: {kills} * (not os.path.exists(marker))
        """
    then = """
        if me.deaths:
            sys.exit(5)
        me.allow()
        os.rmdir(marker)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    assert played(then, before)[:2] == (code, lines)


HEARS = """
heard = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: heard.append(number))
print("ready", flush=True)
while not heard:
    time.sleep(0.01)
time.sleep(0.2)  # in which a second one would come
sys.exit(10 + len(heard) if heard == [wanted] else 1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_sent_is_passed_on_once(number: signal.Signals) -> None:
    with watched(f"wanted = {int(number)}\n{HEARS}") as process:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == ["0\n", "ready\n"]
        process.send_signal(number)
        assert process.wait(LONG_S) == 11


def test_an_end_by_a_signal_shows_as_one() -> None:
    with watched("signal.pause()") as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.wait(LONG_S) == -signal.SIGHUP


def test_who_is_killed_takes_the_other_one_along() -> None:
    with watched("print(os.getpid(), flush=True)\ntime.sleep(600)") as process:
        assert process.stdout
        process.stdout.readline()
        assert int(process.stdout.readline()) != process.pid
        process.kill()
        assert process.stdout.read() == ""  # its end is closed: nobody is left who could write
