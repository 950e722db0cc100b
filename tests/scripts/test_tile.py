"""``cytolibra tile``: tiles that lie where the manifest says."""

import csv

import numpy as np
from blobs import blob_slide
from PIL import Image
from slidefiles import break_tiles, write_pyramid
from typer.testing import CliRunner

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
