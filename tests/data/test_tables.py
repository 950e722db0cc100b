"""Tables as spreadsheets write them: what they hold comes out the same, or the fault is named."""

import pytest

from configs import ConfigError
from data.tables import decimal_mark, decode, number, numbers, parse_sheet, read_records, read_sheet

TEXT = "Bild;Größe\na.png;10,5\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_encodings_that_can_be_told_are_not_worth_a_word(tmp_path, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.encode(encoding))
    sheet = read_sheet(path)
    assert sheet.header == ("Bild", "Größe")
    assert sheet.rows == (("a.png", "10,5"),)
    assert sheet.doubts == ()


def test_an_encoding_that_is_assumed_is_told(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.encode("latin-1"))
    sheet = read_sheet(path)
    assert sheet.header == ("Bild", "Größe")
    assert [doubt.code for doubt in sheet.doubts] == ["encoding-assumed"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04\x14\x00", "a workbook; save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1", "a workbook; save it as CSV"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not text"),
        (b"a,\x81\xff\n", "not text"),
        (b"a,b\n\0,\0\0\n", "not text"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"sep=;\r\n", "is empty"),
        (b'a,b\n1,2\n"3,4\n', r"line 3: unexpected end of data"),
        (b'a,b\n"1"2,3\n', r"line 2: ',' expected"),
        (b"x,y,class\n10,5,20,5,HSIL\n", r"line 2: 5 cells, where the header has 3"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, data, message):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"t.csv: can't be read: .*{message}"):
        read_sheet(path)


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv: can't be read: No such file"):
        read_sheet(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "text",
    [
        "a;b,c;\n1;2;\n",
        "sep=;\r\na;b,c\r\n1;2\r\n",
        '"sep=;"\na;b,c\n1;2\n',
        "\n \na\t\tb,c\n1\t\t2\n",
        '"a","b,c"\n"1","2"\n',
        "a||b,c\r1||2\r",
        "a;b,c;\n1;2;\n;;\n\n",
    ],
)
def test_separators_and_blank_rows(text):
    sheet = parse_sheet(text)
    assert [name for name in sheet.header if name] == ["a", "b,c"]
    assert [[cell for cell in row if cell] for row in sheet.rows] == [["1", "2"]]


def test_rows_know_their_lines():
    sheet = parse_sheet('a,b\n\n1,"two\nlines"\n\n3,4\n')
    assert sheet.rows == (("1", "two\nlines"), ("3", "4"))
    assert sheet.lines == (3, 6)
    assert sheet.records()[1] == (6, {"a": "3", "b": "4"})


def test_a_short_row_has_empty_cells():
    assert parse_sheet("A,b\n1\n").records() == [(2, {"a": "1", "b": ""})]


def test_a_column_twice_is_one_where_both_say_the_same():
    sheet = parse_sheet("Slide,,slide,\na,x,a,y\nb\n")
    with pytest.raises(ValueError, match=r"line 3: has the column slide twice, with 'b' and ''; "):
        sheet.records()
    assert parse_sheet("Slide,,slide,\na,x,a,y\n").records()[0][1]["slide"] == "a"


def test_a_column_that_says_two_things_is_refused_with_its_file(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,slide,slide\na.png,A,B\n")
    with pytest.raises(ConfigError, match=r"t\.csv: line 2: has the column slide twice"):
        read_records(path)


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["10", "-3.25", "1e3", ".5"], [10, -3.25, 1000, 0.5]),
        (["10,5", "1,234", "7"], [10.5, 1.234, 7]),
        (["0,252"], [0.252]),
        (["12345,678"], [12345.678]),
        (["1.234"], [1.234]),
    ],
)
def test_numbers_with_points_or_commas(texts, values):
    assert numbers(texts) == values


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1,234"], "1,234 may be a thousand or a fraction"),
        (["1,234", "56"], "may be a thousand"),
        (["10.5", "10,5"], "10.5 and 10,5: either a point or a comma"),
        (["1,234", "10.5"], "10.5 and 1,234: either"),
    ],
)
def test_a_comma_that_may_mean_two_things_is_told(texts, message):
    with pytest.raises(ValueError, match=message):
        decimal_mark(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.234,5", "without marks for thousands"),
        ("1,234.5", "without marks for thousands"),
        ("1 234", "without marks for thousands"),
        ("1'234", "without marks for thousands"),
        ("1_000", "is no number$"),
        ("nan", "is no number$"),
        ("inf", "is no number$"),
        ("10. Mai", "is no number$"),
        ("\u0661\u0662", "is no number"),
        ("", "is no number$"),
    ],
)
def test_what_is_no_number_is_told(text, message):
    for mark in ".,":
        with pytest.raises(ValueError, match=message):
            number(text, mark)


def test_text_of_utf_8_is_not_assumed():
    assert decode("é".encode()).assumed == ""
    assert decode("é".encode("latin-1")).assumed == "cp1252"
