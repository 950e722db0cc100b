"""Results take their places whole, though others write and read there at the same time."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.batch import output
from pipeline.batch.exchange import exchange
from pipeline.batch.output import publish

REPO = Path(__file__).resolve().parents[3]

TOGETHER, PUBLISHES = 2, 100

WRITER = """
import sys, time
from pathlib import Path
from pipeline.batch import output

out, number, publishes, way = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
if way == "two renames":
    output.exchange = lambda *_: False

def write(folder):
    for name in "abc":
        (folder / name).write_text(number)

(out / f"ready-{number}").touch()
while not (out / "go").exists():
    time.sleep(0.001)
for _ in range(publishes):
    output.publish(out, "sub/slide.svs", write)
"""


def result(place: Path) -> set[str] | None:
    """What the files of a result say; None where it is missing.

    Of one folder: where another has taken its place meanwhile, that one is read.
    """
    while True:
        try:
            folder = os.open(place, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            found = {f"{name}{_text(folder, name)}" for name in os.listdir(folder)}
            if os.path.samestat(os.fstat(folder), place.stat()):
                return found
        except FileNotFoundError:
            continue
        finally:
            os.close(folder)


def _text(folder: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder)) as stream:
        return stream.read()


@pytest.mark.skipif(os.name != "posix", reason="an open folder can't be moved here")
@pytest.mark.parametrize("way", ["exchange", "two renames"])
def test_many_writers_of_one_result_never_fail_nor_leave_half_of_one(
    way: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    place = tmp_path / "sub/slide.svs"
    writers = []
    for number in range(TOGETHER):
        arguments = [str(tmp_path), str(number), str(PUBLISHES), way]
        writers.append(
            subprocess.Popen(
                [sys.executable, "-c", WRITER, *arguments],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    while len(list(tmp_path.glob("ready-*"))) < TOGETHER and not any(w.poll() for w in writers):
        time.sleep(0.01)
    (tmp_path / "go").touch()
    seen = []
    while any(writer.poll() is None for writer in writers):
        seen.append(result(place))
    errors = [writer.communicate()[1] for writer in writers]
    assert errors == [""] * TOGETHER
    whole = [{f"{name}{number}" for name in "abc"} for number in range(TOGETHER)]
    first = next(i for i, found in enumerate(seen) if found is not None)
    there = [found for found in seen[first:] if found is not None]
    assert all(found in whole for found in there)
    assert len(there) > len(seen[first:]) / 2
    assert result(place) in whole
    assert list(tmp_path.rglob(".partial-*")) == []
    if way == "exchange" and exchanges(tmp_path):
        assert len(there) == len(seen[first:])  # never missing


def exchanges(folder: Path) -> bool:
    """Whether folders can change places at once here."""
    for name in ("one", "other"):
        (folder / name).mkdir()
    return exchange(folder / "one", folder / "other")


def fill(text: str):
    return lambda folder: (folder / "report.json").write_text(text)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_link_in_a_result_s_place_is_replaced_and_what_it_led_to_stays(
    can_exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(output, "exchange", lambda *_: False)
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    for folder in (elsewhere, out):
        folder.mkdir()
    (elsewhere / "report.json").write_text("old")
    (out / "a.svs").symlink_to(elsewhere)
    publish(out, "a.svs", fill("new"))
    assert not (out / "a.svs").is_symlink()
    assert (out / "a.svs/report.json").read_text() == "new"
    assert (elsewhere / "report.json").read_text() == "old"
    assert [p.name for p in out.iterdir()] == ["a.svs"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_file_that_came_into_a_result_s_place_is_never_replaced(
    can_exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(output, "exchange", lambda *_: False)
    (tmp_path / "a.svs").write_text("the only copy")
    with pytest.raises(OSError, match=r"Not a directory|exists"):
        publish(tmp_path, "a.svs", fill("new"))
    assert (tmp_path / "a.svs").read_text() == "the only copy"
    assert [p.name for p in tmp_path.iterdir()] == ["a.svs"]


def test_an_earlier_result_comes_back_where_its_successor_cannot_be_moved_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where places can't be exchanged, and the second of two renames fails."""
    publish(tmp_path, "a.svs", fill("old"))
    replace, place = os.replace, tmp_path / "a.svs"

    def refuse(source: Path, target: Path) -> None:
        if Path(target) == place and (Path(source) / "report.json").read_text() == "new":
            taken = place.exists()
            raise OSError(errno.ENOTEMPTY if taken else errno.EIO, "refused")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(output, "exchange", lambda *_: False)
    with pytest.raises(OSError, match="refused"):
        publish(tmp_path, "a.svs", fill("new"))
    assert (place / "report.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.svs"]


def test_a_place_that_others_always_take_first_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, "a.svs", fill("old"))
    monkeypatch.setattr(output, "exchange", lambda *_: False)
    monkeypatch.setattr(output, "_displace", lambda *_: False)
    with pytest.raises(OSError, match=r"not empty|exists"):
        publish(tmp_path, "a.svs", fill("new"))
    assert (tmp_path / "a.svs/report.json").read_text() == "old"
