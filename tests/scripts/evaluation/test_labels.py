"""A table of slides with known outcome."""

import pytest

from scripts.evaluation.labels import read_labels

SLIDES = ["a.svs", "b.svs", "c.svs"]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            ["slide,label", "a,NILM", "b,HSIL"],
            "no row says the patient: each counts as a patient of its own, of whom nothing else is "
            "seen",
        ),
        (
            ["slide,label,patient", "a,NILM,p", "b,HSIL,", "c,HSIL,"],
            "of 2 of 3 slides no row says the patient: each counts as a patient of its own, of "
            "whom nothing else is seen",
        ),
        (["slide,label,patient", "a,NILM,p", "b,HSIL,p"], None),
    ],
)
def test_slides_without_a_patient_are_told(rows, text, tmp_path):
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    found = read_labels(SLIDES, tmp_path / "labels.csv", None)
    assert [doubt.code for doubt in found.doubts] == (["group-unknown"] if text else [])
    assert [doubt.text for doubt in found.doubts] == ([text] if text else [])
