"""``cytolibra tile``: tiles that lie where the manifest says."""

import csv
import errno
import os
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from blobs import blob_slide
from PIL import Image
from slidefiles import break_tiles, write_pyramid
from typer.testing import CliRunner

from configs import ConfigError
from pipeline.batch.tilesets import RECORD, prepare_tiles
from pipeline.tiles import tilereader
from scripts.cli import build_app


def run(*arguments):
    return CliRunner().invoke(build_app("tile"), ["tile", *map(str, arguments)])


def rows(out):
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tiles_show_what_the_manifest_says(tmp_path):
    image = blob_slide((700, 500), [(100, 100), (600, 400)], [1, 0], side=40)
    write_pyramid(tmp_path / "a b.tif", image, levels=1, mpp=0.25, compression="deflate")
    out = tmp_path / "tiles"
    result = run(tmp_path / "a b.tif", "--out", out, "--size", 256, "--all")
    assert result.exit_code == 0, result.stderr
    manifest = rows(out)
    assert len(manifest) == 6
    for row in manifest:
        x, y = round(float(row["x"])), round(float(row["y"]))
        shown = np.asarray(Image.open(out / row["image"]))
        expected = image[y : y + 256, x : x + 256]
        np.testing.assert_array_equal(shown[: expected.shape[0], : expected.shape[1]], expected)
    with_cells = run(tmp_path / "a b.tif", "--out", tmp_path / "few", "--size", 128)
    assert with_cells.exit_code == 0
    assert 2 <= len(rows(tmp_path / "few")) < 24


def test_tiles_less_than_a_pixel_apart_have_a_file_each(tmp_path):
    image = blob_slide((40, 40), [(20, 20)], [1], side=20)
    write_pyramid(tmp_path / "a.tif", image, levels=1, mpp=0.25, compression="deflate")
    out = tmp_path / "tiles"
    sizes = ["--size", 64, "--overlap", 63, "--tile-mpp", 0.13]
    assert run(tmp_path / "a.tif", "--out", out, *sizes, "--all").exit_code == 0
    manifest = rows(out)
    assert len({row["image"] for row in manifest}) == len(manifest) == len([*out.rglob("*.png")])


def test_a_broken_slide_is_named_and_the_others_are_tiled(tmp_path):
    image = blob_slide((300, 300), [(100, 100)], [1])
    slides = tmp_path / "slides"
    slides.mkdir()
    write_pyramid(slides / "good.tif", image, levels=1, mpp=0.25, compression="deflate")
    broken = write_pyramid(slides / "bad.tif", image, levels=1, mpp=0.25, compression="deflate")
    break_tiles(broken, range(25))
    (slides / "text.svs").write_text("no slide")
    result = run(slides, "--out", tmp_path / "out", "--all")
    assert result.exit_code == 1
    assert "bad.tif: 1 tiles can't be read in full" in result.stderr
    assert "text.svs" in result.stderr
    assert [row["image"] for row in rows(tmp_path / "out")] == ["good.tif/0_0.png"]


def slide(path, mpp=0.25, side=300):
    """A slide with a cell at each corner of its middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = blob_slide((side, side), [(80, 80), (200, 200)], [1, 1])
    return write_pyramid(path, image, levels=1, mpp=mpp, compression="deflate")


def images(out):
    """Every file below a folder but the records and the manifest, as the manifest names them."""
    found = [path for path in out.rglob("*") if path.is_file() and path.name != RECORD]
    return sorted(p.relative_to(out).as_posix() for p in found if p != out / "manifest.csv")


def listed(out):
    return sorted(row["image"] for row in rows(out))


def one_line(text):
    """The only line of a text: no traceback."""
    (line,) = text.splitlines()
    return line


def every_file(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("mpp", "told"), [(0.25, False), (0.325, False), (0.34, True), (0.5, True)]
)
def test_enlargement_is_told(tmp_path, mpp, told):
    result = run(slide(tmp_path / "a.tif", mpp), "--out", tmp_path / "out", "--all")
    assert result.exit_code == 0, result.stderr
    assert ("[mpp-coarse]" in result.stderr) == told
    assert listed(tmp_path / "out") == images(tmp_path / "out") != []


def test_more_than_twice_is_refused_and_the_others_are_tiled(tmp_path):
    slide(tmp_path / "in/coarse.tif", 0.52)
    slide(tmp_path / "in/fine.tif")
    result = run(tmp_path / "in", "--out", tmp_path / "out", "--all")
    assert result.exit_code == 1
    assert one_line(result.stderr) == (
        "error: coarse.tif: at 0.52 µm per pixel it is 2.1 times coarser than its tiles are to be "
        "(0.25 µm): cells can't be judged; --tile-mpp 0.52 writes it as it is [too-coarse]"
    )
    assert listed(tmp_path / "out") == images(tmp_path / "out") == ["fine.tif/0_0.png"]
    overridden = run(tmp_path / "in/fine.tif", "--out", tmp_path / "x", "--mpp-override", 2.0)
    assert (overridden.exit_code, images(tmp_path / "x")) == (1, [])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_leads_to_its_tiles(tmp_path):
    whole = slide(tmp_path / "whole.tif").read_bytes()
    (tmp_path / "in").mkdir()
    path = os.fsdecode(os.fsencode(tmp_path / "in") + b"/caf\xe9.tif")
    Path(path).write_bytes(whole)
    result = run(tmp_path / "in", "--out", tmp_path / "out", "--all", "--size", 200)
    assert result.exit_code == 0, result.stderr
    assert len(listed(tmp_path / "out")) == 4
    assert listed(tmp_path / "out") == images(tmp_path / "out")
    assert rows(tmp_path / "out")[0]["slide"].endswith("/caf\\udce9.tif")
    (tmp_path / "in/caf\\udce9.tif").write_bytes(whole)
    result = run(tmp_path / "in", "--out", tmp_path / "other", "--all")
    assert result.exit_code == 2
    assert "two slides would be called so" in one_line(result.stderr)


def test_a_name_like_markup_is_a_name(tmp_path):
    slide(tmp_path / "in/a[/b].tif")
    result = run(tmp_path / "in", "--out", tmp_path / "out", "--all")
    assert result.exit_code == 0, result.exception
    assert listed(tmp_path / "out") == ["a[/b].tif/0_0.png"]


@pytest.mark.parametrize(
    ("number", "told", "tiled"),
    [
        (errno.ENOSPC, ["no space left on the disk"], ["a.tif"]),
        (errno.EFBIG, ["File too large"], ["a.tif", "c.tif"]),
    ],
)
def test_what_was_finished_before_a_write_error_is_in_the_manifest(
    tmp_path, monkeypatch, number, told, tiled
):
    for name in "abc":
        slide(tmp_path / f"in/{name}.tif")
    calls = count(1)
    save = Image.Image.save

    def fail(image, path):
        if next(calls) == 2:
            raise OSError(number, os.strerror(number))
        save(image, path)

    monkeypatch.setattr(Image.Image, "save", fail)
    result = run(tmp_path / "in", "--out", tmp_path / "out", "--all")
    assert result.exit_code == 1
    assert told[0] in one_line(result.stderr)
    assert "b.tif" in result.stderr
    assert listed(tmp_path / "out") == images(tmp_path / "out")
    assert listed(tmp_path / "out") == [f"{name}/0_0.png" for name in tiled]


def test_what_was_finished_before_an_interruption_is_in_the_manifest(tmp_path, monkeypatch):
    for name in "abc":
        slide(tmp_path / f"in/{name}.tif")
    out = tmp_path / "out"
    assert run(tmp_path / "in/c.tif", "--out", out, "--all", "--size", 200).exit_code == 0
    read = tilereader.read_tile
    calls = count(1)

    def interrupt(*arguments):
        if next(calls) == 6:  # four tiles a slide
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(tilereader, "read_tile", interrupt)
    result = run(tmp_path / "in", "--out", out, "--all", "--size", 200)
    assert (result.exit_code, one_line(result.stderr)) == (130, "interrupted")
    assert {row["image"].partition("/")[0] for row in rows(out)} == {"a.tif", "c.tif"}
    assert listed(out) == images(out)


def test_a_slide_that_ends_the_process_costs_no_slide_before_it(tmp_path, monkeypatch):
    for name in "ab":
        slide(tmp_path / f"in/{name}.tif")
    out = tmp_path / "out"
    assert run(tmp_path / "in", "--out", out, "--all", "--size", 200).exit_code == 0
    before = []

    def look(*arguments):
        before.append(listed(out))
        raise ValueError("nobody foresaw this")

    monkeypatch.setattr(tilereader, "read_tile", look)
    result = run(tmp_path / "in", "--out", out, "--all")
    assert result.exit_code == 1
    assert result.stderr.count("unexpected error: ValueError") == 2
    assert before == [[], []]  # at work on them: it tells of none whose scale might be another
    assert len(listed(out)) == 8
    (out / "manifest.csv").unlink()
    monkeypatch.undo()
    assert run(tmp_path / "in/a.tif", "--out", out, "--all").exit_code == 0
    assert len(listed(out)) == 5  # one of the new, four of a slide that was not named


def test_the_manifest_grows_by_each_slide_that_is_done(tmp_path, monkeypatch):
    for name in "ab":
        slide(tmp_path / f"in/{name}.tif")
    seen = []
    read = tilereader.read_tile

    def look(*arguments):
        seen.append(listed(tmp_path / "out"))
        return read(*arguments)

    monkeypatch.setattr(tilereader, "read_tile", look)
    assert run(tmp_path / "in", "--out", tmp_path / "out", "--all").exit_code == 0
    assert seen == [[], ["a.tif/0_0.png"]]


def test_a_manifest_that_was_cut_off_within_a_row_refuses_no_later_call(tmp_path):
    name, out = "ä, b.tif", tmp_path / "out"
    for path in (slide(tmp_path / "in/a.tif"), slide(tmp_path / f"in/{name}")):
        assert run(path, "--out", out, "--all").exit_code == 0
    write(out / "ä", "as the name goes on to the comma")
    write(out / "a.tif.txt", "somebody's")
    manifest = out / "manifest.csv"
    whole = manifest.read_bytes()
    last = whole.index(b'"')  # of the name with a comma
    for end in range(last, len(whole)):
        manifest.write_bytes(whole[:end])
        assert set(prepare_tiles(out, [name])) == {"a.tif", name}
    manifest.write_bytes(whole + b"a.tif.txt,a.tif,1024,0.25,0.0,0.0,1.0\n")
    with pytest.raises(ConfigError, match=r"lists a\.tif\.txt, which no record knows"):
        prepare_tiles(out, [name])


def test_tiles_of_another_scale_take_the_place_of_the_old_ones(tmp_path):
    path, out = slide(tmp_path / "a.tif"), tmp_path / "out"
    assert run(path, "--out", out, "--size", 128, "--all").exit_code == 0
    assert len(images(out)) == 9
    result = run(path, "--out", out, "--size", 128, "--all", "--tile-mpp", 0.5)
    assert (result.exit_code, result.stderr) == (0, "")
    assert listed(out) == images(out)
    assert [row["mpp"] for row in rows(out)] == ["0.5"] * 4


def test_tiles_of_other_slides_stay_in_the_manifest(tmp_path):
    out = tmp_path / "out"
    assert run(slide(tmp_path / "a.tif"), "--out", out, "--size", 200, "--all").exit_code == 0
    (out / "a.tif/0_0.png").unlink()  # a person didn't want it
    same = run(slide(tmp_path / "b.tif"), "--out", out, "--size", 200, "--all")
    assert (same.exit_code, same.stderr) == (0, "")
    assert "3 tiles of 1 slides of earlier calls stay" in same.stdout
    other = run(slide(tmp_path / "x/c.tif"), "--out", out, "--tile-mpp", 0.5, "--all")
    assert other.exit_code == 0
    assert "2 other slides at another scale or of another size, of a.tif first" in other.stderr
    assert one_line(other.stderr).endswith("[tiles-mixed]")
    assert listed(out) == images(out)
    scales = {(row["image"].partition("/")[0], row["size"], row["mpp"]) for row in rows(out)}
    assert scales == {("a.tif", "200", "0.25"), ("b.tif", "200", "0.25"), ("c.tif", "1024", "0.5")}


def test_earlier_tiles_of_a_slide_that_fails_stay_and_are_told(tmp_path):
    path, out = slide(tmp_path / "a.tif"), tmp_path / "out"
    assert run(path, "--out", out, "--all").exit_code == 0
    before = every_file(out)
    break_tiles(path, range(25))
    result = run(path, "--out", out, "--all")
    assert result.exit_code == 1
    assert one_line(result.stderr).endswith("left out; its tiles of an earlier call stay")
    assert every_file(out) == before


def test_a_slide_without_a_tile_is_told(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", blob_slide((300, 300), [], []), levels=1)
    result = run(path, "--out", tmp_path / "out")
    assert (result.exit_code, images(tmp_path / "out"), rows(tmp_path / "out")) == (0, [], [])
    assert "no tile is written; --all writes all [nothing-screened]" in result.stderr


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


OLD = "image,slide,size,mpp,x,y,downsample\na.tif/0_0.png,a.tif,1024,0.25,0.0,0.0,1.0\n"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda out: write(out / "b.tif/0_0.json", "{}"), "b.tif/0_0.json: is no tile of an"),
        (lambda out: write(out / "b.tif/x/0_0.png", ""), "b.tif/x: is no tile of an earlier call"),
        (lambda out: write(out / "c.tif/0_0.png", ""), "c.tif/0_0.png: is no tile of an earlier"),
        (lambda out: write(out / "c.tif", ""), "c.tif: a file is in the way"),
        (lambda out: (out / "c.tif").symlink_to("nowhere"), "c.tif: is a link to nothing"),
        (lambda out: write(out / "c.tif" / RECORD, "{}"), "c.tif/.tiles.json: is no record"),
        (lambda out: write(out / "d.tif" / RECORD, "\0"), "d.tif/.tiles.json: is no record"),
        (
            lambda out: write(out / RECORD, "{}"),
            "out: has one slide's tiles; name the folder above",
        ),
        (lambda out: write(out / "manifest.csv", "mine\n"), "manifest.csv: is no manifest of"),
        (lambda out: write(out / "manifest.csv", ""), "manifest.csv: is no manifest of tiles"),
        (
            lambda out: (write(out / "manifest.csv", OLD), write(out / "a.tif/0_0.png", "")),
            "manifest.csv: lists a.tif/0_0.png, which no record knows",
        ),
    ],
)
def test_what_is_no_tile_is_never_lost(tmp_path, monkeypatch, spoil, told):
    out = tmp_path / "out"
    slide(tmp_path / "in/b.tif")
    assert run(tmp_path / "in", "--out", out, "--all").exit_code == 0
    slide(tmp_path / "in/c.tif")
    spoil(out)
    before = every_file(out)
    monkeypatch.setattr(tilereader, "read_tile", lambda *_: pytest.fail("work was begun"))
    result = run(tmp_path / "in", "--out", out, "--all")
    assert result.exit_code == 2
    assert told in one_line(result.stderr)
    assert every_file(out) == before


def test_tiles_go_neither_into_another_slides_folder_nor_into_a_file(tmp_path):
    out = tmp_path / "out"
    assert run(slide(tmp_path / "a.tif"), "--out", out, "--all").exit_code == 0
    slide(tmp_path / "in/a.tif/b.tif")
    inside = run(tmp_path / "in", "--out", out, "--all")
    assert inside.exit_code == 2
    assert "a.tif: has another slide's tiles" in one_line(inside.stderr)
    write(tmp_path / "file", "")
    file = run(tmp_path / "in", "--out", tmp_path / "file", "--all")
    assert file.exit_code == 2
    assert "can't be written: a file" in one_line(file.stderr)


def test_annotations_that_are_made_meanwhile_stay(tmp_path, monkeypatch):
    path, out = slide(tmp_path / "a.tif"), tmp_path / "out"
    assert run(path, "--out", out, "--all").exit_code == 0
    read = tilereader.read_tile

    def annotate(*arguments):
        write(out / "a.tif/0_0.json", "{}")
        return read(*arguments)

    monkeypatch.setattr(tilereader, "read_tile", annotate)
    result = run(path, "--out", out, "--all", "--tile-mpp", 0.5)
    assert result.exit_code == 1
    assert "would be lost" in one_line(result.stderr)
    assert images(out) == ["a.tif/0_0.json", "a.tif/0_0.png"]
    assert [row["mpp"] for row in rows(out)] == ["0.25"]


def test_an_empty_folder_is_a_free_place_and_a_link_leads_to_tiles(tmp_path):
    out = tmp_path / "out"
    (out / "a.tif").mkdir(parents=True)
    assert run(slide(tmp_path / "a.tif"), "--out", out, "--all").exit_code == 0
    (out / "a.tif").rename(tmp_path / "elsewhere")
    (out / "a.tif").symlink_to(tmp_path / "elsewhere")
    assert run(slide(tmp_path / "b.tif"), "--out", out, "--all").exit_code == 0
    assert listed(out) == ["a.tif/0_0.png", "b.tif/0_0.png"]
