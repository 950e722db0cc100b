"""Options that a call gives though they would do nothing in it: refused, not passed over."""

from __future__ import annotations

from collections.abc import Collection

import typer

from configs import ConfigError


def refuse_given(context: typer.Context, names: Collection[str], why: str) -> None:
    """Refuses a call that gives some of these options, at their defaults, too.

    Args:
        context: of the call.
        names: of the command's parameters.
        why: what the options are of.

    Raises:
        ConfigError: it does; names all that it gives.
    """
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name in names and _is_given(context, parameter.name)
    ]
    if given:
        raise ConfigError(f"{', '.join(given)}: {why}")


def refuse_but(context: typer.Context, names: Collection[str], why: str) -> None:
    """`refuse_given` of all options but these."""
    others = {parameter.name for parameter in context.command.params} - set(names)
    refuse_given(context, {name for name in others if name}, why)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
