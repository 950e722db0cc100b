"""Claims: of several who want a slide one gets it, and a dead one's is taken over by one."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from configs import ConfigError
from pipeline.batch import claims, presence
from pipeline.batch.claims import Board, at_work
from pipeline.batch.lock import Holder, InUseError, Terms
from pipeline.batch.presence import FOLDER, Pace
from pipeline.batch.run_record import SlideRecord

TERMS = Terms(recipe="r", slides="s", options={"--strict": False})
DONE = SlideRecord(path="a.svs", status="failed", attempts=3, error="is torn")

Join = Callable[..., Board]


def make_holder(number: int, terms: Terms = TERMS) -> Holder:
    return Holder(
        host=f"node{number}", pid=1, since="2026", command=("x",), machine=str(number), terms=terms
    )


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """Has another process, of another machine, join those at work."""
    boards: list[Board] = []

    def join(terms: Terms = TERMS, **pace: float) -> Board:
        slow = {"beat_s": 1000.0, "stale_s": 3600.0} | pace
        board = Board(tmp_path, make_holder(len(boards), terms), Pace(**slow))
        boards.append(board)
        board.enter()
        return board

    yield join
    for board in boards:
        board.leave()


def files(out: Path) -> list[str]:
    return sorted(path.name for path in (out / FOLDER).iterdir() if path.is_file())


def test_of_many_who_want_slides_at_once_each_gets_others(join: Join) -> None:
    boards = [join() for _ in range(8)]
    assert [board.first for board in boards] == [True] + [False] * 7
    names = [f"sub/{index}.svs" for index in range(40)]
    together = Barrier(len(boards))

    def take(board: Board) -> list[str]:
        together.wait()
        return [name for name in names if board.claim(name)]

    with ThreadPoolExecutor(len(boards)) as pool:
        got = list(pool.map(take, boards))
    assert sorted(name for part in got for name in part) == sorted(names)


def test_what_became_of_a_slide_stands_in_its_claim_and_nobody_claims_it_again(join: Join) -> None:
    one, two = join(), join()
    assert two.look("a.svs").state == "free"
    assert two.look("a.svs").number == -1
    assert one.claim("a.svs")
    standing = two.look("a.svs")
    assert (standing.state, standing.number) == ("in work", 0)
    assert standing.holder is not None
    assert standing.holder.host == "node0"
    one.end("a.svs", DONE)
    assert not two.claim("a.svs")
    assert not one.claim("a.svs")
    assert two.look("a.svs").state == "done"
    assert two.look("a.svs").record == DONE
    one.leave()
    assert two.look("a.svs").record == DONE


def test_while_it_has_no_company_a_process_leaves_claims_of_what_failed_alone(
    join: Join, tmp_path: Path
) -> None:
    complete = SlideRecord(path="a.svs", status="complete", attempts=1)
    one = join()
    for name, record in (("a.svs", complete), ("b.svs", DONE)):
        assert one.claim(name)
        one.end(name, record)
    two = join()
    assert two.look("a.svs").number == -1
    assert two.look("b.svs").record == DONE
    one.fellows()
    for board, name in ((one, "c.svs"), (two, "d.svs")):
        assert board.claim(name)
        board.end(name, complete)
        assert two.look(name).record == complete


def test_where_results_count_for_nothing_all_claims_stay(tmp_path: Path) -> None:
    complete = SlideRecord(path="a.svs", status="complete", attempts=1)
    with at_work(tmp_path, make_holder(1), anew=True) as one:
        assert one.claim("a.svs")
        one.end("a.svs", complete)
        assert not one.claim("a.svs")


def test_what_is_given_back_or_left_is_taken_over_by_one(join: Join) -> None:
    one, two, three = join(), join(), join()
    assert one.claim("a.svs")
    assert one.claim("b.svs")
    one.release("a.svs")
    standing = two.look("a.svs")
    assert standing.state == "free"
    assert [two.take_over("a.svs", standing), three.take_over("a.svs", standing)] == [True, False]
    assert two.look("b.svs").state == "in work"
    one.leave()
    assert two.look("b.svs").state == "free"
    assert three.take_over("b.svs", two.look("b.svs"))
    assert two.look("b.svs").number == 1
    assert two.is_mine("a.svs")
    assert not two.is_mine("b.svs")


def test_a_claim_that_says_nothing_is_in_work_until_it_is_old(
    join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process was killed, or the disk was full, between its name and its words."""
    now = 0.0
    monkeypatch.setattr(presence, "elapsed", lambda: now)
    one, two = join(beat_s=5, stale_s=100, watch_s=10), join(beat_s=5, stale_s=100, watch_s=10)
    assert one.claim("a.svs")
    (name,) = files(tmp_path)
    named = [
        b'{"by": "%s"}\n' % by for by in (b"\\ud800", b"a\\u0000b", b"../../outside", b"x" * 999)
    ]
    (tmp_path / "outside").write_text(Holder.this(("else",)).model_dump_json())
    for content in (b"", b"{", b"\xff\n", b"[]\n", b'{"by": 1}\n', b"[" * 100_000 + b"\n", *named):
        (tmp_path / FOLDER / name).write_bytes(content)
        standing = two.look("a.svs")
        assert (standing.state, standing.holder) == ("in work", None)
    os.utime(tmp_path / FOLDER / name, (0, 0))
    assert two.look("a.svs").state == "in work"  # seen for the first time
    for _ in range(2):
        now += 5
        standing = two.look("a.svs")
    assert standing.state == "free"
    assert two.take_over("a.svs", standing)


def test_words_that_are_cut_off_say_nothing_yet(join: Join, tmp_path: Path) -> None:
    one, two = join(), join()
    assert one.claim("a.svs")
    (name,) = files(tmp_path)
    with (tmp_path / FOLDER / name).open("ab") as file:
        file.write(b'{"done": {"path": "a.svs"')
    assert two.look("a.svs").state == "in work"


def test_after_a_pause_what_was_taken_over_is_lost_and_the_rest_is_kept(
    join: Join, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 0.0
    monkeypatch.setattr(presence, "elapsed", lambda: now)
    monkeypatch.setattr(claims, "elapsed", lambda: now)
    pace = {"beat_s": 1e6, "stale_s": 100.0, "watch_s": 10.0}
    one, two = join(**pace), join(**pace)
    assert one.claim("a.svs")
    assert one.claim("b.svs")
    before = two.look("b.svs")
    for _ in range(3):
        now += 40
        os.utime(next((tmp_path / FOLDER / "by").glob(one._presence.token)), (0, 0))
        standing = two.look("a.svs")
    assert standing.state == "free"
    assert two.take_over("a.svs", standing)
    assert not one.is_mine("a.svs")
    assert one.is_mine("b.svs")
    # What was found to be one's own can't be taken over by who still believes in the pause.
    assert not two.take_over("b.svs", before)
    one.end("a.svs", DONE)  # has no say in it
    assert two.look("a.svs").state == "in work"
    one.end("b.svs", DONE)
    assert two.look("b.svs").record == DONE


def test_without_a_pause_nothing_is_asked_of_the_share(
    join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = join()
    assert one.claim("a.svs")

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(claims, "create", refuse)
    assert one.is_mine("a.svs")


def test_who_was_taken_for_dead_by_all_joins_again_and_has_lost_what_it_had(
    join: Join, tmp_path: Path
) -> None:
    one = join()
    for name in ("a.svs", "b.svs"):
        assert one.claim(name)
    one.clear()
    one._presence.beat()
    assert not one.is_mine("a.svs")
    assert not one.is_mine("b.svs")
    two = join()
    assert not two.first
    assert two.claim("a.svs")
    assert one.claim("b.svs")
    assert one.is_mine("b.svs")
    assert not two.claim("b.svs")


def test_claims_that_vanish_before_that_is_noticed_do_no_harm(join: Join) -> None:
    one = join()
    one.clear()
    assert one.claim("a.svs")
    assert one.is_mine("a.svs")
    two = join()
    assert not two.claim("a.svs")


def test_who_was_taken_for_dead_by_a_run_of_other_settings_ends(join: Join) -> None:
    one = join()
    assert one.claim("a.svs")
    one.clear()
    join(Terms(recipe="other", slides="s"))
    one._presence.beat()
    with pytest.raises(InUseError, match=r"node1.*other settings or another model.*out-in-use"):
        one.is_mine("a.svs")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recipe": "q"}, r"other settings or another model, .* another precision \(add --pre.*"),
        ({"slides": "t"}, "other slides"),
        ({"options": {"--strict": True}}, r"other options \(--strict\)"),
        ({"options": {}}, r"other options \(--strict\)"),
    ],
)
def test_who_wants_something_else_is_refused_and_told_what(
    changes: dict[str, object], why: str, join: Join, tmp_path: Path
) -> None:
    join()
    with pytest.raises(InUseError, match=f"it has {why}, so that this one can't join it"):
        join(TERMS.model_copy(update=changes))
    assert len(list((tmp_path / FOLDER / "by").iterdir())) == 1


def test_one_that_never_says_who_it_is_refuses(
    join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_UNKNOWN_S", 0.1)
    join()
    (file,) = (tmp_path / FOLDER / "by").iterdir()
    file.write_bytes(b"")
    with pytest.raises(InUseError, match="it does not say who"):
        join()


def test_the_last_to_leave_is_told_and_what_a_killed_run_leaves_is_removed(
    join: Join, tmp_path: Path
) -> None:
    one, two = join(), join()
    assert one.claim("a.svs")
    one.end("a.svs", DONE)
    one.stop_all()
    assert two.stopped
    assert not one.leave()
    assert two.leave()
    assert len(files(tmp_path)) == 2  # as if it had been killed
    three = join()
    assert three.first
    assert not three.stopped
    assert three.claim("a.svs")
    four = join()
    assert not four.first
    assert not four.claim("a.svs")


def test_who_comes_while_others_remove_what_a_killed_run_left_comes_all_the_same(
    join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, turns = presence.make_alike, []

    def removed(folder: Path, model: Path) -> None:
        real(folder, model)
        turns.append(folder.name)
        if len(turns) in (1, 3):
            folder.rmdir()

    monkeypatch.setattr(presence, "make_alike", removed)
    board = join()
    assert board.claim("a.svs")
    assert turns == [".claims", ".claims", "by", ".claims", "by"]


def test_the_last_to_leave_keeps_the_claims_of_who_has_just_come(join: Join) -> None:
    one = join()
    assert one.leave()
    two = join()
    assert two.claim("a.svs")
    one.clear()
    assert two.is_mine("a.svs")
    assert two.look("a.svs").state == "in work"


def test_a_folder_in_which_nothing_can_be_claimed_is_a_wrong_call(tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "create", refuse)
        with (
            pytest.raises(ConfigError, match=r"--out .*: claims can't be written: Permission"),
            at_work(tmp_path, make_holder(1)),
        ):
            pass


def test_one_that_shares_with_nobody_makes_no_files(tmp_path: Path) -> None:
    alone = Holder.this(("cytolibra", "rescore"))
    with at_work(tmp_path, alone) as board:
        assert board.claim("a.svs")
        assert board.is_mine("a.svs")
        board.end("a.svs", DONE)
        assert list(tmp_path.iterdir()) == []


def test_the_time_to_look_at_a_hundred_thousand_slides_does_not_grow_with_their_claims(
    join: Join, tmp_path: Path
) -> None:
    """A slide costs one file, and to look at it two: there is no listing."""
    one = join()
    seen: list[str] = []
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        seen.append(path.name)
        return real(path)

    for index in range(50):
        assert one.claim(f"{index}.svs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", read)
        one.look("25.svs")
    assert len(seen) == 3  # the claim, that there is no later one, and who has it
