"""What processes tell each other, as files that can be changed: answers on a pipe, claims."""

from __future__ import annotations

import io
import random
import shutil
import tempfile
import zlib
from pathlib import Path
from unittest.mock import patch

from hostilefiles import make

# Answers of a process that reads for a plug-in


class Played:
    """A process that answers what a file says, whatever it is asked."""

    pid, returncode = 0, None

    def __init__(self, answers: bytes) -> None:
        self.stdin, self.stdout = io.BytesIO(), io.BufferedReader(io.BytesIO(answers))

    def wait(self, timeout: float | None = None) -> int:
        """It has ended."""
        return 1

    def kill(self) -> None:
        """It is heard no more."""


def make_answers(folder: Path) -> Path:
    """What such a process answers: of a slide that it has opened, and all pixels of a level."""
    from pipeline.slides import worker
    from pipeline.slides.checked import Described
    from pipeline.slides.readers.kfb import open_kfb

    path, said = make("kfb", folder), io.BytesIO()
    reader = open_kfb(path)
    size = reader.header.levels[0].size
    opened = {"name": "mine", "timeout_s": 60.0, "said": Described.text_of(reader)}
    asked = {"level": 0, "region": [0, 0, size.width, size.height], "shrink": 1}
    worker._send(said, opened)
    worker._send(said, *worker._read(reader, asked))
    reader.close()
    path.write_bytes(said.getvalue())
    return path


def read_answers(path: Path, draw: random.Random) -> None:
    """Opens a slide and reads its finest level, by a process that answers so."""
    from pipeline.geometry import Rect
    from pipeline.slides import offers

    played = Played(path.read_bytes())
    offer = offers.Offer("mine", "1", ".kfb", "mine:Mine")
    with (
        patch("pipeline.slides.isolated.start_module", lambda *_: played),
        patch("os.cpu_count", lambda: 1),
        patch.object(offers, "offers_of", lambda _: (offer,)),
    ):
        reader = offers.open_offered(path)
        try:
            size = reader.header.levels[0].size
            reader.read(0, Rect(0, 0, min(size.width, 4096), min(size.height, 4096)))
        finally:
            reader.close()


def _change_line(data: bytes, draw: random.Random) -> bytes:
    """One of the two lines of JSON changed, pixels left as they are."""
    from mutants import mutate_json, mutate_text

    first, _, rest = data.partition(b"\n")
    second, _, pixels = rest.partition(b"\n")
    lines = [first, second]
    at = draw.randrange(2)
    lines[at] = draw.choice([mutate_json, mutate_text])(lines[at], draw)
    return b"\n".join([*lines, pixels])


def change_answers(data: bytes, draw: random.Random) -> bytes:
    """One line of the answers changed, or what the reader says of its slide, which is JSON, too."""
    import json

    from mutants import mutate_json

    if draw.random() < 0.5:
        return _change_line(data, draw)
    first, _, rest = data.partition(b"\n")
    answer = json.loads(first)
    answer["said"] = mutate_json(answer["said"].encode(), draw).decode()
    return json.dumps(answer).encode() + b"\n" + rest


# What is known of results


def change_known(data: bytes, draw: random.Random) -> bytes:
    """JSON of one line changed; in half of the cases its checksum is made to fit."""
    from mutants import mutate_json

    lines = data.split(b"\n")
    at = draw.randrange(len(lines) - 1)
    seal, text = lines[at][:9], mutate_json(lines[at][9:], draw)
    if draw.random() < 0.5:
        seal = b"%08x " % zlib.crc32(text)
    lines[at] = seal + text
    return b"\n".join(lines)


# Claims

SLIDE = "a/b.svs"


def _make_claims(folder: Path) -> Path:
    """A folder in which a process of another machine has one slide done, and one in work."""
    from pipeline.batch.claims import Board
    from pipeline.batch.lock import Holder
    from pipeline.batch.run_record import SlideRecord

    out = folder / "out"
    out.mkdir()
    holder = Holder.this(("cytolibra", "screen")).model_copy(
        update={"host": "there", "machine": "there.1"}
    )
    board = Board(out, holder)
    board.enter()
    for name in (SLIDE, "c.svs"):
        board.claim(name)
    board.end(SLIDE, SlideRecord(path=SLIDE, status="failed", attempts=1, error="torn"))
    kept = shutil.copytree(out / ".claims", folder / "kept")
    board.leave()
    shutil.rmtree(out / ".claims")
    kept.rename(out / ".claims")
    return out


def make_claim(folder: Path) -> Path:
    """The claim of the slide that is done."""
    from pipeline.batch.claims import Board
    from pipeline.batch.lock import Holder

    out = _make_claims(folder)
    return Board(out, Holder.this(()))._path(SLIDE, 0)


def make_presence(folder: Path) -> Path:
    """The word of the process that has them."""
    (path,) = (_make_claims(folder) / ".claims" / "by").iterdir()
    return path


def read_claims(path: Path, draw: random.Random) -> None:
    """Joins those who are at work, and looks at what they have."""
    out = next(folder for folder in path.parents if folder.name == "out")
    with tempfile.TemporaryDirectory() as place:  # who joins leaves claims behind
        shutil.copytree(out, copy := Path(place) / "out")
        for one in (copy / ".claims" / "by").iterdir():
            one.touch()  # it lives, however long this takes
        _join_and_look(copy)


def _join_and_look(out: Path) -> None:
    from pipeline.batch.claims import Board
    from pipeline.batch.lock import Holder
    from pipeline.batch.others import by_whom
    from pipeline.batch.presence import seen_at_work

    told = [str(one.holder) for one in seen_at_work(out)]
    board = Board(out, Holder.this(("cytolibra", "screen")))
    with patch("pipeline.batch.claims._UNKNOWN_S", 0.01):
        board.enter()
    try:
        for name in (SLIDE, "c.svs", "d.svs"):
            standing = board.look(name)
            told.append(by_whom(standing))
            if standing.state == "free":
                assert board.take_over(name, standing)
            elif standing.record:
                told += [standing.record.path, standing.record.error or ""]
        told += [str(one) for one in board.fellows()]
    finally:
        board.leave()
    assert all(isinstance(one, str) for one in told)
