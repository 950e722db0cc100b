"""CytoLibra under one name, whatever lies beside a user's script."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cytolibra
from configs import ConfigError
from models.card import ModelFileError

ROOT = Path(cytolibra.__file__).parent


def script(folder, text, **files):
    """Runs a script of a user's, with files beside it; its output."""
    for name, content in files.items():
        path = folder / ("scripts/__init__" if name == "scripts__init" else name)
        path = path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "mine.py").write_text(text)
    ran = subprocess.run(
        [sys.executable, "-W", "always", str(folder / "mine.py")],
        env={"PYTHONPATH": str(ROOT.parent), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


def test_our_packages_win_over_a_users_and_it_is_told(tmp_path):
    text = "import cytolibra, models, scripts\nprint(models.__file__, scripts.__file__, sep='\\n')"
    code, out, err = script(tmp_path, text, models="x = 1", scripts__init="y = 2")
    assert code == 0, err
    assert out.splitlines() == [
        str(ROOT.parent / "models/__init__.py"),
        str(ROOT.parent / "scripts/__init__.py"),
    ]
    assert f"ImportWarning: {tmp_path / 'models.py'} can't be imported as models" in err


def test_what_was_imported_before_is_named(tmp_path):
    code, _, err = script(tmp_path, "import models\nimport cytolibra", models="x = 1")
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith(
        f"ImportError: models is imported from {tmp_path / 'models.py'}, and is no"
    )
    assert last.endswith("import cytolibra before it, or rename it")


def test_importing_it_loads_no_torch_and_warns_of_nothing(tmp_path):
    text = "import sys, cytolibra\ncytolibra.ScreenSettings\nprint('torch' in sys.modules)"
    assert script(tmp_path, text) == (0, "False\n", "")


def test_the_stub_names_what_is_offered():
    tree = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    stated = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert stated == cytolibra._OFFERED
    for name in cytolibra.__all__:
        assert getattr(cytolibra, name) is not None
    assert dir(cytolibra) == sorted(cytolibra.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cytolibra.nothing


@pytest.mark.parametrize("package", [*cytolibra.PACKAGES, "cytolibra"])
def test_every_package_says_that_it_has_types(package):
    assert (ROOT.parent / package / "py.typed").is_file()


def test_a_slide_is_screened_by_text_and_mappings(tmp_path):
    pixels = np.random.default_rng(0).integers(90, 200, (100, 150, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    report = cytolibra.screen_slide(
        str(tmp_path / "a.png"), "cric-fcos-light", {"mpp": 0.5, "tiler": {"size": 256}}
    )
    assert (report.slide.width, report.slide.mpp) == (150, 0.5)
    assert report.model.name == "cric-fcos-light"
    assert report.settings["tiler"]["size"] == 256
    with pytest.raises(ConfigError, match=r"settings: unknown key tiler.sise; did you mean size"):
        cytolibra.screen_slide(tmp_path / "a.png", "cric-fcos-light", {"tiler": {"sise": 3}})
    with pytest.raises(ModelFileError, match="no such model"):
        cytolibra.screen_slide(tmp_path / "a.png", "none")


@pytest.mark.parametrize("settings", [{"limits": {"seconds": 60}}, {"isolate": "always"}])
def test_what_batches_alone_can_do_is_refused_of_one_slide(settings):
    with pytest.raises(ConfigError, match="for batches, which give each slide a process"):
        cytolibra.screen_slide("slide.tif", "cric-fcos-light", settings)
