"""Doubts: what a person should know of an input that is odd, each with a stable code.

Whatever is ambiguous, contradictory, partial or implausible is settled by a rule and told as a
`Doubt`, or refused by an error that carries a code. `configs.codes` lists them all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import field_validator

from configs.codes import ANNOTATIONS, BATCHES, REFUSALS, SLIDES, TRAINING, WARNINGS
from configs.loading import StrictModel


class Doubt(StrictModel):
    """Something odd that was settled by a rule, and what was done.

    Attributes:
        code: a key of `WARNINGS`; stable, for programs.
        text: one sentence, for people.
    """

    code: str
    text: str

    @field_validator("code")
    @classmethod
    def _known(cls, code: str) -> str:
        if code not in WARNINGS:
            raise ValueError(f"unknown code of a warning: {code}")
        return code

    def __str__(self) -> str:
        return with_code(self.text, self.code)


def with_code(text: str, code: str) -> str:
    """A sentence with its code behind it, as it is shown to people; without one as it is."""
    assert not code or code in WARNINGS or code in REFUSALS, code
    return f"{text} [{code}]" if code else text


_CODE = re.compile(r" \[([a-z0-9-]+)\]$")


def split_code(text: str) -> tuple[str, str]:
    """A sentence of `with_code`, and its code; empty where it carries none that is known."""
    found = _CODE.search(text)
    if found and (found[1] in WARNINGS or found[1] in REFUSALS):
        return text[: found.start()], found[1]
    return text, ""


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names in one line, of many the first."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def page() -> str:
    """``docs/reference/warnings.md``."""
    parts = (
        ("Slides", SLIDES),
        ("Batches", BATCHES),
        ("Training", TRAINING),
        ("Annotations", ANNOTATIONS),
        ("What is refused", REFUSALS),
    )
    lines = [
        "# Warnings and refusals, by code",
        "",
        "What is ambiguous, contradictory, partial or implausible is settled by a rule and told,",
        "or refused with what to do. A warning's code stands behind its sentence: on the",
        "terminal, in `report.html`, `report.json` (`warnings`), `summary.html`, `summary.csv` and",
        "`run.log`. A refusal is an error: of a slide (exit code 1; the others go on), or of a",
        "call.",
        "`cytolibra screen --strict` turns the warnings of a slide into its failure. This page is",
        "made from `configs/codes.py` by `make docs`.",
    ]
    for title, entries in parts:
        if entries:
            lines += [
                "",
                f"## {title}",
                "",
                "| code | what it means | what to do |",
                "| --- | --- | --- |",
            ]
            lines += [f"| `{code}` | {e.means} | {e.todo} |" for code, e in sorted(entries.items())]
    return "\n".join(lines) + "\n"
