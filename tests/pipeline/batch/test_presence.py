"""Which processes live: by what they show on the share, never by a machine's clock."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.batch import presence
from pipeline.batch.lock import MACHINE, Holder
from pipeline.batch.presence import FOLDER, Pace, Presence, seen_at_work
from pipeline.batch.shared_files import create, make_alike

PACE = Pace(beat_s=5, stale_s=120, watch_s=15)


class Clock:
    """Seconds that have gone by, as a test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(presence, "elapsed", clock)
    return clock


def make_holder(machine: str = "elsewhere", pid: int = 7) -> Holder:
    return Holder(host="node", pid=pid, since="2026", command=(), machine=machine)


def enter(out: Path, holder: Holder | None = None) -> Presence:
    """A process that has shown once that it lives, and does so no more in a test's time."""
    here = Presence(out, holder or make_holder(), PACE)
    here.enter()
    return here


def file_of(out: Path, one: Presence) -> Path:
    return out / FOLDER / "by" / one.token


def silence(out: Path, one: Presence, seconds: float) -> None:
    """Has a process have shown for the last time so long ago, by the share's clock."""
    then = time.time_ns() - int(seconds * 1e9)
    os.utime(file_of(out, one), ns=(then, then))


def test_one_that_is_silent_by_the_share_s_time_is_dead_once_it_was_watched(
    tmp_path: Path, clock: Clock
) -> None:
    me, other = enter(tmp_path), enter(tmp_path)
    silence(tmp_path, other, 121)
    seen = []
    for _ in range(5):
        seen.append(me.is_dead(other.token))
        clock.now += 5
    assert seen == [False, False, False, True, True]


def test_one_that_was_not_silent_for_long_enough_lives(tmp_path: Path, clock: Clock) -> None:
    me, other = enter(tmp_path), enter(tmp_path)
    silence(tmp_path, other, 100)
    for _ in range(20):
        assert not me.is_dead(other.token)
        clock.now += 5


def test_whatever_times_files_have_one_that_shows_itself_lives(
    tmp_path: Path, clock: Clock
) -> None:
    """A share that takes times from clients, whose clocks are wrong by an hour."""
    me, other = enter(tmp_path), enter(tmp_path)
    for beat in range(40):
        silence(tmp_path, other, 3600 - 5 * beat)
        assert not me.is_dead(other.token)
        clock.now += 5


def test_one_with_a_time_in_the_future_is_dead_once_it_was_watched_for_all_that_time(
    tmp_path: Path, clock: Clock
) -> None:
    me, other = enter(tmp_path), enter(tmp_path)
    silence(tmp_path, other, -3600)
    seen = []
    for _ in range(26):
        seen.append(me.is_dead(other.token))
        clock.now += 5
    assert seen == [False] * 24 + [True] * 2


def test_while_the_one_who_watches_was_paused_itself_nothing_is_held_against_others(
    tmp_path: Path, clock: Clock
) -> None:
    me, other = enter(tmp_path), enter(tmp_path)
    silence(tmp_path, other, 1000)  # the share was away, for both
    assert not me.is_dead(other.token)
    clock.now += 1000
    assert not me.is_dead(other.token)
    silence(tmp_path, other, 0)
    clock.now += 5
    assert not me.is_dead(other.token)


def test_a_process_of_this_machine_that_is_not_found_is_dead_at_once(
    tmp_path: Path, clock: Clock
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    me = enter(tmp_path)
    here = enter(tmp_path, make_holder(MACHINE, ended.pid))
    living = enter(tmp_path, make_holder(MACHINE, os.getpid()))
    elsewhere = enter(tmp_path, make_holder("of the same name", ended.pid))
    assert me.is_dead(here.token)
    assert not me.is_dead(living.token)
    assert not me.is_dead(elsewhere.token)
    assert me.living() == sorted([living.token, elsewhere.token])


def test_who_has_left_or_makes_no_sense(tmp_path: Path, clock: Clock) -> None:
    me, other = enter(tmp_path), enter(tmp_path)
    file_of(tmp_path, other).write_bytes(b"{")
    assert me.holder_of(other.token) is None
    assert me.living() == [other.token]
    other.leave()
    assert me.living() == []
    assert me.is_dead(other.token)
    assert not me.is_dead(me.token)


@pytest.mark.parametrize("name", [".nfs0000000000c4f1e200000012", ".DS_Store", "7-0123456789ab~"])
def test_files_of_others_than_processes_count_for_nothing(name: str, tmp_path: Path) -> None:
    me = enter(tmp_path)
    file_of(tmp_path, me).with_name(name).write_bytes(file_of(tmp_path, me).read_bytes())
    assert me.others() == []
    assert not me.accompanied
    assert len(list(seen_at_work(tmp_path))) == 1


def test_it_shows_itself_again_and_again(tmp_path: Path) -> None:
    quick = Presence(tmp_path, make_holder(), Pace(beat_s=0.01))
    quick.enter()
    silence(tmp_path, quick, 3600)
    until = time.monotonic() + 10
    while time.time() - file_of(tmp_path, quick).stat().st_mtime > 60:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not quick.gone
    file_of(tmp_path, quick).unlink()
    while not quick.gone:
        assert time.monotonic() < until
        time.sleep(0.01)
    quick.leave()


def test_a_pause_is_noticed_however_it_is_looked_for(tmp_path: Path, clock: Clock) -> None:
    me = enter(tmp_path)
    clock.now += 1
    began = clock.now
    clock.now += 59
    assert not me.has_paused(began)
    clock.now += 61  # the thread that shows it has slept as well
    assert me.has_paused(began)
    clock.now += 1
    assert not me.has_paused(clock.now)
    assert me.has_paused(began)


def test_where_the_share_is_away_all_counts_as_a_pause(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    me = enter(tmp_path)
    clock.now += 1
    began = clock.now
    monkeypatch.setattr(os, "utime", refuse)
    clock.now += 61
    assert me.has_paused(began)


def test_who_only_looks_is_told_who_is_silent(tmp_path: Path) -> None:
    me, other = enter(tmp_path), enter(tmp_path, make_holder(pid=8))
    silence(tmp_path, other, 300)
    seen = {one.holder.pid: one for one in seen_at_work(tmp_path, PACE)}
    assert seen[8].stale
    assert 299 < seen[8].silent_s < 330
    assert not seen[7].stale
    silence(tmp_path, me, -3600)  # this machine's clock is an hour late
    seen = {one.holder.pid: one for one in seen_at_work(tmp_path, PACE)}
    assert not seen[7].stale
    assert list(seen_at_work(tmp_path / "none")) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_who_may_write_in_the_folder_may_write_in_those_below(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    make_alike(tmp_path / "below", tmp_path)
    assert (tmp_path / "below").stat().st_mode & 0o7777 == 0o2770
    (tmp_path / "below").chmod(0o700)
    make_alike(tmp_path / "below", tmp_path)  # of somebody who wants it so
    assert (tmp_path / "below").stat().st_mode & 0o7777 == 0o700


def test_a_file_is_made_once_and_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "one", "text")
    with pytest.raises(FileExistsError):
        create(tmp_path / "one", "other")
    assert (tmp_path / "one").read_text() == "text"
    real = os.fdopen

    def full(handle: int, *_: object, **__: object) -> object:
        os.close(handle)
        return real(os.open("/dev/full", os.O_WRONLY), "w")

    monkeypatch.setattr(os, "fdopen", full)
    if Path("/dev/full").exists():
        with pytest.raises(OSError, match="No space"):
            create(tmp_path / "two", "text")
        assert not (tmp_path / "two").exists()
