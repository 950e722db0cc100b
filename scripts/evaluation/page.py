"""The page of an evaluation: every figure, pictures where they say more, and the worst errors."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from pipeline.cells.classes import find_category
from pipeline.reports.pages import render_page
from pipeline.reports.report import software_versions
from scripts.evaluation import plots
from scripts.evaluation.errors import ErrorPicture, false_alarms, missed_cells, take_pictures
from scripts.evaluation.evidence import Evidence
from scripts.evaluation.figures import NAMED, Figures
from scripts.evaluation.table import against_rows, how_drawn, percent, show, spread


def render(evidence: Evidence, figures: Figures) -> str:
    """The page as HTML, in one piece, with everything embedded."""
    missed, alarms = missed_cells(evidence), false_alarms(evidence)
    return render_page(
        "evaluation.html",
        title=f"{evidence.card.name} on {figures['fields']} fields",
        card=evidence.card,
        figures=figures,
        colors=plots.colors_of(evidence),
        meanings={name: _meaning(name) for name in evidence.classes},
        pictures=_draw(evidence, figures),
        missed=[_view(evidence, picture) for picture in take_pictures(evidence, missed)],
        alarms=[_view(evidence, picture) for picture in take_pictures(evidence, alarms)],
        totals={"missed": len(missed), "alarms": len(alarms)},
        differences=_rows(figures, "against"),
        looked=_rows(figures, "second_look"),
        software=software_versions(),
        show=show,
        spread=spread,
        percent=percent,
        drawn=how_drawn(figures["intervals"]),
    )


def _draw(evidence: Evidence, figures: Figures) -> dict[str, str]:
    pictures = {
        "froc": plots.draw_froc(evidence, figures),
        "precision_recall": plots.draw_precision_recall(evidence, figures),
        "confusion": plots.draw_confusion(figures["confusion"]),
        "calibration": plots.draw_calibration(figures["calibration"]),
        **{
            f"confusion_{level}": plots.draw_confusion(matrix)
            for level, matrix in figures["confusion_levels"].items()
        },
    }
    for key in ("against", "second_look"):
        if key in figures:
            pictures[key] = plots.draw_differences(_rows(figures, key))
    if "second_look" in figures:
        grades = figures["second_look"]["grades"]
        pictures["grades"] = plots.draw_calibration(grades, (NAMED, "abnormal"), "right")
    return pictures


def _rows(figures: Figures, key: str) -> Sequence[tuple[str, Figures]]:
    """Differences of AP50, a line each; none where nothing was compared."""
    return against_rows(figures[key]) if key in figures else ()


def _meaning(name: str) -> str:
    category = find_category(name)
    return category.meaning if category else ""


def _view(evidence: Evidence, picture: ErrorPicture) -> dict[str, Any]:
    """What the template shows of an error."""
    error = picture.error
    names, field = list(evidence.classes), evidence.fields.fields[error.field]
    return {
        "name": names[error.label],
        "score": error.score,
        "note": error.note,
        "image": field.image.name,
        "x": field.origin[0] + (error.box[0] + error.box[2]) / 2,
        "y": field.origin[1] + (error.box[1] + error.box[3]) / 2,
        "picture": "data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode(),
        "boxes": [{**vars(box), "name": names[box.label]} for box in _main_last(picture)],
        "bar": picture.bar,
    }


def _main_last(picture: ErrorPicture) -> Sequence[Any]:
    """The error itself is drawn over its neighbours."""
    return sorted(picture.boxes, key=lambda box: box.main)
