"""What each column of the tables means, with its unit; `scripts.reference.files` lists them."""

from __future__ import annotations

from typing import NamedTuple

SCORE = "0 to 1"


class Column(NamedTuple):
    """What stands in a column.

    Attributes:
        unit: of its numbers; empty for words.
        text: what it means.
    """

    unit: str
    text: str


CELLS = {
    "id": Column("", "number of the cell in this file, from 1; `name` in cells.geojson"),
    "class": Column("", "the name that the cell got"),
    "abnormal": Column("", "true, false: whether that class is abnormal"),
    "score": Column(SCORE, "of that class; no probability. Not below the class's threshold"),
    "x_min": Column("level-0 px", "left side of the box, from the whole slide's left"),
    "y_min": Column("level-0 px", "upper side, from the whole slide's top"),
    "x_max": Column("level-0 px", "right side"),
    "y_max": Column("level-0 px", "lower side"),
    "x_center": Column("level-0 px", "middle of the box"),
    "y_center": Column("level-0 px", "middle of the box"),
    "x_um": Column("µm", "the same middle, from the whole slide's left"),
    "y_um": Column("µm", "the same middle, from the whole slide's top"),
    "score_abnormal": Column(
        SCORE, "that the cell is abnormal, whatever it is called: the best of the abnormal classes'"
    ),
    "grade": Column("", "low or high, by the cell's class; empty for a class of neither"),
    "score_low_grade": Column(SCORE, "the best score of the low grades at the cell's place"),
    "score_high_grade": Column(SCORE, "the best score of the high grades at the cell's place"),
    "carries_suggestion": Column(
        "", "true, false: whether it is one of the cells by which the category is suggested"
    ),
    "grade_background": Column(
        SCORE, "the grader's word that there is no cell; empty where it did not look"
    ),
}
"""Of ``cells.csv``."""

OF_CLASS = {
    "score_": Column(
        SCORE,
        "the best score of this class at the cell's place, from before it got its name; empty "
        "where nobody knows it",
    ),
    "grade_": Column(
        SCORE,
        "what the grader says of this class; all `grade_` columns of a row sum to 1. Empty where "
        "it did not look; no such columns without a second look",
    ),
}
"""Of columns that each class has, by how their names begin."""

UNITS = {
    "cells": "cells",
    "abnormal_cells": "cells",
    "low_grade_cells": "cells",
    "high_grade_cells": "cells",
    "cells_per_mm2": "1/mm²",
    "excess_per_mm2": "1/mm²",
    "slide_mm2": "mm²",
    "screened_mm2": "mm²",
    "unread_mm2": "mm²",
    "out_of_focus_share": SCORE,
    "mpp": "µm/px",
    "slide_score": SCORE,
    "score": SCORE,
    "rank": "from 1",
    "id": "from 1",
    "x_center": "level-0 px",
    "y_center": "level-0 px",
    "x_um": "µm",
    "y_um": "µm",
}
"""Of the numbers in ``summary.csv`` and ``summary.xlsx``, whose columns say what they mean."""

FEATURES = {
    "id": Column("", "a UUID of slide, class and box: the same in every run"),
    "geometry": Column("level-0 px", "the box as a closed polygon, in QuPath's frame"),
    "properties.objectType": Column("", "detection"),
    "properties.name": Column("", "`id` in cells.csv"),
    "properties.classification": Column("", "`name` of the class and its `color`, [r, g, b]"),
    "properties.measurements": Column(
        SCORE,
        "score, score_abnormal, score_low_grade, score_high_grade and the grader's `grade_` "
        "figures, as in cells.csv",
    ),
    "properties.metadata.grade": Column("", "low or high; absent for a class of neither"),
}
"""Of ``cells.geojson``."""

WRITTEN = (
    ("SLIDE/report.html", "screen", "one page that opens offline: slide, cells, figures, why"),
    ("SLIDE/report.json", "screen", "everything that is known of the slide, [below](#reportjson)"),
    ("SLIDE/cells.csv", "screen", "a row a cell, [below](#cellscsv)"),
    (
        "SLIDE/cells.parquet",
        "screen --parquet",
        "the same columns and values as cells.csv, with types, and units in the metadata",
    ),
    (
        "SLIDE/cells.ann.dcm, report.sr.dcm",
        "screen --dicom, objects",
        "the cells and the report [as DICOM](../how-to/dicom-fhir.md)",
    ),
    (
        "SLIDE/report.fhir.json",
        "screen --fhir, objects",
        "the report [as FHIR R4](../how-to/dicom-fhir.md)",
    ),
    ("SLIDE/cells.geojson", "screen", "the cells for QuPath, [below](#cellsgeojson)"),
    (
        "SLIDE/fingerprint.json",
        "screen",
        "of what the results were made",
    ),
    (
        "SLIDE/detections.npz",
        "screen",
        "what the network found, for [rescore](../how-to/rescore.md)",
    ),
    ("SLIDE/thumbnail.jpg, best-1.jpg, …", "screen", "pictures for summary.html"),
    ("summary.html", "screen", "the [work list](../concepts/worklist.md) of all slides"),
    ("summary.csv", "screen", "a row a slide, [below](#summarycsv)"),
    ("summary.xlsx", "screen --xlsx", "the same, and the abnormal cells, [below](#summaryxlsx)"),
    ("run.json", "screen", "the record of the run, [below](#runjson); a file a shard"),
    (
        ".results.jsonl",
        "screen",
        "what is known of the results, so that none is read again; may be deleted at any time",
    ),
    (
        ".journal/",
        "screen",
        "what became of slides since run.json was written; gone when a run ends",
    ),
    (
        ".claims/",
        "screen",
        "who has which slide, where processes [share them](../how-to/cluster.md); gone likewise",
    ),
    (
        "run.log, run.HOST-….log",
        "screen",
        "what was told, with the time; a file each for shards, and for processes that have joined",
    ),
    (
        "run.log.jsonl",
        "screen --log-format json",
        "the same as JSON lines: [watching a batch](../how-to/watching.md)",
    ),
    ("reviews.sqlite", "view", "what readers decided: [reviews](../concepts/reviews.md)"),
    (".view.port", "view", "the port that the folder was served at last, which is tried first"),
    ("model/", "train", "the model: `model.json` (its card), weights, networks"),
    ("config.yaml", "train", "every setting, resolved"),
    ("metrics.csv", "train", "a row a validation: losses and AP50"),
    (
        "gradients.csv",
        "train",
        "how the loss pulls each class up and down, by steps",
    ),
    ("metrics.json", "evaluate", "every figure of the page"),
    ("report.html", "evaluate", "figures, curves, the worst errors as pictures"),
    ("detections.json", "evaluate", "what was found, as COCO"),
    ("truth.json", "evaluate", "what it was judged by, as COCO"),
    ("table.md, table.csv", "compare", "detectors x losses, with paired intervals"),
    ("manifest.csv", "tile", "a row a tile: where it lies on its slide"),
    ("truth.json", "synth", "the drawn cells, as COCO"),
    ("stats.html, stats.json", "data stats", "the long tail, sizes, tiles with what is marked"),
)
"""File, command, what it holds."""

GIVEN = (
    ("`--mpp-table`", "slide", "path of a slide, or the end of it"),
    ("`--mpp-table`", "mpp", "its µm per level-0 pixel"),
    ("`--labels`", "slide", "a slide's folder of results, its file's name, or that without ending"),
    ("`--labels`", "label", "a Bethesda category, or positive, negative"),
    ("`--labels`", "patient", "may be left out; slides of one patient stay together"),
    ("`split` of a source", "image", "name of a field"),
    ("`split` of a source", "part", "train, val, test"),
    ("`scale --groups`", "image", "name of a field"),
    ("`scale --groups`", "slide", "what must not be on both sides, such as its slide"),
)
"""Table, column, what it means."""

KEYS = {
    "schema_version": "of this file's schema",
    "status": "of the whole; of a run: complete came to its end, stopped gave up early",
    "model.name": "as `cytolibra models` has it, or the folder's",
    "model.classes": "in the model's order",
    "model.classes[].name": "of the class",
    "model.classes[].abnormal": "whether its cells are",
    "model.second_look.name": "of the grader",
    "expectation.groups.NAME.found": "cells that were found",
    "domain.aspects": "what was compared: stain and structure",
    "adequacy.squamous_cells.high": "upper end of the 95% interval",
    "adequacy.by_fields.high": "upper end of the 95% interval",
    "adequacy.obscured": "what of it, by reason",
    "notice": "what this is not",
    "command": "words of the call",
    "shard": "which part of the batch; null for all of it",
    "shard.index": "from 1",
    "shard.count": "of how many parts",
    "started": "when, in UTC",
    "ended": "when, in UTC; null while it runs",
    "software": "versions",
    "settings": "all settings in force",
    "recipe": "hash of model, settings and version by which results are used again",
    "slides": "by the name of the folder of results",
}
"""What keys mean of which their own code says nothing, by path."""

ENDS = {
    "ap50.value": "AP at IoU 0.5",
    "recall.value": "share of annotated cells that were found",
    "precision.value": "share of reported cells that are annotated",
    ".low": "lower end of the 95% interval",
    ".high": "upper end of the 95% interval",
}
"""The same, by how paths end."""


def meaning(path: str, text: str) -> str:
    """What a key means: what its code says, else what stands here.

    Raises:
        KeyError: neither says anything.
    """
    if text:
        return text
    if path in KEYS:
        return KEYS[path]
    for end, said in ENDS.items():
        if path.endswith(end):
            return said
    raise KeyError(f"{path} has no description: give it one where it is defined")
