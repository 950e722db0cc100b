"""Shells complete commands and options, of the subcommand that is being written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts.cli import build_app
from scripts.completion import VARIABLE, asked_words

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("shell", "begins"),
    [
        ("bash", "_cytolibra_completion() {"),
        ("zsh", "#compdef cytolibra"),
        ("fish", "complete --c"),
    ],
)
def test_each_shell_gets_its_lines(shell, begins):
    result = CliRunner().invoke(build_app("completion"), ["completion", shell])
    assert result.exit_code == 0
    assert result.stdout.startswith(begins)
    assert f"{VARIABLE}=complete_{shell}" in result.stdout


def test_words_come_from_the_shell():
    assert asked_words({"COMP_WORDS": "cytolibra screen"}) is None  # nobody asks
    assert asked_words({VARIABLE: "x", "COMP_WORDS": "cytolibra screen --m"}) == ["screen", "--m"]
    assert asked_words({VARIABLE: "x", "_TYPER_COMPLETE_ARGS": "cytolibra "}) == []


def test_options_of_the_subcommand_are_completed():
    words = {"COMP_WORDS": "cytolibra screen --dr", "COMP_CWORD": "2", VARIABLE: "complete_bash"}
    found = subprocess.run(
        [sys.executable, "-m", "cytolibra"],
        env=os.environ | words,
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["--dry-run"]
