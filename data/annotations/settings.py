"""How annotation files are read, as a part of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, field_validator
from pydantic import Field as Option

from configs import StrictModel
from data.annotations.formats import AUTO, FORMATS
from data.annotations.public import class_table


class AnnotationSettings(StrictModel):
    """How annotation files are read.

    Attributes:
        format: a name in `FORMATS`, or "auto": told by the file's content.
        classes: the model's class by the annotators' name, as ``"HSIL (CIN2)": HSIL``; or what is
            no class: ``ignore``, ``region`` (exhaustively annotated), ``drop``. Or the name of a
            public set whose table is meant: see `data.annotations.public`.
        point_size: side in µm of the box that a mark stands for.
        mpp: µm per pixel of images that carry none.
        frame: where coordinates begin on a slide that has bounds: at the corner of the "slide" (its
            level 0), of the "bounds" (what was scanned), or "auto": as the format has it.
        groups: a CSV file that tells for each ``image`` its ``slide`` or ``patient``, or both.
        skip_missing: passes over images that aren't there, so that one file may serve several
            folders of images, such as those to train on and to validate on.
        crowds: what many cells under one mark, COCO's ``iscrowd``, are: "ignore", neither cell
            nor background, or "cells", a cell each, as of tools that call every mask a crowd.
        unlabelled: what images without a label file are, where YOLO's label files lie in a folder:
            "negative", fields without cells, as Ultralytics has it, or "left-out"; "auto":
            negative, unless more images have none than have one.
        yolo: what lines of more than five numbers are: "polygons", or "pose", boxes with
            keypoints; "auto": as all lines together tell, else an error.
    """

    format: str = AUTO
    classes: Annotated[
        dict[str, str], BeforeValidator(class_table, json_schema_input_type=dict[str, str] | str)
    ] = Option(default_factory=dict)
    point_size: float | None = Option(None, gt=0)
    mpp: float | None = Option(None, ge=0.05, le=5)
    frame: Literal["auto", "slide", "bounds"] = "auto"
    groups: Path | None = None
    skip_missing: bool = False
    crowds: Literal["ignore", "cells"] = "ignore"
    unlabelled: Literal["auto", "negative", "left-out"] = "auto"
    yolo: Literal["auto", "polygons", "pose"] = "auto"

    @field_validator("format")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name != AUTO and name not in FORMATS:
            raise ValueError(f"formats are {AUTO}, {', '.join(FORMATS)}")
        return name
