"""Damaged, contradictory and hostile files: each folder of ``tests/cases`` is one, with its end."""

import random
import shutil
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from annotationfiles import HEIGHT, MPP, WIDTH, WRITERS
from hostilefiles import NAME, SLIDES, change, make
from mutated import FILES, KINDS, WAYS, SomeFailedError, make_batch
from PIL import Image
from slidefiles import picture

from configs import CytoLibraError
from data.annotations import ImageInfo, read_fields
from pipeline.slides.slide import open_slide

CASES = Path(__file__).parent / "cases"
RECIPES = {path.parent.name: path for path in sorted(CASES.glob("*/case.yaml"))}

SMALL = 3000
"""Longest side in pixels of a slide that is compared whole with the picture it was made of."""


@cache
def recipe(name):
    return yaml.safe_load(RECIPES[name].read_text(encoding="utf-8"))


def refused(expected, read, folder):
    """Whether reading ends in the words and the code that a case expects, in one line."""
    with pytest.raises(CytoLibraError) as caught:
        read()
    message = str(caught.value).replace(str(folder), "")
    assert expected["refused"] in message
    assert len(message.splitlines()) == 1
    code = expected.get("code")
    assert message.endswith(f"[{code}]") if code else not message.endswith("]")


@pytest.mark.parametrize("name", [n for n in RECIPES if recipe(n)["base"] in SLIDES])
def test_slide(name, tmp_path):
    case = recipe(name)
    path, expected = change(make(case["base"], tmp_path), case["changes"]), case["expect"]
    if "refused" in expected:
        refused(expected, lambda: open_slide(path, case.get("mpp")), tmp_path)
        return
    with open_slide(path, case.get("mpp")) as slide:
        assert [slide.size.width, slide.size.height] == expected["size"]
        assert slide.mpp == pytest.approx(expected.get("mpp", MPP), abs=1e-4)
        assert [doubt.code for doubt in slide.doubts] == expected.get("doubts", [])
        small = max(slide.size.width, slide.size.height) < SMALL
        pixels, readable = slide.overview(1 if small else 16)
    assert 1 - readable.mean() == pytest.approx(expected["unread"], abs=0.002)
    if readable.any():
        left, top, *size = expected.get("drawn", [0, 0, slide.size.width, slide.size.height])
        drawn, part = picture(*size).astype(int), np.s_[top : top + size[1], left : left + size[0]]
        assert np.abs(drawn - pixels[part])[readable[part]].mean() < 3


@pytest.mark.parametrize("name", [n for n in RECIPES if recipe(n)["base"] in WRITERS])
def test_annotations(name, tmp_path):
    case = recipe(name)
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), "white").save(images / NAME)
    path, expected = change(make(case["base"], tmp_path / "ann"), case["changes"]), case["expect"]

    def read():
        info = ImageInfo(WIDTH, HEIGHT, MPP)
        return read_fields(path, [images], info_of=lambda _: info)

    if "refused" in expected:
        refused(expected, read, tmp_path)
    else:
        assert sum(len(field.boxes) for field in read().fields) == expected["boxes"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """A folder of reports as all cases of one begin; its copies keep the times of files."""
    folder = tmp_path_factory.mktemp("batch")
    make_batch(folder)
    return folder


@pytest.mark.parametrize("name", [n for n in RECIPES if recipe(n)["base"] in FILES])
def test_results(name, batch, tmp_path):
    """Each is read in the way that it names; the commands are those of people."""
    case = recipe(name)
    shutil.copytree(batch, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob(FILES[case["base"]])
    change(path, case["changes"])
    before, expected = tree(tmp_path), case["expect"]
    read = partial(WAYS[case["way"]], tmp_path / "out", random.Random(0))
    if "refused" in expected:
        refused(expected, read, tmp_path)
        assert tree(tmp_path) == before
        return
    try:
        said = read()
    except SomeFailedError as error:
        said = error.output
    assert expected["says"] in said
    assert {path.parent for path in tree(tmp_path)} == {path.parent for path in before}


def tree(folder):
    """All files, but what SQLite has beside a database that is open."""
    return {path for path in folder.rglob("*") if path.is_file() and "sqlite-" not in path.name}


@pytest.mark.parametrize(
    "name", [n for n in RECIPES if recipe(n)["base"] not in {*SLIDES, *WRITERS, *FILES}]
)
def test_settings_and_what_is_kept(name, tmp_path):
    case = recipe(name)
    kind = KINDS[case["base"]]
    path = change(kind.make(tmp_path), case["changes"])
    refused(case["expect"], lambda: kind.read(path, random.Random(0)), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
