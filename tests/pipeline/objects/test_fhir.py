"""``report.fhir.json``: valid, preliminary, naming nobody, and what report.json says.

Validated by `fhir.resources` as R4B (4.3.0), which that package has instead of R4 (4.0.1): the
resources that are used here are the same in both.
"""

import json
from datetime import UTC, datetime

import pytest
from objectcases import a_report, with_classes

from pipeline.objects.fhir import FILE, diagnostic_report, write_fhir

NOW = datetime(2026, 11, 27, 9, 30, 1, 999, tzinfo=UTC)


def made(report):
    return diagnostic_report(report, NOW)


def observations(resource):
    return {one["id"]: one for one in resource["contained"] if one["resourceType"] == "Observation"}


def changed(report, part, **changes):
    return report.model_copy(update={part: getattr(report, part).model_copy(update=changes)})


@pytest.mark.parametrize(
    "names", [(), ("ДИСПЛАЗИЯ",), ("x" * 300, '<b>"&\\'), ("\t",), ("a\x00b",)], ids=str
)
def test_it_is_valid(tmp_path, names):
    module = pytest.importorskip("fhir.resources.R4B.diagnosticreport")
    report = with_classes(a_report(warnings=("a < b & c",)), *names)
    write_fhir(report, tmp_path)
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    resource = module.DiagnosticReport.model_validate_json(text)
    assert resource.status == "preliminary"
    assert len(resource.result) == len(report.counts) + 4
    assert "a &lt; b &amp; c" in resource.text.div
    assert resource.issued.tzinfo is not None
    broken = json.loads(text) | {"status": None}
    with pytest.raises(ValueError, match="status"):
        module.DiagnosticReport.model_validate(broken)


def test_everything_that_is_referred_to_is_in_it():
    resource = made(a_report())
    inside = {f"#{one['id']}" for one in resource["contained"]}
    assert len(inside) == len(resource["contained"])
    referred = {one["reference"] for one in resource["result"] + resource["specimen"]}
    for one in observations(resource).values():
        referred |= {one["device"]["reference"], one["specimen"]["reference"]}
    assert referred == inside


def test_all_of_it_is_preliminary_and_asks_for_a_person():
    resource = made(a_report())
    assert resource["status"] == "preliminary"
    assert "a person must review it" in resource["conclusion"]
    for one in observations(resource).values():
        assert one["status"] == "preliminary"
        assert "a person must review it" in one["note"][-1]["text"]
    assert resource["issued"] == "2026-11-27T09:30:01+00:00"


def test_nobody_is_named():
    text = json.dumps(made(a_report()))
    for key in ("subject", "performer", "Patient", "resultsInterpreter"):
        assert key not in text


def test_counts_are_the_reports():
    report = a_report(60, unread=((0, 0, 400, 500),))
    found = observations(made(report))
    for number, (name, count) in enumerate(report.counts.items(), start=1):
        one = found[f"count-{number}"]
        assert one["code"] == {"text": f"Number of cells called {name}"}
        assert one["valueQuantity"] == {
            "value": count,
            "unit": "cells",
            "system": "http://unitsofmeasure.org",
            "code": "{cells}",
        }
    assert found["abnormal"]["valueQuantity"]["value"] == report.abnormal_cells
    assert found["area"]["valueQuantity"]["value"] == report.area.screened_mm2
    assert found["area"]["note"][0]["text"] == "0.0125 mm2 could not be read"


def test_a_category_with_a_code_has_it_twice():
    report = changed(a_report(), "suggestion", category="LSIL", level="class")
    resource = made(report)
    coding = {
        "system": "http://snomed.info/sct",
        "code": "62051000119105",
        "display": "Low grade squamous intraepithelial lesion on cervical Papanicolaou smear",
    }
    concept = {"coding": [coding], "text": "LSIL"}
    assert resource["conclusionCode"] == [concept]
    assert observations(resource)["category"]["valueCodeableConcept"] == concept


@pytest.mark.parametrize("level", ["grade", "abnormal", None])
def test_a_category_without_a_code_is_text(level):
    report = changed(a_report(), "suggestion", category="high grade", level=level)
    resource = made(report)
    assert "conclusionCode" not in resource
    assert observations(resource)["category"]["valueCodeableConcept"] == {"text": "high grade"}


@pytest.mark.parametrize(("verdict", "code"), [(True, "125152006"), (False, "125154007")])
def test_adequacy_is_coded(verdict, code):
    report = changed(a_report(), "adequacy", satisfactory=verdict)
    one = observations(made(report))["adequacy"]
    assert one["valueCodeableConcept"]["coding"][0]["code"] == code


def test_adequacy_that_is_not_known_has_no_value():
    report = changed(a_report(), "adequacy", satisfactory=None, reason="nobody looked")
    one = observations(made(report))["adequacy"]
    assert "valueCodeableConcept" not in one
    assert one["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert one["dataAbsentReason"]["text"] == "nobody looked"


def test_the_report_and_the_slide_are_named():
    report = changed(a_report(), "slide", path="/data/Anna/slide 1.svs")
    resource = made(report)
    assert resource["code"]["coding"][0]["code"] == "47528-5"
    assert resource["category"][0]["coding"][0]["code"] == "CP"
    (specimen,) = [one for one in resource["contained"] if one["id"] == "specimen"]
    assert specimen["identifier"][0]["value"] == "slide 1.svs"
    assert "Anna" not in json.dumps(resource)
