"""Work done ahead of whoever waits for it, in threads, in order and within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def work_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Iterator[Result]]:
    """A context with the results of ``work`` in the order of the items; memory stays flat.

    The first failure is raised in its turn. What has not started by then, or by the context's end,
    never does; what has is waited for. Items are taken in the caller's thread, so that the results
    of one may be the items of another, opened after it.

    Args:
        work: what to do with an item.
        items: taken as there is room for them.
        threads: that work.
        ahead: items begun or done beside the one that is waited for, at most.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()

        def results() -> Iterator[Result]:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield results()
        finally:
            for future in waiting:
                future.cancel()


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
