"""``run.json`` is what its published schema says."""

import json

from jsonschema import Draft202012Validator

from pipeline.batch.run_record import SCHEMA, RunRecord, SlideRecord, schema_text


def test_the_schema_is_published_as_the_record_is():
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "run make docs"
    Draft202012Validator.check_schema(json.loads(schema_text()))


def test_a_record_of_another_shape_is_seen():
    schema = json.loads(schema_text())
    slides = Draft202012Validator({"$defs": schema["$defs"], **schema["properties"]["slides"]})
    good = SlideRecord(path="a.svs", status="complete").as_json()
    assert slides.is_valid({"a.svs": good})
    assert not slides.is_valid({"a.svs": good | {"status": "done"}})
    assert set(schema["properties"]) == set(RunRecord.model_fields)
