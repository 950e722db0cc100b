"""A table of slides with known outcome."""

import pytest

from configs import ConfigError
from scripts.evaluation.labels import is_positive, read_labels

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


@pytest.mark.parametrize("word", ["positive", "Abnormal", "1", "yes", "true"])
def test_a_word_does_not_say_which_category_it_is(word, tmp_path):
    assert is_positive(word, None)
    assert is_positive(word, "ASC-US")  # any abnormal one
    (tmp_path / "labels.csv").write_text(f"slide,label\na,NILM\nb,{word}\n")
    message = f"line 3: label '{word}' says no category: whether it is HSIL or more severe can't"
    with pytest.raises(ConfigError, match=message):
        read_labels(SLIDES, tmp_path / "labels.csv", "HSIL")
    assert not is_positive("negative", "HSIL")


@pytest.mark.parametrize(
    ("least", "message"), [("nilm", "is the normal category"), ("odd", "no category of the")]
)
def test_what_is_no_abnormal_category_can_not_be_positive(least, message, tmp_path):
    """Normal slides would be positive; and no line of the table is to blame."""
    (tmp_path / "labels.csv").write_text("slide,label\na,NILM\nb,HSIL\n")
    with pytest.raises(ConfigError, match=f"^--positive {least}: {message}"):
        read_labels(SLIDES, tmp_path / "labels.csv", least)


def test_a_slide_whose_name_is_no_text_is_found_by_its_escapes(tmp_path):
    """As the reviews' labels.csv and the summary write it."""
    names = ["day/\udcb2\udce2.tif", "b.tif"]
    for written in ("day/\\udcb2\\udce2.tif", "\\udcb2\\udce2.tif", "\\udcb2\\udce2"):
        (tmp_path / "labels.csv").write_text(f"slide,label\n{written},HSIL\nb,NILM\n")
        found = read_labels(names, tmp_path / "labels.csv", None)
        assert {name: one.is_positive for name, one in found.outcomes.items()} == {
            names[0]: True,
            "b.tif": False,
        }
        assert not found.missing
