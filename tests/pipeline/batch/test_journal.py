import logging
from pathlib import Path

import pytest
from fakes import MODEL

from pipeline.batch import ledger, run_record
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.journal import FOLDER, Journal, journals, load_journal
from pipeline.batch.plan import BatchPlan
from pipeline.batch.run_record import RunRecord, SlideRecord, latest_slides, load_records
from pipeline.errors import SlideError
from pipeline.reports.report import SlideReport


def make_record(slides: dict[str, SlideRecord]) -> RunRecord:
    return RunRecord(
        command=("cytolibra", "screen"),
        shard=None,
        started="2026-01-02T03:04:05.000+00:00",
        software={},
        model=MODEL,
        settings={},
        recipe="r",
        slides=slides,
    )


def write_two(out: Path) -> Path:
    """A journal of two slides, the first of which has ended."""
    running = SlideRecord(path="a", status="running", attempts=2)
    record = make_record({"a": running, "b\n\u2028ü": running})
    journal = Journal(out, "run")
    journal.add(record, "a")
    record.slides["a"] = SlideRecord(path="a", status="failed", attempts=2, error="torn")
    journal.add(record, "a")
    journal.add(record, "b\n\u2028ü")
    (path,) = journals(out, "run")
    return path


def test_the_last_line_of_a_slide_counts(tmp_path: Path) -> None:
    told = load_journal(write_two(tmp_path))
    assert told is not None
    assert told.recipe == "r"
    assert {n: (s.status, s.attempts) for n, s in told.slides.items()} == {
        "a": ("failed", 2),
        "b\n\u2028ü": ("running", 2),
    }


def test_of_a_journal_cut_anywhere_no_more_than_the_cut_line_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_two(tmp_path)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    assert len(ends) == 4
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        caplog.clear()
        told = load_journal(path)
        lines = sum(end <= cut for end in ends)
        statuses = [] if told is None else [s.status for s in told.slides.values()]
        expected = {0: [], 1: [], 2: ["running"], 3: ["failed"]}
        assert statuses == expected[lines]
        assert (told is None) == (lines == 0)
        assert bool(caplog.records) == (cut not in ends)


@pytest.mark.parametrize(
    "line", [b"[]", b"7", b'{"name": 7, "slide": {}}', b'{"name": "x"}', b"\xff", b"[" * 99999]
)
def test_a_damaged_line_is_told_and_left_out(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_two(tmp_path)
    head, *rest = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([head, line, *rest]))
    told = load_journal(path)
    assert told is not None
    assert set(told.slides) == {"a", "b\n\u2028ü"}
    assert "1 line(s)" in caplog.text


def test_a_journal_counts_as_a_record_beside_run_json(tmp_path: Path) -> None:
    run_record.save_record(make_record({"a": SlideRecord(path="a", attempts=1)}), tmp_path)
    write_two(tmp_path)
    assert latest_slides(load_records(tmp_path))["a"].attempts == 2


class Deaf:
    def batch_started(self, slides: int) -> None: ...
    def slide_started(self, job: object) -> None: ...
    def slide_ended(self, job: object, record: object, report: object) -> None: ...


def test_whole_records_are_written_a_bounded_number_of_times_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that is killed before the first whole record: the journal alone counts attempts."""
    caplog.set_level(logging.WARNING)
    slides, out = tmp_path / "slides", tmp_path / "out"
    slides.mkdir()
    for index in range(100):
        (slides / f"{index:02}.svs").write_bytes(b"x")
    monkeypatch.setattr(ledger, "_SAVE_COST", 1e9)
    monkeypatch.setattr(ledger, "_SAVED_OF_N", 10)  # whole every ten changes
    saves: list[int] = []
    real = ledger.save_record

    class KilledError(BaseException):
        """Nothing may be tidied up, as with kill -9."""

    def save(record: RunRecord, folder: Path) -> None:
        saves.append(sum(s.status == "failed" for s in record.slides.values()))
        real(record, folder)

    def screen(path: Path) -> SlideReport:
        raise SlideError("unreadable")

    monkeypatch.setattr(ledger, "save_record", save)
    jobs = discover([slides], out, with_images=False).jobs
    plan = BatchPlan(out=out, model=MODEL, settings={})

    def die(self: object, job: object, record: object, report: object) -> None:
        if getattr(job, "name", "") == "32.svs":
            raise KilledError

    with monkeypatch.context() as dying:
        dying.setattr(Deaf, "slide_ended", die)
        with pytest.raises(KilledError):
            screen_batch(jobs, LocalEngine(screen, slots=1), plan, Deaf())
    assert len(saves) == 1 + 2 * 33 // 10
    assert saves[-1] < 33  # how the last ones ended stands in the journal alone
    known = latest_slides(load_records(out))
    assert known["32.svs"].attempts == 1
    assert known["32.svs"].status == "failed"
    saves.clear()
    screen_batch(jobs, LocalEngine(screen, slots=1), plan, Deaf())
    assert len(saves) == 2 + 2 * 100 // 10
    told = latest_slides(load_records(out))
    assert [told[f"{n:02}.svs"].attempts for n in (0, 32, 99)] == [2, 2, 1]
    assert not (out / FOLDER).exists()
