"""Parts that other packages bring: losses, detectors, backbones, readers, augmentation steps.

A part is named by its import path, ``my_package.module:Name``, or by the name of an entry point
that an installed package declares in the group ``cytolibra.losses``, ``cytolibra.detectors``,
``cytolibra.backbones``, ``cytolibra.readers`` or ``cytolibra.augmentation``. Names of our own parts
go before entry points, so that an installed package never changes what a configuration means. A
model names code that is installed; it never carries any.
"""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from configs.errors import ConfigError

Kind = Literal["losses", "detectors", "backbones", "readers", "augmentation"]
"""What a part is; the end of its group of entry points."""


def is_path(name: str) -> bool:
    """Whether a name is an import path, ``module:object``."""
    module, separator, inside = name.partition(":")
    parts = [*module.split("."), *inside.split(".")]
    return bool(separator) and all(part.isidentifier() for part in parts)


@functools.cache
def installed(kind: Kind) -> dict[str, EntryPoint]:
    """The parts that installed packages declare, by name.

    Raises:
        ConfigError: two packages declare different parts of one name.
    """
    found: dict[str, EntryPoint] = {}
    for one in entry_points(group=f"cytolibra.{kind}"):
        other = found.setdefault(one.name, one)
        if other.value != one.value:
            raise ConfigError(
                f"two installed packages declare {one.name} among cytolibra.{kind}: {other.value} "
                f"and {one.value}; name one by its import path, and uninstall the other"
            )
    return found


def check_name(kind: Kind, name: str, ours: tuple[str, ...]) -> str:
    """The name of a part, if it can be one; nothing is imported.

    Raises:
        ValueError: it is neither one of ours, nor installed, nor an import path.
    """
    if name in ours or is_path(name) or name in installed(kind):
        return name
    others = "".join(f", {one}" for one in sorted(set(installed(kind)) - set(ours)))
    raise ValueError(f"expected one of {', '.join(ours)}{others}, or an import path, package:Name")


def load_part(kind: Kind, name: str, key: str) -> Any:
    """What an import path or an entry point names.

    Args:
        kind: of the part.
        name: an import path or the name of an entry point.
        key: of the setting, for messages.

    Raises:
        ConfigError: it isn't there, or can't be imported.
    """
    path = name if is_path(name) else getattr(installed(kind).get(name), "value", "")
    module, _, inside = path.partition(":")
    try:
        part = importlib.import_module(module)
        for attribute in inside.split("."):
            part = getattr(part, attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{key} = {name}: there is no module {error.name}; install the package that has it "
            "into this environment"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{key} = {name}: {error}") from error
    except Exception as error:  # whatever a module does when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{key} = {name}: can't be imported: {reason}") from error
    return part
