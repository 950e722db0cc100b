"""Caches that are bounded by what they hold, safe to use from several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """What was used last, up to a sum of weights; the last one is kept whatever it weighs.

    Args:
        most: sum of weights.
        weigh: of a value.
        drop: called with each value that is given up.
    """

    def __init__(
        self, most: int, weigh: Callable[[V], int], drop: Callable[[V], None] | None = None
    ) -> None:
        self._most = most
        self._weigh = weigh
        self._drop = drop
        self._lock = threading.RLock()
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._making: dict[K, threading.Lock] = {}
        self.weight = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """What is kept under a key; None for nothing."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V) -> None:
        """Keeps a value, and gives up those that were used longest ago."""
        weight = self._weigh(value)
        dropped: list[V] = []
        with self._lock:
            self._take_out(key, dropped)
            self._kept[key] = (value, weight)
            self.weight += weight
            while self.weight > self._most and len(self._kept) > 1:
                self._take_out(next(iter(self._kept)), dropped)
        self._give_up(dropped)

    def make(self, key: K, build: Callable[[], V]) -> V:
        """What is kept under a key, built where nothing is; of several threads one builds it."""
        found = self.get(key)
        if found is not None:
            return found
        with self._lock:
            lock = self._making.setdefault(key, threading.Lock())
        try:
            with lock:
                found = self.get(key)
                if found is None:
                    found = build()
                    self.put(key, found)
        finally:
            with self._lock:
                self._making.pop(key, None)
        return found

    def forget(self, key: K) -> None:
        """Gives up one."""
        dropped: list[V] = []
        with self._lock:
            self._take_out(key, dropped)
        self._give_up(dropped)

    def clear(self) -> None:
        """Gives up all."""
        dropped: list[V] = []
        with self._lock:
            for key in list(self._kept):
                self._take_out(key, dropped)
        self._give_up(dropped)

    def _take_out(self, key: K, dropped: list[V]) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.weight -= found[1]
            dropped.append(found[0])

    def _give_up(self, dropped: list[V]) -> None:
        if self._drop:
            for value in dropped:
                self._drop(value)
