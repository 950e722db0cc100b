"""The process in which a reader of another package runs; `pipeline.slides.isolated` is outside.

It is asked by lines of JSON on its standard input and answers on what was its standard output,
pixels behind a line that says how many bytes they are. Whatever the package prints goes to standard
error. The process ends with its input, and with the one that started it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.children import end_with_parent
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect
from pipeline.slides.checked import Described, check_pixels, read_by
from pipeline.slides.plugins import PluginError, load_plugin, open_by
from pipeline.slides.readers.base import Reader


def main() -> None:
    """Answers until nobody asks any more."""
    end_with_parent()
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # for a package that reads its standard input
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    reader: Reader | None = None
    for line in questions:
        asked = json.loads(line)
        if "path" in asked:
            answer, reader = _open(asked)
            _send(answers, answer)
        else:
            assert reader is not None
            _send(answers, *_read(reader, asked))


def _open(asked: dict[str, Any]) -> tuple[dict[str, Any], Reader | None]:
    try:
        plugin = load_plugin(asked["plugin"])
        if not plugin.isolate:
            return {"isolate": False}, None
        reader = open_by(plugin, Path(asked["path"]))
        if reader is None:
            return {"opens": False}, None
        said = Described.text_of(reader)
    except (SlideError, PluginError) as error:
        return _failure(error), None
    return {"name": plugin.name, "timeout_s": plugin.timeout_s, "said": said}, reader


def _read(reader: Reader, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes | memoryview]:
    region = Rect(*asked["region"])
    try:
        pixels = check_pixels(read_by(reader, asked["level"], region, asked["shrink"]), region)
    except (SlideError, PluginError) as error:
        return _failure(error), b""
    return {"bytes": pixels.nbytes}, np.ascontiguousarray(pixels).data.cast("B")


def _failure(error: SlideError | PluginError) -> dict[str, Any]:
    if isinstance(error, PluginError):
        return {"broken": str(error)}
    kind = "unread" if isinstance(error, ReadError) else "refused"
    return {kind: error.text, "code": error.code}


def _send(answers: BinaryIO, answer: dict[str, Any], pixels: bytes | memoryview = b"") -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.write(pixels)
    answers.flush()


if __name__ == "__main__":
    main()
