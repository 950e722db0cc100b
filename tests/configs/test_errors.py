"""Messages that quote files: one printable line of bounded length, whatever stands there."""

import pickle

import pytest

from configs import ConfigError, CytoLibraError, StrictModel
from configs.errors import MOST, one_line
from configs.loading import load_config
from pipeline.errors import SlideError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a.svs: is damaged", "a.svs: is damaged"),
        ("two  spaces stay", "two  spaces stay"),
        ("not YAML:\n  line 2,\tcolumn 1:\n    ^", "not YAML: line 2, column 1: ^"),
        ("gpj\u202efit.svs", "gpj\\u202efit.svs"),
        ("a\u2028b\x1b[31m\0", "a\\u2028b\\x1b[31m\\x00"),
        ("no\udcff", "no\\udcff"),
    ],
)
def test_a_message_is_one_printable_line(text, shown):
    assert str(CytoLibraError(text)) == shown
    assert one_line(shown) == shown


def test_of_a_long_message_the_middle_is_left_out_and_the_code_stays():
    error = SlideError("a.svs: " + "x" * 10_000 + "; copy it again", "data-missing")
    told = str(error)
    assert len(told) == MOST
    assert told.startswith("a.svs: xxx")
    assert " … " in told
    assert told.endswith("; copy it again [data-missing]")
    assert str(pickle.loads(pickle.dumps(error))) == told


def test_what_yaml_says_in_many_lines_is_one(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: [1\nb: 2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, StrictModel)
    assert str(caught.value).startswith(f"{path}: not valid YAML: while parsing a flow sequence in")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
def test_a_number_that_is_none_is_no_setting(tmp_path, number):
    from pipeline.settings import ScreenSettings

    path = tmp_path / "a.yaml"
    path.write_text(f"kept: {{floor: {number}}}\n")
    with pytest.raises(ConfigError, match=r"kept\.floor"):
        load_config(path, ScreenSettings)
