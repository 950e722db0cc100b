import json
import logging
import os
import platform
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from configs import ConfigError
from pipeline.batch.run_log import log_name, run_log
from pipeline.batch.run_record import Shard

LOG = logging.getLogger("pipeline.batch.batch")


@contextmanager
def heard_alone(path: Path) -> Iterator[None]:
    """A log of JSON lines that nobody else hears.

    What pytest hears pytest-xdist's workers send home, which has to be UTF-8. It hears loggers that
    don't propagate as its phases begin, so that a fixture would come too early.
    """
    with pytest.MonkeyPatch.context() as patch, run_log(path, "json"):
        patch.setattr(logging.getLogger("pipeline"), "propagate", False)
        yield


def told(path: Path) -> list[dict[str, object]]:
    """The objects of a log; strict JSON, one a line."""

    def refuse(name: str) -> float:
        raise AssertionError(f"no JSON: {name}")

    text = path.read_bytes().decode("ascii")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.split("\n")[:-1]]


def test_logs_are_named_by_shard_format_and_process() -> None:
    assert log_name(None) == "run.log"
    assert log_name(Shard(index=2, count=5), "json") == "run.shard-2-of-5.log.jsonl"
    assert log_name(None, "json", "node7-812") == "run.node7-812.log.jsonl"


def test_a_record_is_one_line_of_json_whatever_stands_in_names(tmp_path: Path) -> None:
    path = tmp_path / "run.log.jsonl"
    name = 'a\n"}\x00\u2028\udcff=1<b>\x1b[31m.svs'
    before = datetime.now(UTC)
    with heard_alone(path):
        LOG.warning("%s: odd", name, extra={"slide": name, "attempt": 2, "code": "mpp-missing"})
        LOG.info("complete")
    first, second = told(path)
    shown = name.replace("\udcff", "\\udcff")
    assert first.pop("message") == f"{shown}: odd"
    assert before <= datetime.fromisoformat(str(first.pop("time"))).replace(microsecond=999999)
    assert first == {
        "level": "WARNING",
        "host": platform.node(),
        "pid": os.getpid(),
        "slide": shown,
        "attempt": 2,
        "code": "mpp-missing",
    }
    assert second.keys() == {"time", "level", "message", "host", "pid"}


def test_what_was_not_foreseen_is_told_with_its_traceback_as_text(tmp_path: Path) -> None:
    path = tmp_path / "run.log.jsonl"
    with heard_alone(path):
        LOG.error("a.svs: unexpected error", exc_info=ValueError("3 \udcff"))
    (one,) = told(path)
    assert one["message"] == "a.svs: unexpected error"
    assert str(one["traceback"]).splitlines()[-1] == "ValueError: 3 \\udcff"


def test_a_line_that_was_cut_off_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    path = tmp_path / "run.log.jsonl"
    path.write_text('{"time": "2026-')
    with heard_alone(path):
        LOG.info("started")
    torn, line = path.read_text().splitlines()
    assert torn == '{"time": "2026-'
    assert json.loads(line)["message"] == "started"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_full_disk_ends_nothing_and_says_nothing_on_the_terminal(
    form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with run_log(Path("/dev/full"), form):
        LOG.error("lost")
    assert capfd.readouterr() == ("", "")


def test_a_log_that_cant_be_opened_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"run\.log: can't be written"),
        run_log(tmp_path / "no" / "run.log"),
    ):
        pass


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "run.log.jsonl"
    code = textwrap.dedent(f"""
        import logging, pathlib
        from pipeline.batch.run_log import run_log
        with run_log(pathlib.Path({str(path)!r}), "json"):
            for n in range(300):
                logging.getLogger("pipeline").info("x" * 5000, extra={{"attempt": n}})
    """)
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [one.wait(60) for one in others] == [0, 0]
    # Who opens it in the midst of another's line may take that for a torn one, and begin anew.
    lines = [json.loads(line) for line in path.read_text("ascii").split("\n") if line]
    for pid in {line["pid"] for line in lines}:
        mine = [line["attempt"] for line in lines if line["pid"] == pid]
        assert mine == list(range(300))
    assert len(lines) == 600
