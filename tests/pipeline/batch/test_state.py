import json
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import MODEL, make_report

from configs import ConfigError
from pipeline.batch import journal as journal_module
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.fingerprint import Fingerprint, save_fingerprint
from pipeline.batch.journal import FOLDER, Journal, journals, read_journal
from pipeline.batch.lock import Holder
from pipeline.batch.plan import BatchPlan
from pipeline.batch.run_record import RunRecord, Shard, SlideRecord, record_name, save_record
from pipeline.batch.state import BatchState, read_state
from pipeline.errors import SlideError
from pipeline.reports import writers
from pipeline.reports.report import SlideReport, encodable
from pipeline.reports.writers import HOST, to_json

BEGAN = "2026-01-02T03:00:00.000+00:00"
NOW = datetime(2026, 1, 2, 4, 0, tzinfo=UTC)


def make_record(slides: dict[str, SlideRecord], **changes: object) -> RunRecord:
    record = RunRecord(
        command=("cytolibra", "screen"),
        shard=None,
        started=BEGAN,
        software={},
        model=MODEL,
        settings={},
        recipe="r",
        slides=slides,
    )
    return record.model_copy(update=changes)


def slide(name: str, status: str, minute: int | None = None, **more: object) -> SlideRecord:
    ended = None if minute is None else f"2026-01-02T03:{minute:02}:00.000+00:00"
    values = {"path": name, "status": status, "ended": ended, "attempts": 1} | more
    return SlideRecord.parse(values)


def write_result(folder: Path, recipe: str) -> None:
    """What an earlier run has left of a slide."""
    folder.mkdir()
    (folder / "report.json").touch()
    save_fingerprint(Fingerprint(recipe=recipe, files=(), sha256=""), folder)


def write_going_on(out: Path) -> Path:
    """A run of this process: two screened, one reused, one failed, one at work, three to come."""
    slides = {
        "a": slide("a", "complete", 10),
        "b": slide("b", "complete", 20),
        "c": slide("c", "complete", 1, reused=True),
        "d": slide("d", "pending", attempts=0),
        "e": slide("e", "pending", attempts=0),
        "f": slide("f", "pending", attempts=0),
        "g": slide("g", "pending", attempts=0),
        "h": slide("h", "pending"),
    }
    record = make_record(slides)
    save_record(record, out)
    journal = Journal(out, "run")
    record.slides["d"] = slide("d", "failed", 30, error="d: is torn")
    journal.add(record, "d")
    record.slides["e"] = slide("e", "running")
    journal.add(record, "e")
    write_result(out / "h", "r")
    (path,) = journals(out)
    return path


def without(state: BatchState) -> list[str]:
    return [name for run in state.runs for name in run.cut_short]


def test_a_run_that_goes_on_is_told_by_its_record_and_its_journal(tmp_path: Path) -> None:
    write_going_on(tmp_path)
    state = read_state(tmp_path, NOW)
    assert set(state.done) == {"a", "b", "c"}
    assert state.failed == ["d"]
    (at_work,) = state.running
    assert at_work.slide == "e"
    assert at_work.sign is not None
    assert (at_work.sign.host, at_work.sign.pid) == (HOST, os.getpid())
    age = datetime.now(UTC) - datetime.fromisoformat(at_work.sign.at)
    assert 0 <= age.total_seconds() < 60
    (run,) = state.runs
    assert run.alive
    assert run.done_before == ("h",)
    # Two screened and one failed in an hour; e, f and g are to come.
    assert state.rate == pytest.approx(3)
    assert state.left_s == pytest.approx(3600)
    (failure,) = state.failures
    assert (failure.reason.text, failure.slides) == ("is torn", ("d",))
    assert not state.doubts


def test_results_of_other_settings_are_not_told_as_done_before(tmp_path: Path) -> None:
    write_going_on(tmp_path)
    write_result(tmp_path / "f", "of another threshold")
    (tmp_path / "g").mkdir()
    (tmp_path / "g/report.json").touch()  # nobody knows of what
    (run,) = read_state(tmp_path, NOW).runs
    assert (run.done_before, run.outdated) == (("h",), ("f", "g"))
    assert run.left_s == pytest.approx(3600)  # e, f and g, at three an hour


def test_no_result_counts_where_all_is_screened_anew(tmp_path: Path) -> None:
    record = make_record({"a": slide("a", "pending"), "b": slide("b", "running")})
    record = record.model_copy(update={"command": ("cytolibra", "screen", "s", "--overwrite")})
    save_record(record, tmp_path)
    write_result(tmp_path / "a", "r")
    (run,) = read_state(tmp_path, NOW).runs
    assert (run.done_before, run.outdated) == ((), ())


def test_a_result_is_found_by_a_name_that_is_no_text(tmp_path: Path) -> None:
    raw = "d \udcff.svs"
    save_record(make_record({encodable(raw): slide("d", "pending")}), tmp_path)
    write_result(tmp_path / raw, "r")
    (run,) = read_state(tmp_path, NOW).runs
    assert run.done_before == (encodable(raw),)


def test_a_slide_whose_process_is_gone_was_cut_short(tmp_path: Path) -> None:
    path = write_going_on(tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1]["pid"] = 2**22 + 1  # above what Linux gives
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = read_state(tmp_path, NOW)
    assert not state.running
    assert without(state) == ["e"]
    assert state.left_s is None
    lines[-1]["host"] = "elsewhere"  # of which nobody can say from here
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [one.slide for one in read_state(tmp_path, NOW).running] == ["e"]


def test_a_number_that_is_used_again_brings_no_process_to_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process has the number of one that ended with the machine's last start."""
    earlier = f"{HOST}.{'0' * 32}"
    monkeypatch.setattr(writers, "MACHINE", f"{HOST}.{'1' * 32}")
    holder = Holder.this([]).model_copy(update={"machine": earlier})
    for shard in (None, Shard(index=1, count=1)):
        out = tmp_path / ("part" if shard else "all")
        out.mkdir()
        record = make_record({"a": slide("a", "running")}, shard=shard)
        save_record(record, out)
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "MACHINE", earlier)
            Journal(out, record_name(shard, "")).add(record, "a")
        word = out / f".{record_name(shard, '.holder.json')}"
        word.write_text(to_json(holder.model_dump(mode="json")))
        state = read_state(out)
        assert without(state) == ["a"]
        assert not state.runs[0].alive
        assert not state.runs[0].holders


@pytest.mark.parametrize("older", [False, True])
def test_a_process_that_is_silent_is_dead_whoever_has_its_number(
    tmp_path: Path, older: bool
) -> None:
    """As of a container, of which the first process always has the same number."""
    path = write_going_on(tmp_path)
    if older:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        told = [{k: v for k, v in line.items() if k != "machine"} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in told))
    shown = tmp_path / f".claims/by/{os.getpid()}-{'0' * 12}"
    shown.parent.mkdir(parents=True)
    shown.write_text(to_json(Holder.this([]).model_dump(mode="json")))
    state = read_state(tmp_path, NOW)
    assert [one.slide for one in state.running] == ["e"]
    assert state.runs[0].alive
    os.utime(shown, (0, 0))
    state = read_state(tmp_path, NOW)
    assert without(state) == ["e"]
    assert not state.runs[0].alive
    assert "it counts as dead" in state.doubts[0]


def test_only_a_start_of_this_machine_is_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "MACHINE", f"{HOST}.{'1' * 32}")
    assert writers.is_earlier_start(f"{HOST}.{'0' * 32}")
    for other in (writers.MACHINE, f"elsewhere.{'0' * 32}", f"{HOST}.0a1b2c3d4e5f", HOST, ""):
        assert not writers.is_earlier_start(other)
    monkeypatch.setattr(writers, "MACHINE", f"{HOST}.0a1b2c3d4e5f")  # an address of the network
    for other in (f"{HOST}.{'0' * 32}", f"{HOST}.0a1b2c3d4e5e"):
        assert not writers.is_earlier_start(other)


def test_a_journal_of_an_older_version_tells_who_not(tmp_path: Path) -> None:
    path = write_going_on(tmp_path)
    head, *lines = path.read_text().splitlines()
    old = [json.dumps({k: json.loads(line)[k] for k in ("name", "slide")}) for line in lines]
    path.write_text("\n".join([head, *old, ""]))
    (at_work,) = read_state(tmp_path, NOW).running
    assert (at_work.slide, at_work.sign) == ("e", None)


def test_a_record_that_is_written_whole_forgets_not_since_when_a_slide_runs(
    tmp_path: Path,
) -> None:
    record = make_record({"a": slide("a", "running"), "b": slide("b", "running")})
    journal = Journal(tmp_path, "run")
    journal.add(record, "a")
    (old,) = journals(tmp_path)
    since = read_journal(old).signs["a"]
    journal.add(record, "b")
    record.slides["b"] = slide("b", "complete", 5)
    time.sleep(0.005)
    journal.renew(record, "b")
    (new,) = journals(tmp_path)
    assert new != old
    told = read_journal(new)
    assert set(told.record.slides) == {"a"}
    assert told.signs["a"] == since
    record.slides["a"] = slide("a", "complete", 6)
    journal.renew(record, "a")
    assert not (tmp_path / FOLDER).exists()


def test_shards_count_together_and_other_settings_not(tmp_path: Path) -> None:
    save_record(make_record({"a": slide("a", "failed", 1, error="a: old")}, recipe="old"), tmp_path)
    for index in (1, 2):
        part = make_record(
            {f"s{index}": slide("s", "complete", 30)},
            shard=Shard(index=index, count=2),
            started=BEGAN.replace("03:00", "03:15"),
            status="complete",
        )
        save_record(part, tmp_path)
    state = read_state(tmp_path, NOW)
    assert sorted(state.done) == ["s1", "s2"]
    assert not state.failed
    assert state.rate == pytest.approx(8)  # each one in a quarter of an hour
    assert state.doubts == (
        "1 record(s) of runs with other settings or another model count no more",
    )


def test_parts_without_a_record_are_told(tmp_path: Path) -> None:
    def leave(index: int, count: int = 8) -> None:
        part = make_record(
            {f"s{index}": slide("s", "complete", 30)}, shard=Shard(index=index, count=count)
        )
        save_record(part, tmp_path)

    leave(3)
    leave(1)
    (doubt,) = read_state(tmp_path, NOW).doubts
    assert doubt == (
        "part(s) 2, 4, 5, 6, 7 and 1 more of 8 have left no record: their slides are not counted"
    )
    leave(1, 2)
    leave(2, 2)  # all parts of another number
    assert read_state(tmp_path, NOW).doubts == ()


def test_failures_are_grouped_by_reason(tmp_path: Path) -> None:
    slides = {
        f"{n}": slide(f"{n}", "failed", 1, error=f"{n}: ends at byte {n}, not {n}00") for n in "12"
    } | {"3": slide("3", "failed", 1, error="3: carries no scale [mpp-missing]")}
    save_record(make_record(slides), tmp_path)
    told = [(f.reason.slides, f.reason.code, f.slides) for f in read_state(tmp_path).failures]
    assert told == [(2, "", ("1", "2")), (1, "mpp-missing", ("3",))]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"[" * 99999, "is damaged"),
        (b'{"schema_version": "2.0"}', "is of version 2.0, and this one knows 1.0"),
        (b"\xff\x00", "is damaged"),
    ],
)
def test_a_record_that_cant_be_read_is_refused_by_name(
    content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.json: " + words):
        read_state(tmp_path)


def test_a_damaged_journal_is_told_and_a_newer_one_refused(tmp_path: Path) -> None:
    path = write_going_on(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    state = read_state(tmp_path, NOW)
    assert not state.running
    assert state.doubts == (f"{path}: 1 line(s) cut off or damaged: left out",)
    path.write_bytes(whole[:9])
    assert read_state(tmp_path, NOW).doubts == (f"{path}: a journal without a head: left out",)
    path.write_bytes(b'{"schema_version": "9"}\n')
    with pytest.raises(ConfigError, match="is of version 9"):
        read_state(tmp_path)


def test_no_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no batch of cytolibra screen"):
        read_state(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        read_state(tmp_path / "none")


class Watcher:
    """Looks at the folder from within a run."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.seen: list[BatchState] = []

    def batch_started(self, slides: int) -> None: ...
    def slide_started(self, job: object) -> None:
        self.seen.append(read_state(self.out))

    def slide_ended(self, job: object, record: object, report: object) -> None: ...


def folder_of_slides(below: Path, names: Iterable[str]) -> Path:
    """A folder of files that look like slides."""
    slides = below / "slides"
    slides.mkdir()
    for name in names:
        (slides / f"{name}.svs").write_bytes(b"x")
    return slides


def screen_some(out: Path, slides: Path, **changes: object) -> list[BatchState]:
    def screen(path: Path) -> SlideReport:
        raise SlideError(f"{path}: unreadable")

    jobs = discover([slides], out, with_images=False).jobs
    plan = BatchPlan(out=out, model=MODEL, settings={}, **changes)  # type: ignore[arg-type]
    watcher = Watcher(out)
    screen_batch(jobs, LocalEngine(screen, slots=1), plan, watcher)
    return watcher.seen


def test_at_every_moment_of_a_run_each_slide_is_told(tmp_path: Path) -> None:
    slides = folder_of_slides(tmp_path, [f"{index:02}" for index in range(30)])
    out = tmp_path / "out"
    seen = screen_some(out, slides)
    assert len(seen) == 30
    for state in seen:
        assert len(state.slides) == 30
        assert state.running
        assert all(one.sign and one.sign.pid == os.getpid() for one in state.running)
    assert [len(state.failed) for state in seen] == sorted(len(state.failed) for state in seen)
    last = read_state(out)
    assert len(last.failed) == 30
    assert not last.runs[0].alive


def test_what_failed_counts_as_failed_until_it_has_been_tried_again(tmp_path: Path) -> None:
    slides, out = folder_of_slides(tmp_path, "abc"), tmp_path / "out"
    screen_some(out, slides)
    for state in screen_some(out, slides):
        running = {one.slide for one in state.running}
        assert running
        assert set(state.failed) == {"a.svs", "b.svs", "c.svs"} - running
    record = RunRecord.model_validate_json((out / "run.json").read_bytes())
    cut = {n: one.changed(status="running") for n, one in record.slides.items() if n == "a.svs"}
    save_record(record.model_copy(update={"slides": record.slides | cut}), out)
    state = read_state(out)
    assert without(state) == ["a.svs"]
    assert state.failed == ["a.svs", "b.svs", "c.svs"]
    assert [failure.slides for failure in state.failures] == [("a.svs", "b.svs", "c.svs")]


def test_a_slide_that_failed_and_is_done_since_has_no_error(tmp_path: Path) -> None:
    slides, out = folder_of_slides(tmp_path, "a"), tmp_path / "out"
    jobs = discover([slides], out, with_images=False).jobs
    plan = BatchPlan(out=out, model=MODEL, settings={})
    engine = LocalEngine(lambda path: make_report(path), slots=1)
    screen_batch(jobs, engine, plan, Watcher(out))
    record = RunRecord.model_validate_json((out / "run.json").read_bytes())
    failed = {"a.svs": record.slides["a.svs"].changed(status="failed", error="a.svs: torn")}
    save_record(record.model_copy(update={"slides": failed}), out)
    screen_batch(jobs, engine, BatchPlan(out=out, model=MODEL, settings={}), Watcher(out))
    told = RunRecord.model_validate_json((out / "run.json").read_bytes()).slides["a.svs"]
    assert (told.status, told.reused, told.error) == ("complete", True, None)


def test_a_plan_for_some_slides_keeps_how_it_went_with_the_others(tmp_path: Path) -> None:
    slides, out = folder_of_slides(tmp_path, "abc"), tmp_path / "out"
    screen_some(out, slides)
    screen_some(out, slides, only=frozenset({"b.svs"}))
    state = read_state(out)
    assert {n: (s.status, s.attempts) for n, s in state.slides.items()} == {
        "a.svs": ("failed", 1),
        "b.svs": ("failed", 2),
        "c.svs": ("failed", 1),
    }
