"""Codes of findings in DICOM and FHIR objects, each with where it was looked up.

What no published source was found for is written as text, or in a scheme of our own; it is never
guessed. `OWN` codes mean what their words say, and nothing beyond CytoLibra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.cells.classes import CellClass, find_category
from pipeline.reports.triage import Suggestion

OWN = "99CYTOLIBRA"
"""Designator of our own scheme; DICOM keeps those that begin with 99 for private ones (PS3.16)."""

SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
}
"""How FHIR calls the schemes that both know."""

PS3_16 = "DICOM PS3.16, as pydicom.sr.codedict has it"
_LT = "https://build.fhir.org/ig/HL7LT/ig-lt-cervical/en"
CONCLUSIONS = f"{_LT}/ValueSet-cytology-conclusion-lt-cervical.json"
TEST_TYPES = f"{_LT}/ValueSet-cervical-cytology-test-type.html"
REPORT_TYPES = "https://build.fhir.org/ig/TWNHIFHIR/pas/ValueSet-report-type.html"


@dataclass(frozen=True)
class Code:
    """A coded concept.

    Attributes:
        scheme: designator, as DICOM has it.
        value: at most 16 characters.
        meaning: at most 64 characters, for DICOM.
        source: where the code was looked up; empty for our own.
        display: the name in full, where that is longer.
    """

    scheme: str
    value: str
    meaning: str
    source: str = ""
    display: str = ""

    @property
    def name(self) -> str:
        """The name in full."""
        return self.display or self.meaning


CELL = Code("SCT", "4421005", "Cell", PS3_16)
ANATOMICAL = Code("SCT", "91723000", "Anatomical Structure", PS3_16)
ABNORMAL_STRUCTURE = Code("SCT", "49755003", "Morphologically Abnormal Structure", PS3_16)
SCORE = Code("SCT", "246262008", "Score", PS3_16)
COMMENT = Code("DCM", "121106", "Comment", PS3_16)
DEVICE = Code("DCM", "121007", "Device", PS3_16)
ARTIFICIAL_INTELLIGENCE = Code("DCM", "123110", "Artificial Intelligence", PS3_16)
NO_UNITS = Code("UCUM", "1", "no units", PS3_16)
MM2 = Code("UCUM", "mm2", "square millimeter", PS3_16)
COUNTS = Code("UCUM", "{counts}", "Counts", PS3_16)

SATISFACTORY = Code("SCT", "125152006", "Specimen satisfactory for evaluation", CONCLUSIONS)
UNSATISFACTORY = Code("SCT", "125154007", "Specimen unsatisfactory for evaluation", CONCLUSIONS)
CYTOLOGY_TEST = Code("SCT", "416107004", "Cervical cytology test", TEST_TYPES)
CYTOLOGY_REPORT = Code(
    "LN",
    "47528-5",
    "Cytology report of Cervical or vaginal smear, Cyto stain",
    REPORT_TYPES,
    "Cytology report of Cervical or vaginal smear or scraping Cyto stain",
)

CATEGORIES = {
    "ASC-US": Code(
        "SCT",
        "441087007",
        "ASC-US on cervical Papanicolaou smear",
        CONCLUSIONS,
        "Atypical squamous cells of undetermined significance on cervical Papanicolaou smear",
    ),
    "LSIL": Code(
        "SCT",
        "62051000119105",
        "LSIL on cervical Papanicolaou smear",
        CONCLUSIONS,
        "Low grade squamous intraepithelial lesion on cervical Papanicolaou smear",
    ),
    "ASC-H": Code(
        "SCT",
        "441088002",
        "ASC-H on cervical Papanicolaou smear",
        CONCLUSIONS,
        "Atypical squamous cells on cervical Papanicolaou smear cannot exclude high grade squamous "
        "intraepithelial lesion",
    ),
    "AGC": Code(
        "SCT",
        "441219009",
        "Atypical glandular cells on cervical Papanicolaou smear",
        CONCLUSIONS,
    ),
    "HSIL": Code(
        "SCT",
        "62061000119107",
        "HSIL on cervical Papanicolaou smear",
        CONCLUSIONS,
        "High grade squamous intraepithelial lesion on cervical Papanicolaou smear",
    ),
}
"""Of a slide, by the Bethesda category. NILM has none: nothing here calls a slide negative. The
codes found for AIS, SCC and adenocarcinoma are of tissue, not of a smear; they stay text."""

SCORE_ABNORMAL = Code(OWN, "score-abnormal", "Score of any abnormal class")
SCORE_LOW = Code(OWN, "score-low-grade", "Score of any low-grade class")
SCORE_HIGH = Code(OWN, "score-high-grade", "Score of any high-grade class")
CELL_COUNT = Code(OWN, "cells", "Number of cells at or above threshold")
ABNORMAL_COUNT = Code(OWN, "abnormal-cells", "Number of abnormal cells at or above threshold")
UNREAD_AREA = Code(OWN, "unread-area", "Area that could not be read")
SCREENED_AREA = Code(OWN, "screened-area", "Area that was screened")
SLIDE_SCORE = Code(OWN, "slide-score", "Score of the slide by a calibrated rule")
SUGGESTION = Code(OWN, "suggestion", "Category suggested by a rule")
ADEQUACY = Code(OWN, "adequacy", "Adequacy suggested by a rule")
NONE_SUGGESTED = Code(OWN, "no-category", "No category suggested")
NO_VERDICT = Code(OWN, "no-verdict", "No verdict on adequacy")


def code_of_category(suggestion: Suggestion, classes: Sequence[CellClass]) -> Code | None:
    """The published code of a suggested category; None where it has none, or is a grade."""
    known = [c.name for c in classes if c.abnormal]
    if suggestion.level != "class" or suggestion.category not in known:
        return None
    category = find_category(suggestion.category)
    return CATEGORIES.get(category.name) if category else None


def published() -> list[Code]:
    """All codes of published schemes that are in use, with their sources."""
    return [c for c in (*globals().values(), *CATEGORIES.values()) if _is_published(c)]


def _is_published(value: object) -> bool:
    return isinstance(value, Code) and value.scheme != OWN
