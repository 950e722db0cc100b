"""Codes: each is in the place that it names, fits into DICOM, and says no more than was found."""

from pathlib import Path

import pytest
from pydicom.sr.codedict import codes as dictionary

from pipeline.cells.classes import CellClass
from pipeline.objects import codes
from pipeline.objects.codes import PS3_16, code_of_category, published
from pipeline.reports.triage import Suggestion

CLASSES = (
    CellClass(name="NILM", abnormal=False),
    CellClass(name="ASC_US", abnormal=True),
    CellClass(name="HSIL", abnormal=True),
    CellClass(name="SCC", abnormal=True),
    CellClass(name="koilocyte", abnormal=True),
)
DOCS = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "dicom-fhir.md"


def suggested(category, level="class"):
    return Suggestion(category=category, rule="r", version="2", level=level)


@pytest.mark.parametrize("code", [c for c in published() if c.source == PS3_16], ids=str)
def test_codes_of_the_standard_are_in_its_dictionary(code):
    scheme = getattr(dictionary, code.scheme)
    values = {getattr(scheme, name).value: getattr(scheme, name) for name in scheme.dir()}
    assert values[code.value].scheme_designator == code.scheme
    assert values[code.value].meaning.casefold().startswith(code.meaning.casefold())


def test_all_codes_name_a_source_and_fit():
    assert len(published()) == len({(c.scheme, c.value) for c in published()}) == 19
    for code in published():
        assert code.source, code
    for code in vars(codes).values():
        if isinstance(code, codes.Code):
            assert len(code.value) <= 16
            assert len(code.meaning) <= 64


def test_every_code_is_documented_with_its_source():
    text = DOCS.read_text(encoding="utf-8")
    for code in published():
        row = f"| {code.scheme} | {code.value} | {code.name} |"
        assert row in text, row
        assert code.source in text


@pytest.mark.parametrize(
    ("category", "level", "value"),
    [
        ("ASC_US", "class", "441087007"),  # however it is spelled
        ("HSIL", "class", "62061000119107"),
        ("SCC", "class", None),  # its code is of tissue
        ("NILM", "class", None),  # nothing is called negative
        ("koilocyte", "class", None),
        ("high grade", "grade", None),
        ("HSIL", "abnormal", None),
        ("no cells above threshold", None, None),
    ],
)
def test_a_category_has_the_code_of_its_class_alone(category, level, value):
    code = code_of_category(suggested(category, level), CLASSES)
    assert (code.value if code else None) == value
