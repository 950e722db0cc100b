"""Every command and every Python block of the documentation is run, or says why not."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from docblocks import pages, read_page
from PIL import Image

REPO = Path(__file__).resolve().parent.parent.parent
PAGES = pages(REPO)
RUN = {name: page for name, page in PAGES.items() if any(not b.reason for b in page.blocks)}


@pytest.mark.parametrize("name", PAGES)
def test_every_block_says_how_it_runs_or_why_not(name):
    assert not PAGES[name].faults


def is_slow(name):
    """Only what everybody reads first is run by the fast tests."""
    return name != "README.md" or any(block.is_slow for block in PAGES[name].blocks)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * is_slow(name)) for name in RUN],
)
def test_blocks_run(name, tmp_path, things, tools):
    page = PAGES[name]
    for want in page.wants:
        things.put(want, tmp_path)
    for block in (block for block in page.blocks if not block.reason):
        done = run(block, tmp_path, tools)
        told = (done.stdout + done.stderr)[-3000:]
        assert done.returncode == block.exit, f"{name}, line {block.line}:\n{told}"
        assert "Traceback" not in told


def run(block, folder, tools):
    """Runs a block as a person would, in a shell that stops at the first failure."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    if block.language == "python":
        call = [sys.executable, block.file or "-"]
    else:
        call = ["bash", "-euo", "pipefail", "-c", block.text]
    command, _, words = block.add.partition(" ")
    surroundings = tools | {"DOCS_COMMAND": command, "DOCS_WORDS": words}
    return subprocess.run(
        call,
        cwd=folder,
        env=surroundings,
        input=block.text if call[-1] == "-" else "",
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """Surroundings in which `cytolibra` and `python` are this checkout's."""
    folder = tmp_path_factory.mktemp("bin")
    python, more = sys.executable, 'if [ "$1" = "$DOCS_COMMAND" ]; then more=$DOCS_WORDS; fi'
    for name, text in (
        ("cytolibra", f'more=; {more}; exec "{python}" -m cytolibra "$@" $more'),
        ("python", f'exec "{python}" "$@"'),
    ):
        path = folder / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    surroundings = dict(os.environ)
    surroundings["PATH"] = f"{folder}{os.pathsep}{surroundings['PATH']}"
    paths = (REPO, *filter(None, [surroundings.get("PYTHONPATH")]))
    surroundings["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    return surroundings | {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}


@pytest.fixture(scope="session")
def things(tmp_path_factory, tools):
    return Things(tmp_path_factory.mktemp("things"), tools)


class Things:
    """What pages find in their folder: drawn once, and copied."""

    def __init__(self, folder, tools):
        self.folder = folder
        self.tools = tools

    def put(self, want, folder):
        made = self.folder / want
        if not made.exists():
            made.mkdir()
            getattr(self, f"make_{want}")(made)
        shutil.copytree(made, folder, dirs_exist_ok=True)

    def call(self, *words, cwd):
        call = [sys.executable, "-m", "cytolibra", *map(str, words)]
        subprocess.run(call, cwd=cwd, env=self.tools, check=True, capture_output=True)

    def make_slides(self, folder):
        """`slides/a.tif`, a drawn slide."""
        self.draw(folder, "slides", 1, 1536)
        (folder / "slides" / "slide-001.tif").rename(folder / "slides" / "a.tif")
        (folder / "slides" / "truth.json").unlink()

    def make_reports(self, folder):
        """`reports/a.tif`, what screening it gave."""
        self.make_slides(folder)
        words = ("--model", "cric-fcos-light", "--out", "reports")
        self.call("screen", "slides", *words, cwd=folder)

    def make_images(self, folder):
        """`images/a.tif` and `b.png`, which carry no scale."""
        self.make_slides(folder)
        (folder / "images").mkdir()
        with Image.open(folder / "slides" / "a.tif") as picture:
            pixels = picture.convert("RGB")
        pixels.save(folder / "images" / "a.tif")
        pixels.save(folder / "images" / "b.png")
        shutil.rmtree(folder / "slides")

    def make_normal(self, folder):
        """`normal/`, five slides without an abnormal cell."""
        self.draw(folder, "normal", 5, 1024, "--abnormal", "0", "--seed", "3")
        (folder / "normal" / "truth.json").unlink()

    def make_fields(self, folder):
        """`train.json` of `train/`, `val.json` of `val/`: drawn fields with their cells."""
        for seed, part in enumerate(("train", "val")):
            words = ("--slides", "4", "--size", "1024x1024", "--abnormal", "0.5", "--seed", seed)
            self.call("synth", "--out", part, *words, cwd=folder)
            for path in (folder / part).glob("*.tif"):
                with Image.open(path) as picture:
                    picture.convert("RGB").save(path.with_suffix(".png"), compress_level=1)
                path.unlink()
            truth = (folder / part / "truth.json").read_text(encoding="utf-8")
            (folder / part / "truth.json").unlink()
            (folder / f"{part}.json").write_text(truth.replace(".tif", ".png"), encoding="utf-8")

    def make_outcomes(self, folder):
        """`outcomes/`, results of forty slides of twenty patients, and `labels.csv`."""
        from fakes import make_cells, make_report

        from pipeline.reports.writers import write_reports

        rng = np.random.default_rng(0)
        rows = [("slide", "label", "patient")]
        for number in range(40):
            positive = number % 4 < 2
            cells = make_cells(int(rng.poisson(60 if positive else 20)), seed=number)
            place = folder / "outcomes" / f"{number}.svs"
            place.mkdir(parents=True)
            write_reports(make_report(f"{number}.svs", cells), place)
            rows.append((place.name, "HSIL" if positive else "NILM", f"p{number // 2}"))
        with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

    def draw(self, folder, name, slides, size, *more):
        kind = ("--kind", "liquid", "--size", f"{size}x{size}")
        self.call("synth", "--out", name, "--slides", slides, *kind, *more, cwd=folder)


FENCE = "```"


def test_a_block_that_says_nothing_is_a_fault():
    page = read_page(f"# A\n\n{FENCE}bash\ncytolibra models\n{FENCE}\n")
    assert page.faults == ["line 3: says neither how it runs nor why not"]
    assert not page.blocks


def test_what_is_said_of_a_block_is_understood():
    said = "<!-- with: slides fields -->\n<!-- run: slow; exit=1; add=train --set a=b -->"
    page = read_page(f"{said}\n{FENCE}bash\ncytolibra x\n{FENCE}\n")
    (block,) = page.blocks
    assert (block.is_slow, block.exit, block.add) == (True, 1, "train --set a=b")
    assert (block.text, page.wants, page.faults) == ("cytolibra x\n", ["slides", "fields"], [])


@pytest.mark.parametrize(
    ("comment", "fault"),
    [
        ("<!-- not run: no -->", "line 2: is not run, and does not say why"),
        ("<!-- run: fast -->", "line 2: fast means nothing here"),
    ],
)
def test_what_is_said_wrongly_is_a_fault(comment, fault):
    assert read_page(f"{comment}\n{FENCE}python\n1\n{FENCE}\n").faults == [fault]


def test_a_comment_holds_for_one_block_only():
    block = f"{FENCE}python\n1\n{FENCE}\n"
    page = read_page(f"<!-- run -->\n{block}\n{block}")
    assert page.faults == ["line 6: says neither how it runs nor why not"]


def test_a_command_in_an_indented_block_is_a_fault():
    (fault,) = read_page("So:\n\n    cytolibra models\n\nThere.\n").faults
    assert fault == "a command in an indented block: cytolibra models"
