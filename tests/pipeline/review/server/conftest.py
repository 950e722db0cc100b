"""A reading room over a small folder of reports, and a browser that has come in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from reviewfolders import draw_slide, write_result
from viewbrowsers import HOST, TOKEN, Browser

from pipeline.review.catalogue import Catalogue
from pipeline.review.server.room import Room
from pipeline.review.server.sessions import Sessions
from pipeline.review.store import ReviewStore


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of reports that no test writes into but for reviews."""
    place = tmp_path_factory.mktemp("room")
    slide = draw_slide(place / "slides" / "one.tif")
    write_result(place / "reports", "one.tif", slide, pictures=True)
    write_result(place / "reports", "sub/<b>two</b>", draw_slide(place / "slides" / "two.tif", 1))
    (place / "slides" / "two.tif").unlink()
    (place / "reports" / "secret.txt").write_text("secret")
    return place


@pytest.fixture
def room(folder: Path, tmp_path: Path) -> Iterator[Room]:
    """A room whose decisions are the test's own."""
    with Catalogue(folder / "reports") as catalogue, ReviewStore.open(tmp_path) as store:
        room = Room(
            catalogue=catalogue,
            store=store,
            sessions=Sessions(TOKEN),
            hosts=frozenset({HOST, "localhost:8000"}),
        )
        yield room
        room.desk.close()


@pytest.fixture
def browser(room: Room) -> Browser:
    """A browser that has come in."""
    return Browser(room)


@pytest.fixture
def read_only(room: Room) -> Room:
    """The same room, in which nothing is written."""
    return replace(room, read_only=True)
