"""Files changed at random: of any kind by their bytes, of text, tables and archives by their parts.

Bytes alone seldom get past a parser's first check; what a file of the right form says that can't
be true is what the rest of the program meets.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
import warnings
import zipfile
from typing import Any

WORDS = [0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1]

EXTREMES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -1e-9, 1e308, float("nan")),
    *(float("inf"), -float("inf"), "", " ", "0", "NaN", "1e999", "é", "\0", "\ud800", "\n\r\x1b["),
    *("=1+1", "<script>", "../../x", "/etc/passwd", "CON", "x" * 5000, "9999-99-99T99:99:99"),
    *([], {}, [[]], [None], {"": None}, [0] * 1000, ["a", "a"], {"a": {"a": {"a": []}}}),
]
"""What no schema expects in most of its places."""

DEEP = 3000
"""Brackets within each other: more than an interpreter's stack holds."""


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, a part lost, doubled or moved; words of a header made extreme."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        near = draw.random() < 0.5  # headers lie at either end
        limit = min(len(changed), 600) if near else len(changed)
        at = draw.randrange(limit) if limit else 0
        at = len(changed) - 1 - at if draw.random() < 0.4 else at
        kind = draw.random()
        if kind < 0.5:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif kind < 0.75:
            word = draw.choice([*WORDS, len(data)])
            changed[at : at + 4] = (word & 0xFFFFFFFF).to_bytes(4, draw.choice(["little", "big"]))
        elif kind < 0.85:
            del changed[at : at + draw.randint(1, 64)]
        elif kind < 0.95:
            changed[at:at] = changed[at : at + draw.randint(1, 64)]
        else:
            del changed[at:]
    return bytes(changed)


def mutate_json(data: bytes, draw: random.Random) -> bytes:
    """JSON, or lines of it, some of whose values are others, gone, doubled, or deep."""
    lines = data.split(b"\n")
    full = [place for place, line in enumerate(lines) if line.strip()]
    try:
        json.loads(data)
    except ValueError:
        at = draw.choice(full)
        lines[at] = _other_json(lines[at], draw)
        if draw.random() < 0.2:
            lines[at:at] = [draw.choice(lines)]
        return b"\n".join(lines)
    return _other_json(data, draw)


def _other_json(data: bytes, draw: random.Random) -> bytes:
    content = [json.loads(data)]
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        places = list(_places(content))
        if not places:
            break
        holder, key = draw.choice(places)
        kind = draw.random()
        if kind < 0.7:
            holder[key] = extreme(draw)
        elif kind < 0.8 and holder is not content:
            del holder[key]
        elif kind < 0.9:
            other, its = draw.choice(places)
            holder[key] = json.loads(json.dumps(other[its]))
        elif isinstance(holder, dict):
            holder[str(extreme(draw))[:80]] = extreme(draw)
        else:
            holder.append(extreme(draw))
    text = json.dumps(content[0])
    if draw.random() < 0.02:
        where = [found.start() for found in re.finditer(r"(?<=: )", text)] or [0]
        at = draw.choice(where)
        text = f"{text[:at]}{'[' * DEEP}{']' * DEEP}{text[at:]}"
    return text.encode()


def extreme(draw: random.Random) -> Any:
    """One of `EXTREMES`, to be changed at will."""
    return copy.deepcopy(draw.choice(EXTREMES))


def _places(node: Any) -> Any:
    """(holder, key) of every value."""
    pairs = enumerate(node) if isinstance(node, list) else node.items()
    for key, value in list(pairs):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


TOKENS = re.compile(rb"[^\s,;:=<>\"'{}\[\]]+")

PIECES = [
    *(b"", b"0", b"-1", b"nan", b"inf", b"1e999", b"9" * 400, b"99999999999999999999", b"\xff\xfe"),
    *(
        b"\0",
        b"=1+1",
        b"<script>",
        b"../../x",
        b"/etc/passwd",
        b"&a;",
        b"&lt;",
        b"*a",
        b"&a",
        b"!x",
    ),
    *(b"!!python/object/apply:os.system [x]", b"<<", b"{", b"[", b'"', b"'", b"\r\n", b"\n", b"%"),
    *(b"x" * 5000, "\u202e\u2028é".encode(), b"[" * DEEP, b"<a>" * DEEP, b"- " * 500, b"1:2:3"),
]
"""What stands for a word of a text, and breaks many a format."""


def mutate_text(data: bytes, draw: random.Random) -> bytes:
    """A text some of whose words are others, gone or doubled, or lines of which change places."""
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        kind = draw.random()
        if kind < 0.75:
            found = list(TOKENS.finditer(data))
            if not found:
                break
            one = draw.choice(found)
            new = draw.choice([*PIECES, draw.choice(found).group()])
            data = data[: one.start()] + new + data[one.end() :]
        else:
            lines = data.split(b"\n")
            at, to = draw.randrange(len(lines)), draw.randrange(len(lines))
            if kind < 0.85:
                lines[at:at] = [lines[to]] * draw.choice([1, 2, 50])
            elif kind < 0.95:
                del lines[at]
            else:
                lines[at] += lines[to]
            data = b"\n".join(lines)
    return data


def mutate_zip(data: bytes, draw: random.Random) -> bytes:
    """An archive of arrays one of which is another, gone, doubled, a bomb, or of another head."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = draw.randrange(len(members))
    name, content = members[at]
    kind = draw.random()
    if kind < 0.35:
        members[at] = name, _other_head(content, draw)
    elif kind < 0.6:
        members[at] = name, mutate(content, draw)
    elif kind < 0.75:
        members[at] = name, draw.choice(members)[1]
    elif kind < 0.85:
        del members[at]
    elif kind < 0.95:
        members.append((name, draw.choice(members)[1]))
    else:
        members[at] = name, content + bytes(50 << 20)
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # that a name stands twice
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def _other_head(content: bytes, draw: random.Random) -> bytes:
    """An array of numpy that is said to be of another shape or type."""
    found = re.search(rb"'descr': (.+?), 'fortran_order': (\w+), 'shape': (\(.*?\)), }", content)
    if not found:
        return content
    group = draw.choice([1, 2, 3, 3])
    new = draw.choice(
        {
            1: [b"'|O'", b"'<f4'", b"'<U9'", b"'|V8'", b"'<M8[s]'", b"[('a', '|O')]", b"'x'", b"1"],
            2: [b"True", b"None", b"1"],
            3: [b"(10000000000000,)", b"(0,)", b"(1, 1)", b"()", b"(-1,)", b"(10**30,)", b"(3, 0)"],
        }[group]
    )
    head = content[: found.start(group)] + new + content[found.end(group) :]
    # The length of the header stands before it, and its text ends in a line break.
    size = int.from_bytes(content[8:10], "little")
    grown = len(head) - len(content)
    return head[:8] + (size + grown).to_bytes(2, "little") + head[10:]
