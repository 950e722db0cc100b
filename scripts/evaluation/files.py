"""What an evaluation leaves on disk, and how its files are named."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import ConfigError
from data.annotations.coco import to_coco
from data.annotations.images import ImageFolder
from data.evaluation import to_results
from pipeline.reports.writers import write_whole
from scripts.evaluation.evidence import Evidence
from scripts.evaluation.page import render


@dataclass(frozen=True)
class Outputs:
    """Where everything goes.

    Attributes:
        metrics: all figures.
        page: the same for people.
        detections: what was found, as COCO results.
        truth: what it was judged by, as COCO; image and category ids are those of ``detections``.
    """

    metrics: Path
    page: Path
    detections: Path
    truth: Path


def name_outputs(out: Path) -> Outputs:
    """In a folder metrics.json, report.html, …; beside a file NAME.json NAME.html, NAME.….json."""
    if out.suffix.lower() == ".json":
        beside = (out.with_suffix(f".{name}") for name in ("html", "detections.json", "truth.json"))
        return Outputs(out, *beside)
    names = ("metrics.json", "report.html", "detections.json", "truth.json")
    return Outputs(*(out / name for name in names))


def write_outputs(
    outputs: Outputs, evidence: Evidence, images: Path, figures: dict[str, Any]
) -> None:
    """Writes all files, each whole or not at all.

    Raises:
        ConfigError: one can't be written.
    """
    truth = to_coco(evidence.fields, ImageFolder([images]).name_of)
    for image, field in zip(truth["images"], evidence.fields.fields, strict=True):
        image["origin"] = list(field.origin)  # several may be parts of one slide
    texts = {
        outputs.metrics: _indented(figures),
        outputs.page: render(evidence, figures),
        outputs.detections: json.dumps(to_results(evidence.found), separators=(",", ":")) + "\n",
        outputs.truth: json.dumps(truth, ensure_ascii=False) + "\n",
    }
    for path, text in texts.items():
        write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all.

    Raises:
        ConfigError: it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(f"--out {path}: can't be written: {error.strerror}") from error


def _indented(content: dict[str, Any]) -> str:
    """JSON for people: a line a figure, and lists of numbers or names in one line."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    innermost = re.compile(r"\[\n\s+[^\[\]{}]*?\n\s+\]")
    return innermost.sub(_in_one_line, text) + "\n"


def _in_one_line(found: re.Match[str]) -> str:
    return "[" + re.sub(r"\n\s+", " ", found[0][1:-1]).strip() + "]"
