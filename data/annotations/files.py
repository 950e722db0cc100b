"""Files as they lie on disk: which ones are meant, and their JSON, XML or text, safely parsed."""

from __future__ import annotations

import glob
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from configs import ConfigError
from data.folders import files_below
from data.tables import decode, encoding_of

Content: TypeAlias = Any
"""Parsed JSON, the root `Element` of XML, or text."""

_XML_MARKS = (b"<", b"\xff\xfe<", b"\xfe\xff\0<", b"\xef\xbb\xbf<")
TABLES = (".csv", ".tsv")
"""Endings, in lower case, of tables: spreadsheets write them in encodings that they don't tell."""

_GZIP = b"\x1f\x8b"

MOST_PACKED = 100
"""How many times smaller gzip may make annotations: numbers and names come to 5 to 20 times."""

_LEAST_UNZIPPED = 1 << 24
"""Bytes that any file may unpack to: small ones that repeat themselves pack better."""


def find_files(arguments: Sequence[Path], suffixes: Iterable[str]) -> list[tuple[Path, bool]]:
    """The files that are meant by files, folders and globs.

    Args:
        arguments: of a folder all files below it with one of the suffixes are meant; see
            `files_below`.
        suffixes: in lower case, with the dot.

    Returns:
        Each file once, in a stable order, and whether it was named itself.

    Raises:
        ConfigError: an argument means no file, or a folder can't be read.
    """
    found: dict[Path, bool] = {}
    wanted = tuple(suffixes)
    for argument in arguments:
        files = list(_meant_by(argument, wanted))
        if not files:
            raise ConfigError(f"{argument}: {_problem(argument)}")
        for path in files:
            found.setdefault(path, path == argument)
    return list(found.items())


def _meant_by(argument: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    if argument.is_file():
        yield argument
    elif argument.is_dir():
        yield from (p for p in files_below(argument) if p.name.lower().endswith(suffixes))
    elif glob.has_magic(str(argument)):
        for path in sorted(glob.glob(str(argument), recursive=True)):
            yield from _meant_by(Path(path), suffixes)


def _problem(argument: Path) -> str:
    if argument.is_dir():
        return "there are no annotation files in this folder"
    if glob.has_magic(str(argument)):
        return "no file is called like that"
    return "no such file or folder"


def load(path: Path) -> Content:
    """What a file holds, told by its first character; gzipped or not.

    Raises:
        ConfigError: it can't be read, or is damaged.
    """
    data = _unzipped(path)
    start = data.lstrip()[:4]
    if start.startswith(_XML_MARKS):
        return parse_xml(path, data)
    text = _decode(path, data)
    return _parse_json(path, text) if text.lstrip()[:1] in ("{", "[") else text


def _decode(path: Path, data: bytes) -> str:
    """Text in UTF-8, or UTF-16 that says so; only of tables, which tell nothing, it is assumed."""
    try:
        if path.suffix.lower() in TABLES:
            return decode(data)
        return data.decode("utf-8-sig" if encoding_of(data) == "utf-8" else encoding_of(data))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _unzipped(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return _gunzip(path, data) if data.startswith(_GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _gunzip(path: Path, data: bytes) -> bytes:
    """Unpacks no more than annotations of this size can come to."""
    most = max(_LEAST_UNZIPPED, MOST_PACKED * len(data))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        unpacked = stream.read(most + 1)
    if len(unpacked) > most:
        raise ConfigError(
            f"{path}: unpacks to more than {MOST_PACKED} times its size, which no annotations do; "
            "if it is sound, unpack it by hand and name that file"
        )
    return unpacked


def _parse_json(path: Path, text: str) -> Content:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}; is the file whole?") from error


def parse_xml(path: Path, data: bytes) -> Element:
    """The root element of an XML file that declares no document type.

    Entities, which may grow without bound or name other files, can only be declared in one: a
    file that has a DOCTYPE is refused before any is. expat itself fetches nothing.

    Raises:
        ConfigError: it isn't well-formed XML, or declares a document type.
    """

    def refuse(*_: object) -> None:
        raise ConfigError(f"{path}: XML with a DOCTYPE isn't read, as entities can do harm")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ConfigError(f"{path}: not valid XML: {error}; is the file whole?") from error
    return builder.close()


def own_name(path: Path, suffixes: Iterable[str]) -> str:
    """The image that a file's own name means: ``a.svs`` or ``a``, of ``a.svs.xml`` or ``a.xml``."""
    name = path.name
    longest = max((s for s in suffixes if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(longest)]
