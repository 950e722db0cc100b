"""A browser at the reading room's server, without a network."""

from __future__ import annotations

import uuid
import warnings
from typing import Any

from pipeline.review.server.app import create_app
from pipeline.review.server.room import Room

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that httpx has a successor
    from starlette.testclient import TestClient

HOST = "127.0.0.1:8000"
TOKEN = "the-token-of-the-tests"


class Browser(TestClient):
    """A browser at this server's address; redirects are looked at, not followed."""

    def __init__(self, room: Room, host: str = HOST, come_in: bool = True) -> None:
        super().__init__(
            create_app(room),
            base_url=f"{room.scheme}://{host}",
            follow_redirects=False,
            client=("127.0.0.1", 50_000),
        )
        self.room = room
        if come_in:
            assert self.get("/", params={"token": TOKEN}).status_code == 303

    def sign_in(self, name: str) -> None:
        """Says who reads."""
        assert self.post("/api/session", json={"name": name}).status_code == 200

    @property
    def slide(self) -> str:
        """The address of the first slide."""
        return "/api/slides/" + self.get("/api/slides").json()["slides"][0]["id"]

    def change(self, version: int, delta: bool = False, **values: Any) -> Any:
        """Sends a change to the first slide."""
        content = {"id": uuid.uuid4().hex, "version": version, "seconds": 1.5, **values}
        return self.post(f"{self.slide}/changes?delta={int(delta)}", json=content)
