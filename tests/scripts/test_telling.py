"""What is odd about annotations reaches people, once, with its code."""

from pathlib import Path

import pytest
from annotatedfields import field

from configs import ConfigError, Doubt
from data.fields.fieldset import FieldSet
from scripts.telling import refuse_doubts, tell_doubts

TWICE = Doubt(code="cells-twice", text="2 cells stand there twice")
CROWDS = Doubt(code="crowds-ignored", text="5 crowds are ignored")


def test_each_is_told_once_on_stderr(capsys):
    tell_doubts(FieldSet(("A",), (), (), (TWICE, CROWDS)), FieldSet(("A",), (), (), (CROWDS,)))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "warning: 2 cells stand there twice [cells-twice]",
        "warning: 5 crowds are ignored [crowds-ignored]",
    ]


def test_strict_makes_an_error_of_all():
    refuse_doubts(FieldSet(("A",), (field(Path("a.png")),)))
    with pytest.raises(ConfigError, match=r"twice \[cells-twice\]; 5 crowds are ignored \[crowds"):
        refuse_doubts(FieldSet(("A",), (), (), (TWICE, CROWDS)))
