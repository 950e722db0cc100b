"""One of several processes keeps the record, and it tells what all have done."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import MODEL

from pipeline.batch.claims import Board
from pipeline.batch.journal import journals
from pipeline.batch.ledger import Ledger
from pipeline.batch.lock import Holder, Terms
from pipeline.batch.presence import Pace
from pipeline.batch.run_record import RunRecord, SlideRecord, load_record

SLOW = Pace(beat_s=1000, stale_s=3600)
TERMS = Terms(recipe="r", slides="s")

Join = Callable[[], tuple[Ledger, Board]]


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """Has another process join the run, with a record of its own."""
    boards: list[Board] = []

    def join() -> tuple[Ledger, Board]:
        number = len(boards)
        holder = Holder(
            host=f"node{number}", pid=1, since="2026", command=(), machine=str(number), terms=TERMS
        )
        board = Board(tmp_path, holder, SLOW)
        boards.append(board)
        board.enter()
        record = RunRecord(
            command=("cytolibra", "screen"),
            shard=None,
            started=f"2026-01-0{number + 1}T00:00:00.000+00:00",
            software={},
            model=MODEL,
            settings={},
            recipe="r",
            slides={name: SlideRecord(path=name) for name in ("a", "b", "c")},
        )
        ledger = Ledger(record, tmp_path, board)
        ledger.begin()
        return ledger, board

    yield join
    for board in boards:
        board.leave()


def fail(ledger: Ledger, name: str, attempts: int = 1) -> None:
    ledger.note(
        name,
        status="failed",
        attempts=attempts,
        error=f"{name}: is torn",
        ended="2026-01-03T00:00:00.000+00:00",
    )
    ledger.keep(name)


def written(out: Path) -> dict[str, str]:
    record = load_record(out / "run.json")
    assert record is not None
    return {name: slide.status for name, slide in record.slides.items()}


def test_who_does_not_keep_the_record_writes_a_journal_and_who_does_takes_it_in(
    join: Join, tmp_path: Path
) -> None:
    one, board = join()
    two, _ = join()
    assert (one.kept_here, two.kept_here) == (True, False)
    fail(two, "b")
    assert written(tmp_path) == dict.fromkeys("abc", "pending")
    assert not two.save()
    board.fellows()  # as it does each few seconds
    fail(one, "a")
    assert written(tmp_path) == {"a": "failed", "b": "failed", "c": "pending"}
    two.take_in()
    assert two.record.slides["a"].error == "a: is torn"


def test_the_record_is_kept_by_another_once_who_did_has_left(join: Join, tmp_path: Path) -> None:
    one, board = join()
    two, other = join()
    board.fellows()
    fail(two, "b", attempts=4)
    fail(one, "a")
    assert board.leave() is False
    fail(two, "c")
    assert two.kept_here
    assert written(tmp_path) == dict.fromkeys("abc", "failed")
    assert two.record.slides["b"].attempts == 4
    assert two.record.started == "2026-01-01T00:00:00.000+00:00"  # it is one run
    left = two.journals()
    assert other.leave()
    two.clear(left)
    assert journals(tmp_path) == []


def test_what_others_have_made_is_not_told_as_having_been_there(join: Join) -> None:
    one, board = join()
    two, _ = join()
    board.fellows()
    done = "2026-01-03T00:00:00.000+00:00"
    one.note("a", status="complete", rescored=True, ended=done)
    one.keep("a")
    two.note("a", status="complete", reused=True, ended="2026-01-04T00:00:00.000+00:00")
    two.note("b", status="complete", reused=True, ended="2026-01-04T00:00:00.000+00:00")
    two.take_in()
    assert two.record.slides["a"].rescored
    assert not two.record.slides["a"].reused
    assert two.record.slides["b"].reused


def test_journals_of_other_settings_count_for_nothing(join: Join, tmp_path: Path) -> None:
    one, board = join()
    two, _ = join()
    two.record = two.record.model_copy(update={"recipe": "other"})
    fail(two, "b")
    board.fellows()
    one.take_in()
    assert one.record.slides["b"].status == "pending"
