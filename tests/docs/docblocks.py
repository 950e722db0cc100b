"""The blocks of commands and Python in Markdown pages, and what is said of running them.

A comment stands right before each block of ``bash`` or ``python``:

- ``<!-- run -->``, or with words behind a colon, apart by semicolons: ``slow``; ``exit=1``, the
  exit code that is right; ``file=my_loss.py``, kept under this name for later blocks;
  ``add=train --set loop.steps=2``, words behind that command's own, so that it ends in seconds;
- ``<!-- not run: REASON -->``.

Blocks of a page run in their order in one folder of their own. ``<!-- with: slides fields -->``
names what lies there.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

LANGUAGES = ("bash", "python")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *```", re.M | re.S)
_COMMENT = re.compile(r"<!-- (run|not run|with)(?:: (.*?))? -->\s*\Z")
_INDENTED = re.compile(r"\n\n((?: {4}[^\n]*\n)+)")
_WORDS = {"slow", "exit", "file", "add"}


@dataclass
class Block:
    """One block of a page.

    Attributes:
        line: where it begins, from 1.
        reason: why it is not run; empty where it is.
        is_slow: whether it takes more than some seconds.
        exit: exit code that is right.
        file: name under which its text is kept.
        add: a command, and the words that it gets.
    """

    line: int
    language: str
    text: str
    reason: str = ""
    is_slow: bool = False
    exit: int = 0
    file: str = ""
    add: str = ""


@dataclass
class Page:
    """The blocks of a page, what it wants to find in its folder, and what is wrong with it."""

    blocks: list[Block] = field(default_factory=list)
    wants: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_page(text: str) -> Page:
    """All blocks of commands and Python of a page."""
    page = Page()
    end = 0
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        before, end = text[end : match.start()], match.end()
        if match["language"] not in LANGUAGES:
            if not match["language"]:
                page.faults.append(f"line {line}: a block of no language")
            continue
        block = Block(line, match["language"], _dedent(match["text"], match["indent"]))
        said = _read_comments(before, page)
        if said is None:
            page.faults.append(f"line {line}: says neither how it runs nor why not")
        else:
            page.faults += [f"line {line}: {fault}" for fault in _apply(block, *said)]
            page.blocks.append(block)
    page.faults += _commands_in_other_blocks(_FENCE.sub("", text))
    return page


def _read_comments(before: str, page: Page) -> tuple[str, str] | None:
    """What the comment right before a block says; notes what comments before it want."""
    said = None
    while match := _COMMENT.search(before):
        before = before[: match.start()]
        if match[1] == "with":
            page.wants += match[2].split()
        elif said is None:
            said = match[1], match[2] or ""
        else:
            break
    return said


def _apply(block: Block, kind: str, words: str) -> list[str]:
    if kind == "not run":
        block.reason = words
        return [] if len(words) > 10 else ["is not run, and does not say why"]
    for word in filter(None, (part.strip() for part in words.split(";"))):
        name, _, value = word.partition("=")
        if name not in _WORDS:
            return [f"{name} means nothing here"]
        if name == "slow":
            block.is_slow = True
        else:
            setattr(block, name, int(value) if name == "exit" else value)
    return []


def _commands_in_other_blocks(text: str) -> list[str]:
    """Commands in indented blocks: they would be run by nobody."""
    return [
        f"a command in an indented block: {line.strip()}"
        for block in _INDENTED.findall(text)
        for line in block.splitlines()
        if re.match(r" {4}(cytolibra|python|make|pip|import|from) ", line)
    ]


def _dedent(text: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def pages(repo: Path) -> dict[str, Page]:
    """Every page of the documentation, and the README, by its path."""
    found = [repo / "README.md", repo / "CONTRIBUTING.md", *sorted((repo / "docs").rglob("*.md"))]
    return {
        path.relative_to(repo).as_posix(): read_page(path.read_text(encoding="utf-8"))
        for path in found
    }
