"""Text that DICOM and FHIR take."""

import pytest

from pipeline.objects.text import free_text, long_string


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("HSIL", "HSIL"),
        (" a\tb\n c ", "a b c"),
        ("C:\\x", "C:/x"),  # a backslash would part two values
        ("ДИСПЛАЗИЯ 上皮", "ДИСПЛАЗИЯ 上皮"),
        ("", "-"),
        ("\x00\x1b", "-"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 63 + "…"),
        ("a\udcff", "a/udcff"),
    ],
)
def test_long_strings(text, written):
    assert long_string(text) == written
    assert len(long_string(text)) <= 64


def test_free_text_keeps_lines():
    assert free_text("a\n\tb\x00c\\d") == "a\n\tb c\\d"
    assert free_text(" \x07 ") == "-"
    assert free_text("\udcff") == "\\udcff"
