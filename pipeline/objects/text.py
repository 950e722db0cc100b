"""Text as DICOM and FHIR take it."""

from __future__ import annotations

import re

LONG_STRING = 64
"""Characters of a value of the type LO."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+")


def long_string(text: str, most: int = LONG_STRING) -> str:
    """Text as one value of LO: no control characters, no backslash, which parts values.

    Longer text ends with an ellipsis; what is empty then becomes "-", since most such values must
    not be.
    """
    cleaned = " ".join(_CONTROL.sub(" ", _encodable(text)).replace("\\", "/").split())
    if len(cleaned) > most:
        cleaned = cleaned[: most - 1].rstrip() + "…"
    return cleaned or "-"


def free_text(text: str) -> str:
    """Text of any length: lines and tabs stay, other control characters become blanks."""
    return _CONTROL_BUT_LINES.sub(" ", _encodable(text)).strip() or "-"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
