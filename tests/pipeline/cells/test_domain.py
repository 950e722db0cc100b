"""Whether cells are of the model's domain: the finding, its words, and facts from fields."""

from dataclasses import replace

import numpy as np
import pytest
from drawncells import cell

from data.annotations import read_coco
from data.fields.images import FieldImages
from models.card import DomainFacts
from pipeline.cells.domain import FEWEST_CELLS, doubts_of_domain, judge_looks, version_of_domain
from pipeline.cells.domain_facts import describe_domain, look_at_field
from pipeline.cells.looks import LOOKS, SIDE, measure_looks

STREAKS = np.repeat(cell()[:, :1], SIDE, axis=1)


def looks_of(color_seed, count=8):
    """Cells of one field: colours of its own, each a little different."""
    rng = np.random.default_rng(color_seed)
    nucleus, around = rng.normal((90, 60, 120), 8), rng.normal((150, 200, 190), 12)
    return measure_looks(
        np.array([cell(nucleus, around + rng.normal(0, 4, 3), seed) for seed in range(count)])
    )


@pytest.fixture(scope="module")
def facts():
    fields = [looks_of(seed) for seed in range(60)]
    wholes = [str(seed) for seed in range(60)]
    apart = [looks_of(100 + seed) for seed in range(41)]
    return describe_domain(fields, wholes, apart, "drawn fields")


def test_facts_say_what_they_rest_on(facts):
    assert (facts.fields, facts.checked, facts.data) == (60, 101, "drawn fields")
    assert {name: len(one.looks) for name, one in facts.aspects.items()} == {
        "stain": 6,
        "structure": 4,
    }
    assert facts.aspects["stain"].share == pytest.approx(2 / 102, abs=1e-4)
    assert facts.aspects["structure"].share == pytest.approx(1 / 102, abs=1e-4)
    assert DomainFacts.model_validate_json(facts.model_dump_json()) == facts


def test_cells_of_the_domain_are_within(facts):
    finding = judge_looks(looks_of(1000), facts)
    assert finding.within is True
    assert finding.cells == 8
    assert doubts_of_domain(finding) == []


def test_another_stain_is_told_by_name(facts):
    pink = measure_looks(np.array([cell((120, 60, 60), (240, 150, 160), s) for s in range(20)]))
    finding = judge_looks(pink, facts)
    assert finding.within is False
    assert finding.aspects["stain"].distance > finding.aspects["stain"].limit
    (doubt,) = doubts_of_domain(finding)
    assert doubt.code == "out-of-domain"
    assert "their stain lies" in doubt.text
    assert "colour" in doubt.text


def test_another_structure_is_told_by_name(facts):
    finding = judge_looks(np.repeat(measure_looks(STREAKS[None]), 20, axis=0), facts)
    assert finding.within is False
    assert "their structure lies" in finding.reason


def test_of_few_cells_nothing_is_said(facts):
    finding = judge_looks(looks_of(0, FEWEST_CELLS - 1), facts)
    assert (finding.within, finding.aspects) == (None, {})
    assert "4 cells are too few" in finding.reason
    assert doubts_of_domain(finding) == []


def test_too_few_fields_describe_nothing():
    with pytest.raises(ValueError, match="say nothing about how they vary"):
        describe_domain([looks_of(0)] * 5, ["a"] * 5, [], "few")


def test_other_facts_have_another_version(facts):
    other = facts.model_copy(update={"data": "others"})
    versions = {version_of_domain(facts), version_of_domain(other), version_of_domain(None)}
    assert len(versions) == 3


def test_a_cell_at_the_border_has_white_beyond(coco):
    """At 0.25 µm/px a picture is 128 px wide; the field is 200 x 150 px."""
    fields = read_coco(*coco)
    images = FieldImages(fields.fields)
    centers = np.array([[0.0, 0.0], [100.0, 75.0], [-500.0, 0.0]])
    corner, middle, outside = look_at_field(images, 0, fields.fields[0], centers)
    white = measure_looks(np.full((1, SIDE, SIDE, 3), 255, np.uint8))[0]
    assert outside == pytest.approx(white)
    place = list(LOOKS).index("nuclear_density")
    assert white[place] < corner[place] < middle[place]


def test_the_scale_of_a_field_counts(coco):
    fields = read_coco(*coco)
    images = FieldImages(fields.fields)
    finer = replace(fields.fields[0], mpp=0.125)
    centers = np.array([[140.0, 80.0]])
    both = [look_at_field(images, 0, field, centers)[0] for field in (fields.fields[0], finer)]
    assert not np.allclose(*both)
