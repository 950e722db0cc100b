"""Codes of warnings and refusals: stable, documented, and only those."""

import pickle

import pytest
from pydantic import ValidationError

from configs import Doubt
from configs.codes import ANNOTATIONS, BATCHES, REFUSALS, SLIDES, TRAINING, WARNINGS
from pipeline.errors import SlideError


def test_every_code_is_told_once_and_says_what_to_do():
    assert len(WARNINGS) == len(SLIDES) + len(BATCHES) + len(TRAINING) + len(ANNOTATIONS)
    assert not WARNINGS.keys() & REFUSALS.keys()
    for code, entry in {**WARNINGS, **REFUSALS}.items():
        assert code == code.lower()
        assert entry.means.endswith(".")
        assert entry.todo.endswith(".")


def test_an_unknown_code_is_a_fault_of_the_programmer():
    with pytest.raises(ValidationError, match="unknown code"):
        Doubt(code="no-such-code", text="x")
    with pytest.raises(AssertionError):
        SlideError("x", "no-such-code")


def test_a_refusal_keeps_its_code_on_its_way_between_processes():
    error = pickle.loads(pickle.dumps(SlideError("a.svs: carries no scale", "mpp-missing")))
    assert (str(error), error.code) == ("a.svs: carries no scale [mpp-missing]", "mpp-missing")
