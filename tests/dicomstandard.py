"""Checks DICOM objects by dicom-validator, against the standard's tables that highdicom carries.

`dicom-validator` fetches the standard from the network, which tests must not. highdicom has the
tables of modules and attributes of PS3.3 without the conditions; so types 1 and 2, what is not
expected in an object, and values are checked, and what is required on a condition is not.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import highdicom
import pydicom
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.error_handler import ValidationResultHandlerBase
from dicom_validator.validator.iod_validator import IODValidator
from pydicom.datadict import tag_for_keyword

_TREE = "sr-document-content"
"""A tree of items, each with what its type asks for, on conditions: highdicom reads it instead."""


def problems(path: Path) -> list[str]:
    """What is wrong with a file, one line each."""
    dataset = pydicom.dcmread(path)
    return problems_of(dataset)


def problems_of(dataset: pydicom.Dataset) -> list[str]:
    """What is wrong with an object."""
    info = tables(str(dataset.SOPClassUID))
    result = IODValidator(dataset, info, error_handler=ValidationResultHandlerBase()).validate()
    return [
        f"{module}: {tag}: {error.code}"
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    ]


@cache
def tables(sop_class: str) -> DicomInfo:
    """What dicom-validator needs to know of a SOP class."""
    modules = _load("iod_module_map")[_load("sop_class_iod_map")[sop_class]]
    attributes = _load("module_attribute_map")
    used = {one["key"]: {"ref": one["key"], "use": one["usage"]} for one in modules}
    iods = {sop_class: {"title": sop_class, "modules": used, "group_macros": {}}}
    known = {key: _nested(attributes[key]) for key in used}
    if _TREE in known:
        known[_TREE] = {tag: {**one, "type": "3"} for tag, one in known[_TREE].items()}
        for one in known[_TREE].values():
            one.pop("items", None)
    return DicomInfo({}, iods, known)


@cache
def _load(name: str) -> dict:
    folder = Path(highdicom.__file__).parent / "_standard"
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def _nested(attributes: list[dict]) -> dict:
    """A module's attributes, those of items within their sequence."""
    root: dict = {}
    for one in sorted(attributes, key=lambda one: len(one["path"])):
        place = root
        for keyword in one["path"]:
            place = place[_tag(keyword)].setdefault("items", {})
        place[_tag(one["keyword"])] = {"name": one["keyword"], "type": one["type"]}
    return root


def _tag(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
