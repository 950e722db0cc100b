"""`cytolibra train`: what a call without a run behind it comes to."""

import pytest
from lively import saved
from typer.testing import CliRunner

from scripts.cli import build_app


@pytest.mark.parametrize(
    ("config", "resume"), [("cric", []), ("grader", []), ("cric", ["--resume"])]
)
def test_a_model_without_checkpoints_is_not_overwritten(tmp_path, config, resume):
    """As of a comparison, or copied there."""
    saved(tmp_path / "run" / "model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    field = "{name: a, annotations: a.json, images: a}"
    call = ["train", "--config", f"train/{config}", "--out", str(tmp_path / "run"), *resume]
    call += ["--set", f"data.train=[{field}]", "--set", f"data.val=[{field}]"]
    result = CliRunner().invoke(build_app("train"), call)
    assert result.exit_code == 2
    told = "last.ckpt is not there" if resume else "which the run would overwrite"
    assert told in result.stderr, result.stderr
    assert "name another folder" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
