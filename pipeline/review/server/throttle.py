"""How often something may be asked for: tiles by a bucket of tokens, logins ever more slowly."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

TILES_PER_S = 300.0
TILE_BURST = 1500
"""A browser that pans asks for some hundred tiles a second at most."""

_FREE_TRIES = 3
_LONGEST_S = 60.0
_MOST_NAMES = 10_000


class Bucket:
    """So many at once, then so many a second.

    Args:
        rate: a second.
        burst: at once.
        clock: seconds that only go on.
    """

    def __init__(
        self,
        rate: float = TILES_PER_S,
        burst: float = TILE_BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._at = burst, clock()

    def take(self) -> bool:
        """Whether one more may be had now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class LoginBrake:
    """After three wrong passwords each further one makes the next wait twice as long.

    Counted by name and by address, so that neither many names from one address nor one name from
    many addresses go faster. The right password frees the name.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, *who: str) -> float:
        """Seconds until any of these may try again; 0 for now."""
        with self._lock:
            return max(0.0, *(self._free_at(one) - self._clock() for one in who))

    def failed(self, *who: str) -> None:
        """A wrong password was given."""
        with self._lock:
            for one in who:
                count, _ = self._failed.pop(one, (0, 0.0))
                self._failed[one] = (count + 1, self._clock())
            while len(self._failed) > _MOST_NAMES:
                self._failed.popitem(last=False)

    def passed(self, *who: str) -> None:
        """The right one was."""
        with self._lock:
            for one in who:
                self._failed.pop(one, None)

    def _free_at(self, who: str) -> float:
        count, at = self._failed.get(who, (0, 0.0))
        if count < _FREE_TRIES:
            return 0.0
        return at + min(_LONGEST_S, 2.0 ** (count - _FREE_TRIES))
