"""Who has come in: browsers by their cookie, with the reader who sits at each."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.review.server.throttle import Bucket
from pipeline.review.store import Reader

_MOST = 1000
_IDLE_S = 12 * 3600.0


@dataclass
class Session:
    """A browser that has come in.

    Attributes:
        reader: who reads there; None until a name was given.
        tiles: how many tiles it may still ask for.
        seen: when it was last heard of.
    """

    reader: Reader | None = None
    tiles: Bucket = field(default_factory=Bucket)
    seen: float = 0.0


class Sessions:
    """Sessions by secret; those idle for twelve hours, and the oldest of too many, are gone.

    Attributes:
        token: lets a browser in that shows it; None where users give passwords.
    """

    def __init__(self, token: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.token = token
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Session] = OrderedDict()

    def admits(self, token: str) -> bool:
        """Whether a token is the right one."""
        given = token.encode("utf-8", "replace")
        return self.token is not None and secrets.compare_digest(given, self.token.encode())

    def begin(self, reader: Reader | None = None) -> str:
        """A new session; gives its secret."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._known[secret] = Session(reader, seen=self._clock())
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return secret

    def get(self, secret: str) -> Session | None:
        """The session of a secret; None for none, and for one that was idle too long."""
        with self._lock:
            session = self._known.get(secret)
            if session is None:
                return None
            if self._clock() - session.seen > _IDLE_S:
                del self._known[secret]
                return None
            session.seen = self._clock()
            self._known.move_to_end(secret)
            return session

    def end(self, secret: str) -> None:
        """Forgets a session."""
        with self._lock:
            self._known.pop(secret, None)
