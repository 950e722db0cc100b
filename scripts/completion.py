"""``cytolibra completion``: what makes a shell complete commands and options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

VARIABLE = "_CYTOLIBRA_COMPLETE"
"""Environment variable by which a shell asks the command what may come next."""


class Shell(StrEnum):
    """Shells that are known."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Prints the lines by which a shell completes commands and options.

    bash: `cytolibra completion bash >> ~/.bashrc`. zsh: `cytolibra completion zsh >> ~/.zshrc`,
    below compinit. fish: `cytolibra completion fish > ~/.config/fish/completions/cytolibra.fish`.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(
        get_completion_script(prog_name="cytolibra", complete_var=VARIABLE, shell=shell.value)
    )


def asked_words(environment: Mapping[str, str] = os.environ) -> list[str] | None:
    """The words of the command line that a shell wants completed; None where none asks."""
    if VARIABLE not in environment:
        return None
    line = environment.get("COMP_WORDS") or environment.get("_TYPER_COMPLETE_ARGS", "")
    return line.split()[1:]


def prepare() -> None:
    """Makes the command ready to answer a shell."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
