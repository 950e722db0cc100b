"""A scale for each slide, from a table."""

import unicodedata
from pathlib import Path

import pytest

from configs import ConfigError
from pipeline.slides.mpp_table import MppTable, load_mpp_table


def table(folder: Path, *rows: str, head: str = "slide,mpp") -> MppTable:
    path = folder / "mpp.csv"
    path.write_text("\n".join([head, *rows]), encoding="utf-8")
    return load_mpp_table(path)


def test_a_slide_is_found_by_its_name_or_the_end_of_its_path(tmp_path):
    found = table(tmp_path, "a.svs,0.25", "x/b.svs,0.3", "y\\b.svs,0.4", "b.svs,0.5")
    assert found.find(Path("in/z/a.svs")) == 0.25
    assert found.find(Path("in/x/b.svs")) == 0.3
    assert found.find(Path("in/y/b.svs")) == 0.4
    assert found.find(Path("in/z/b.svs")) == 0.5
    assert found.find(Path("in/z/aa.svs")) is None


def test_letters_may_be_composed_or_not(tmp_path):
    found = table(tmp_path, unicodedata.normalize("NFD", "Prüfling é.svs") + ",0.25")
    assert found.find(Path("in", unicodedata.normalize("NFC", "Prüfling é.svs"))) == 0.25


def test_what_a_european_spreadsheet_writes(tmp_path):
    assert table(tmp_path, "a.svs;0,25", head="Slide;MPP").find(Path("a.svs")) == 0.25


def test_a_row_that_means_two_slides_is_refused(tmp_path):
    found = table(tmp_path, "b.svs,0.5")
    with pytest.raises(ConfigError, match=r"mpp\.csv: b\.svs may be .*x/b\.svs and .*y/b\.svs"):
        found.check([Path("x/b.svs"), Path("y/b.svs")])


def test_rows_that_mean_no_slide_are_known(tmp_path):
    found = table(tmp_path, "a.svs,0.5", "gone/b.svs,0.25")
    assert found.check([Path("in/a.svs")]) == ["gone/b.svs"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a.svs,wide"], r"line 2: a\.svs: µm per pixel: 'wide' is no number"),
        (["a.svs,"], r"line 2: a\.svs: µm per pixel: '' is no number"),
        (["a.svs,0.25", "b.svs,40"], r"line 3: b\.svs: 40 must be 0\.05 to 5"),
        (["a.svs,nan"], r"line 2: a\.svs: µm per pixel: 'nan' is no number"),
        (["a.svs,0.25", "./a.svs,0.5"], r"line 3: \./a\.svs is there twice"),
        ([" ,0.25"], "line 2: names no slide"),
        ([], "has no rows"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, rows, said):
    with pytest.raises(ConfigError, match=said):
        table(tmp_path, *rows)


def test_missing_columns_and_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="needs one column mpp; it has slide, scale"):
        table(tmp_path, "a.svs,0.25", head="slide,scale")
    with pytest.raises(ConfigError, match=r"--mpp-table .*gone\.csv: can't be read"):
        load_mpp_table(tmp_path / "gone.csv")


def test_a_changed_table_is_read_again(tmp_path):
    import os

    assert table(tmp_path, "a.svs,0.25").find(Path("a.svs")) == 0.25
    (tmp_path / "mpp.csv").write_text("slide,mpp\na.svs,0.5\n")
    os.utime(tmp_path / "mpp.csv", ns=(1, 1))
    assert load_mpp_table(tmp_path / "mpp.csv").find(Path("a.svs")) == 0.5
