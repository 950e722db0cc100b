"""``report.sr.dcm``, read back by pydicom and highdicom: what report.json says, unverified."""

import pydicom
import pytest
from fakes import make_alarms
from objectcases import a_report, an_image, with_classes

pytest.importorskip("highdicom", reason="DICOM objects need cytolibra[dicom]")
pytest.importorskip("dicom_validator", reason="it checks them")

import highdicom
from dicomstandard import problems

from pipeline.objects.dicom_report import DERIVED, FILE, write_structured_report

HSIL = "62061000119107"


def written(report, folder, **options):
    write_structured_report(report, an_image(**options), folder)
    with pydicom.config.strict_reading():
        return highdicom.sr.srread(folder / FILE)


def numbers(group):
    return {m.name.value: (m.value, m.unit.value) for m in group.get_measurements()}


def verdicts(group):
    return {e.name.value: e.value for e in group.get_qualitative_evaluations()}


def groups_of(document):
    found = document.content.get_image_measurement_groups()
    return {group.tracking_identifier: group for group in found}


def comments_of(document):
    group = groups_of(document)["slide"][0]
    items = group.ContentSequence
    return [item.TextValue for item in items if item.name.value == "121106"]


def test_it_is_unverified_and_by_a_device(tmp_path):
    report = a_report()
    document = written(report, tmp_path)
    assert document.VerificationFlag == "UNVERIFIED"
    assert document.PreliminaryFlag == "PRELIMINARY"
    assert document.CompletionFlag == "COMPLETE"
    assert "VerifyingObserverSequence" not in document
    (observer,) = document.content.get_observer_contexts()
    assert observer.observer_type.value == "121007"  # device
    device = observer.observer_identifying_attributes
    assert (device.name, device.serial_number) == ("CytoLibra fake", report.model.sha256)
    assert comments_of(document)[0].startswith("Found by a program and not verified")
    assert comments_of(document)[-1] == DERIVED


def test_numbers_are_the_reports(tmp_path):
    report = a_report(60, unread=((0, 0, 400, 500),))
    groups = groups_of(written(report, tmp_path))
    assert numbers(groups["slide"]) == {
        "cells": (60, "{counts}"),
        "abnormal-cells": (report.abnormal_cells, "{counts}"),
        "screened-area": (report.area.screened_mm2, "mm2"),
        "unread-area": (report.area.unread_mm2, "mm2"),
    }
    assert report.area.unread_mm2 == 0.0125
    assert list(groups) == ["slide", *report.counts]
    for name, count in report.counts.items():
        assert numbers(groups[name]) == {"cells": (count, "{counts}")}
        assert groups[name].finding_type.value == "4421005"
    categories = {n: groups[n].finding_category.value for n in ("NILM", "HSIL")}
    assert categories == {"NILM": "91723000", "HSIL": "49755003"}
    image = pydicom.Dataset.from_json(an_image())
    for group in groups.values():
        (source,) = group.source_images
        assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID


def test_what_could_not_be_read_leaves_it_partial(tmp_path):
    assert written(a_report(unread=((0, 0, 4, 5),)), tmp_path).CompletionFlag == "PARTIAL"


@pytest.mark.parametrize(
    ("changes", "scheme", "value", "meaning"),
    [
        ({"category": "HSIL", "level": "class"}, "SCT", HSIL, "HSIL on cervical Papanicolaou"),
        ({"category": "SCC", "level": "class"}, "99CYTOLIBRA", "category", "SCC"),
        ({"category": "high grade", "level": "grade"}, "99CYTOLIBRA", "category", "high grade"),
        (
            {"category": "no cells above threshold", "level": None},
            "99CYTOLIBRA",
            "no-category",
            "none: no cells above threshold",
        ),
    ],
)
def test_the_category_is_coded_where_it_has_a_code(tmp_path, changes, scheme, value, meaning):
    report = a_report()
    suggestion = report.suggestion.model_copy(update=changes)
    document = written(report.model_copy(update={"suggestion": suggestion}), tmp_path)
    found = verdicts(groups_of(document)["slide"])["suggestion"]
    assert (found.scheme_designator, found.value) == (scheme, value)
    assert found.meaning.startswith(meaning)


@pytest.mark.parametrize(
    ("satisfactory", "value"), [(True, "125152006"), (False, "125154007"), (None, "no-verdict")]
)
def test_adequacy_is_coded(tmp_path, satisfactory, value):
    report = a_report()
    adequacy = report.adequacy.model_copy(update={"satisfactory": satisfactory, "reason": "so"})
    document = written(report.model_copy(update={"adequacy": adequacy}), tmp_path)
    assert verdicts(groups_of(document)["slide"])["adequacy"].value == value
    assert "Adequacy: so" in comments_of(document)


def test_the_score_of_a_rule_and_warnings_are_told(tmp_path):
    report = a_report(warnings=("the slide is blue",), alarms=make_alarms())
    rated = report.suggestion.model_copy(update={"score": 0.25, "suspicious": False})
    document = written(report.model_copy(update={"suggestion": rated}), tmp_path)
    assert numbers(groups_of(document)["slide"])["slide-score"] == (0.25, "1")
    told = comments_of(document)
    assert "By the slide rule not suspicious" in told
    assert "Warning: the slide is blue [uncoded]" in told


@pytest.mark.parametrize("name", ["ДИСПЛАЗИЯ", "x" * 70, "a\\b", "\t"])
def test_it_is_what_the_standard_asks_for(tmp_path, name):
    document = written(with_classes(a_report(), name), tmp_path, patient="Müller^Zoë")
    assert problems(tmp_path / FILE) == []
    assert document.PatientName == "Müller^Zoë"
    schemes = document.CodingSchemeIdentificationSequence
    assert [one.CodingSchemeDesignator for one in schemes] == ["99CYTOLIBRA"]
