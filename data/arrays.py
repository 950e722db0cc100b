"""Archives of arrays (``.npz``) that somebody else may have written.

Nothing is unpickled. Before memory is taken for an array, its size is held against what the file
holds: a few bytes may claim terabytes.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib

import numpy as np

MOST_BYTES = 1 << 30
"""Of all arrays together, unpacked: room for some twenty million cells."""

BROKEN = (
    *(OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError),
)
"""What reading a damaged archive raises: `zipfile` of odd headers, numpy of heads of arrays, which
it reads as Python's literals."""


def open_arrays(content: bytes, most: int | None = None) -> np.lib.npyio.NpzFile:
    """Opens an archive whose arrays are as large as they claim; to be closed.

    Args:
        content: the whole file; no handle stays that somebody would wait for.
        most: bytes of all arrays together; None for `MOST_BYTES`.

    Raises:
        ValueError: it is no archive of arrays, is damaged, or holds more. To read an array of it
            may still raise one of `BROKEN`.
    """
    try:
        file = np.load(io.BytesIO(content), allow_pickle=False)
    except BROKEN as error:
        raise ValueError("no archive of arrays") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError("an array, but no archive of them")
    try:
        _check_sizes(file, MOST_BYTES if most is None else most)
    except BROKEN as error:
        file.close()
        raise ValueError(f"damaged: {error}") from error
    return file


def _check_sizes(file: np.lib.npyio.NpzFile, most: int) -> None:
    members = file.zip.infolist()  # type: ignore[union-attr]
    if sum(member.file_size for member in members) > most:
        raise ValueError(f"more than {most} bytes")
    for member in members:
        with file.zip.open(member) as stream:  # type: ignore[union-attr]
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("an array of another kind")
            shape, _, kind = np.lib.format.read_array_header_1_0(stream)
            if not kind.itemsize:
                raise ValueError("an array of nothing, of any length")
            if stream.tell() + math.prod(shape) * kind.itemsize != member.file_size:
                raise ValueError("an array of another size than it claims")
