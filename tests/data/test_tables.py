"""Tables as spreadsheets write them."""

import pytest

from configs import ConfigError
from data.tables import decode, parse_table, read_table

ROWS = ((2, ("a.svs", "0.25")), (3, ("b.svs", "0.5")))


@pytest.mark.parametrize(
    "text",
    [
        "slide,mpp\na.svs,0.25\nb.svs,0.5\n",
        "slide;mpp\r\na.svs;0.25\r\nb.svs;0.5\r\n",
        "slide\tmpp\na.svs\t0.25\nb.svs\t0.5",
        '"slide","mpp"\n"a.svs"," 0.25 "\nb.svs,0.5\n',
        "slide,mpp,,\na.svs,0.25,,\nb.svs,0.5\n",
    ],
)
def test_any_delimiter_gives_the_same_rows(text):
    table = parse_table(text)
    assert table.header[:2] == ("slide", "mpp")
    assert tuple((line, row[:2]) for line, row in table.rows) == ROWS


def test_a_first_line_may_name_the_delimiter():
    table = parse_table("sep=;\r\nslide;mpp\r\na,1.svs;0,25\r\n")
    assert table.header == ("slide", "mpp")
    assert table.rows == ((3, ("a,1.svs", "0,25")),)


def test_lines_are_counted_through_quoted_ones_and_blank_rows():
    table = parse_table('slide,note\na,"two\nlines"\n\n;\n,\nb,x\n')
    assert table.rows == ((2, ("a", "two\nlines")), (5, (";", "")), (7, ("b", "x")))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_spreadsheets(tmp_path, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes("slide,mpp\nPrüfling é.svs,0.25\n".encode(encoding))
    table = read_table(path)
    assert table.rows == ((2, ("Prüfling é.svs", "0.25")),)
    assert table.encoding == encoding


def test_every_byte_is_some_text():
    text, encoding = decode(bytes(range(128, 256)))
    assert (len(text), encoding) == (128, "cp1252")


def test_too_many_values_name_the_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("slide,mpp\na,0.25\nb,0,25\n")
    with pytest.raises(ConfigError, match=r"t\.csv: line 3: has 3 values"):
        read_table(path)


@pytest.mark.parametrize("text", ["", "\n", ",,\n1,2,3\n"])
def test_without_a_header_there_is_no_table(text):
    with pytest.raises(ValueError, match="no header"):
        parse_table(text)
