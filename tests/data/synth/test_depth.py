"""A slide in several focal planes: each thing lies at a depth of its own, and is sharpest there."""

import json

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from data.annotations import read_coco
from data.synth import Scene, writer
from data.synth.depth import BLUR_PER_UM, Stack
from data.synth.noise import hash_sites
from data.synth.region import Region
from data.synth.writer import write_stack
from pipeline.slides.slide import open_slide
from scripts.synth import synth

SIZE, MPP = (420, 360), 0.5
WHOLE = Region(0, 0, *SIZE)


@pytest.fixture(scope="module")
def scene():
    return Scene(5, SIZE, MPP, "conventional", 500.0, 0.4, planes=(5, 2.0))


@pytest.fixture(scope="module")
def seen(scene):
    return [plane.draw(WHOLE) for plane in scene.in_planes()]


def renders(image):
    return lambda regions: (image[r.y : r.bottom, r.x : r.right] for r in regions)


def call(*arguments):
    app = typer.Typer()
    app.command()(synth)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def sharpness(image, nucleus, reach=12):
    """Greatest step of grey about a nucleus."""
    x, y = (int(value) for value in nucleus)
    part = image[y - reach : y + reach, x - reach : x + reach].astype(float).mean(axis=2)
    return max(np.abs(np.diff(part, axis=axis)).max() for axis in (0, 1))


class TestStack:
    def test_planes_lie_about_the_middle(self):
        assert Stack(5, 2.0, 1).places == (-4, -2, 0, 2, 4)
        assert Stack(2, 3.0, 1).places == (-1.5, 1.5)
        assert Stack(5, 2.0, 1).most_blur == pytest.approx(8 * BLUR_PER_UM)

    def test_all_lies_between_the_planes(self):
        x, y = np.random.default_rng(0).uniform(0, 1e4, (2, 5000))
        keys = hash_sites(3, np.arange(5000), np.arange(5000))
        depths = Stack(5, 2.0, 7).depths(x, y, keys)
        assert -4 <= depths.min() < -2 < 2 < depths.max() <= 4
        near = Stack(5, 2.0, 7).depths(np.full(5000, 80.0), np.full(5000, 90.0), keys)
        assert np.ptp(near) == pytest.approx(0.4 * 8, rel=0.01)  # each thing's own part


class TestScene:
    def test_cells_are_sharpest_in_the_plane_nearest_to_them(self, scene, seen):
        _, nuclei, _ = scene.truth(WHOLE)
        depths = scene.depths(WHOLE)
        inside = (nuclei > 20).all(axis=1) & (nuclei < np.array(SIZE) - 20).all(axis=1)
        assert inside.sum() >= 8
        nearest = np.abs(np.array(scene.plane_places)[:, None] - depths).argmin(axis=0)
        best = [
            int(np.argmax([sharpness(image, nucleus) for image in seen]))
            for nucleus in nuclei[inside]
        ]
        assert np.mean(np.abs(best - nearest[inside]) <= 1) >= 0.85  # neighbours overlap them
        assert len(set(best)) >= 2

    def test_planes_differ_by_blur_alone(self, seen):
        means = np.array([image.mean(axis=(0, 1)) for image in seen])
        assert np.ptp(means, axis=0).max() < 2.5  # what is blurred is density, not light

    def test_regions_meet_without_a_seam(self, scene, seen):
        plane = scene.in_planes()[4]
        left, right = plane.draw(Region(0, 0, 137, 360)), plane.draw(Region(137, 0, 283, 360))
        np.testing.assert_array_equal(np.concatenate([left, right], axis=1), seen[4])

    def test_a_slide_of_one_plane_is_what_it_was(self):
        one = Scene(5, SIZE, MPP, "conventional", 500.0, 0.4)
        assert one.depths(WHOLE) is None
        assert one.in_planes() == (one,)
        of_stack = Scene(5, SIZE, MPP, "conventional", 500.0, 0.4, planes=(3, 1.0))
        for a, b in zip(one.truth(WHOLE), of_stack.truth(WHOLE), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def images():
    x = np.arange(2300)[None, :, None]
    y = np.arange(600)[:, None, None]
    wave = 120 + 80 * np.sin(x / 61 + y / 97 + np.arange(3))
    return [np.asarray(wave + shift, np.uint8) for shift in (-30, 0, 30)]


@pytest.fixture(scope="module")
def path(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("stack") / "a.ome.tif"

    write_stack(path, (2300, 600), 0.25, list(map(renders, images)), [-2.5, 0.0, 2.5])
    return path


class TestFile:
    def test_tifffile_reads_a_stack_with_its_pyramid(self, path, images):
        with tifffile.TiffFile(path) as file:
            (series,) = file.series
            assert file.is_ome
            assert (series.axes, series.shape) == ("ZYXS", (3, 600, 2300, 3))
            assert [level.shape for level in series.levels[1:]] == [(3, 150, 575, 3)]
            stored = series.asarray().astype(int)
            assert np.abs(stored - np.stack(images)).max() <= 14
            small = series.levels[1].asarray().astype(int)
            assert np.abs(small - np.stack(images)[:, 1::4, 1::4]).mean() < 3
        xml = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (xml["SizeZ"], xml["SizeC"], xml["PhysicalSizeZ"]) == (3, 3, 2.5)
        assert [plane["PositionZ"] for plane in xml["Plane"]] == [-2.5, 0, 2.5]

    def test_its_pages_are_valid_to_ome(self, path):
        """As OME-TIFF 6 has it: a page a plane, whose SubIFDs are reduced; XML in the first."""
        with tifffile.TiffFile(path) as file:
            assert len(file.pages) == 3
            assert [page.tags.get("ImageDescription") is not None for page in file.pages] == [
                True,
                False,
                False,
            ]
            for page in file.pages:
                assert page.tile == (512, 512)
                (small,) = page.pages
                assert small.is_reduced
                assert small.tile == (512, 512)

    def test_a_large_one_is_bigtiff(self, tmp_path, images, monkeypatch):
        assert writer.needs_bigtiff((40_000, 30_000), planes=3)
        monkeypatch.setattr(writer, "needs_bigtiff", lambda *_: True)
        render = [renders(images[0]), renders(images[2])]
        write_stack(tmp_path / "a.ome.tif", (2100, 300), 0.5, render, [0, 4])
        with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
            assert file.is_bigtiff
            (series,) = file.series
            assert [level.shape for level in series.levels] == [(2, 300, 2100, 3), (2, 75, 525, 3)]
            assert np.abs(series.asarray()[1].astype(int) - images[2][:300, :2100]).max() <= 14

    def test_our_own_reader_does_too(self, path, images):
        with open_slide(path) as slide:
            assert [plane.z_um for plane in slide.planes] == [-2.5, 0, 2.5]
            assert slide.mpp == 0.25
            assert [level.downsample for level in slide.levels] == [1, 4]
            for index, image in enumerate(images):
                seen = slide.on_plane(index)
                shown = seen.read_region(2000, 100, seen.size.__class__(300, 200), 1).astype(int)
                assert np.abs(shown - image[100:300, 2000:2300]).max() <= 14


class TestCommand:
    SMALL = ("--size", "300x260", "--mpp", 0.5, "--cells-per-mm2", 600, "--abnormal", 0.3)

    def test_truth_tells_depths(self, tmp_path):
        result = call("--out", tmp_path, "--planes", 3, "--plane-step", 1.5, *self.SMALL)
        assert result.exit_code == 0, result.output
        assert {path.name for path in tmp_path.iterdir()} == {
            "slide-001.ome.tif",
            "slide-001.truth.json",
            "truth.json",
        }
        cells = json.loads((tmp_path / "truth.json").read_text())["annotations"]
        assert len(cells) > 2
        assert all(-1.5 <= cell["z_um"] <= 1.5 for cell in cells)
        assert len({cell["z_um"] for cell in cells}) > 2
        (field,) = read_coco(tmp_path / "truth.json", tmp_path).fields  # more than COCO has is left
        assert len(field.boxes) == len(cells)
        with open_slide(tmp_path / "slide-001.ome.tif") as slide:
            assert [plane.z_um for plane in slide.planes] == [-1.5, 0, 1.5]

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--planes", 0], "--planes 0 is out of range: 1 to 99"),
            (["--planes", 100], "--planes 100 is out of range"),
            (["--plane-step", 1], "give --planes, too"),
            (["--planes", 3, "--plane-step", 0], "--plane-step 0.0 is out of range"),
            (["--planes", 3, "--plane-step", "nan"], "--plane-step nan is out of range"),
            (["--planes", 3, "--fields", "x.json"], "--planes is of drawn cells"),
        ],
    )
    def test_what_is_refused(self, tmp_path, options, told):
        result = call("--out", tmp_path, *options)
        assert result.exit_code
        assert told in str(result.exception)
