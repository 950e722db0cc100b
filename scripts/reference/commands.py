"""The page of commands, from the command line itself."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer

from scripts.cli import SUMMARIES, build_app
from scripts.reference.tables import code, table


def page() -> str:
    """``docs/reference/commands.md``."""
    lines = [
        "# Commands",
        "",
        "`cytolibra COMMAND --help` tells the same on the terminal.",
        "",
        *table(["command", "does"], ([f"[{n}](#{n})", text] for n, text in SUMMARIES.items())),
    ]
    for name in SUMMARIES:
        root: Any = typer.main.get_command(build_app(name))
        lines += _section(root.commands[name], f"cytolibra {name}", name)
    return "\n".join(lines) + "\n"


def _section(command: Any, call: str, title: str, depth: int = 2) -> Iterator[str]:
    yield from ("", f"{'#' * depth} {title}", "", f"`{call} {_usage(command)}`".replace(" `", "`"))
    if text := inspect.cleandoc(command.help or ""):
        yield from ("", text)
    rows = [_row(parameter) for parameter in command.params if not parameter.hidden]
    if rows:
        yield from ("", *table(["option", "value", "default", "what"], rows))
    for name, inner in getattr(command, "commands", {}).items():
        yield from _section(inner, f"{call} {name}", f"{title} {name}", depth + 1)


def _usage(command: Any) -> str:
    """Arguments and required options; the rest stands in the table."""
    words = ["COMMAND"] if getattr(command, "commands", None) else []
    for parameter in command.params:
        name = _value(parameter)
        if parameter.param_type_name == "argument":
            words.append(f"{name}..." if parameter.nargs == -1 else name)
        elif parameter.required:
            words.append(f"{parameter.opts[0]} {name}")
    return " ".join(words)


def _row(parameter: Any) -> list[str]:
    names = [*parameter.opts, *parameter.secondary_opts]
    is_argument = parameter.param_type_name == "argument"
    shown = _value(parameter) if is_argument else ", ".join(names)
    value = "" if is_argument or parameter.is_flag else _value(parameter)
    if getattr(parameter, "multiple", False):
        value += ", repeated"
    return [code(shown), code(value), _default(parameter), parameter.help or ""]


def _value(parameter: Any) -> str:
    """What stands for the value: its own sign, or what may be chosen, or its kind."""
    if parameter.metavar:
        return str(parameter.metavar)
    kind = parameter.type_descriptor.annotation
    for one in (kind, *getattr(kind, "__args__", ())):
        if isinstance(one, type) and issubclass(one, Enum):
            return "|".join(str(member.value) for member in one)
        if one in (int, float):
            return "N" if one is int else "X"
    return str(parameter.name).upper()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default is False or default == () or callable(default):
        return ""
    if isinstance(default, Enum):
        return code(str(default.value))
    return code(json.dumps(default) if isinstance(default, bool | int | float) else str(default))
