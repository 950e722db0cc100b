"""``cytolibra view`` as it is called; what it serves is tested below tests/pipeline/review."""

import importlib.util
import sys

import pytest
from typer.testing import CliRunner

from pipeline.review.server.users import Users
from scripts import view as module
from scripts.cli import build_app


def call(*arguments, **more):
    return CliRunner().invoke(build_app("view"), ["view", *map(str, arguments)], **more)


def test_without_its_extra_one_line_names_it(monkeypatch, tmp_path):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else real(name)
    )
    answer = call(tmp_path)
    assert answer.exit_code == 2
    assert answer.stderr.count("\n") == 1
    assert "uvicorn is not installed" in answer.stderr
    assert "cytolibra[view]" in answer.stderr


@pytest.mark.parametrize("options", [[], ["--read-only"], ["--host", "0.0.0.0"]])
def test_what_can_not_be_served_is_one_line_and_the_code_of_a_wrong_call(tmp_path, options):
    answer = call(tmp_path, *options)
    assert answer.exit_code == 2
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1


def test_a_user_is_added_by_a_password_that_is_asked_for(tmp_path):
    path = tmp_path / "users"
    answer = call(path, "--add-user", "Ann", input="long enough\n")
    assert answer.exit_code == 0, answer.output
    assert "added Ann" in answer.stdout
    assert "long enough" not in answer.output
    assert Users.load(path).check("Ann", "long enough") == "Ann"
    assert call(path, "--add-user", "Ann", input="short\n").exit_code == 2
    assert call(tmp_path, "--add-user", "Ann", input="long enough\n").exit_code == 2
    assert Users.load(path).check("Ann", "long enough") == "Ann"


def test_the_help_loads_no_server():
    loaded = {name for name in sys.modules if name.split(".")[0] in module.NEEDS}
    answer = CliRunner().invoke(build_app(None), ["--help"])
    assert "reading room" in answer.output
    assert {name for name in sys.modules if name.split(".")[0] in module.NEEDS} == loaded
