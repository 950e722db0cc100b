"""Memory that is given back when it is free."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3
"""glibc's own number of the option, from malloc.h."""

LARGE_BLOCK = 4 << 20
"""Bytes from which on a block is given back to the system as soon as it is free."""


def give_back_large_blocks() -> bool:
    """Has glibc return freed tiles to the system; says whether it does.

    Left to itself it raises its limit to 32 MB once such blocks were freed, and keeps them in the
    heaps of several threads: 0.2 GB more at the peak of a slide of 20,000 x 15,000 px, at no gain
    in time. Other systems' allocators give large blocks back by themselves.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK))
