"""The options of every command that reads annotations: the settings of `AnnotationSettings`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import ConfigError, load_yaml, validate

if TYPE_CHECKING:
    from data.annotations import AnnotationSettings

OPTIONS: dict[str, tuple[Any, Any]] = {
    "format": (
        Annotated[
            str,
            typer.Option(
                help="The format to read: auto, coco, geojson (QuPath), asap, imagescope, ndpa, "
                "labelme, via, cvat, voc, cric, riva, sipakmed, csv, yolo or crops (cells cut out: "
                "a table of image and class)."
            ),
        ],
        "auto",
    ),
    "classes": (
        Annotated[
            list[str] | None,
            typer.Option(
                metavar="OLD=NEW|FILE.yaml",
                help="Renames a class, or those in a table of `OLD: NEW`; may be repeated. NEW may "
                "be ignore, region (exhaustively annotated) or drop.",
            ),
        ],
        None,
    ),
    "point_size": (
        Annotated[
            float | None,
            typer.Option(metavar="UM", help="Side of a cell's box in µm, for points."),
        ],
        None,
    ),
    "mpp": (
        Annotated[float | None, typer.Option(help="µm per pixel of images that carry none.")],
        None,
    ),
    "frame": (
        Annotated[
            str,
            typer.Option(
                help="Where coordinates begin on slides with bounds: slide, bounds, or auto (of "
                "QuPath bounds, of others slide)."
            ),
        ],
        "auto",
    ),
    "groups": (
        Annotated[
            Path | None,
            typer.Option(
                metavar="CSV", help="Columns image, and slide or patient: what belongs together."
            ),
        ],
        None,
    ),
    "skip_missing": (
        Annotated[
            bool, typer.Option("--skip-missing", help="Pass over images that are not there.")
        ],
        False,
    ),
    "crowds": (
        Annotated[
            str,
            typer.Option(help="What COCO's crowds are: ignore (no cells, no background) or cells."),
        ],
        "ignore",
    ),
    "unlabelled": (
        Annotated[
            str,
            typer.Option(
                help="What images without a YOLO label file are: negative (fields without cells), "
                "left-out, or auto: negative, unless most have none."
            ),
        ],
        "auto",
    ),
    "yolo": (
        Annotated[
            str,
            typer.Option(
                help="What YOLO's lines of more than five numbers are: polygons, pose (boxes with "
                "keypoints), or auto."
            ),
        ],
        "auto",
    ),
}
"""Of each setting its option and default."""


@dataclass(frozen=True)
class Reading:
    """How a command's annotations are read.

    Attributes:
        settings: as in a configuration.
        names: the classes in their order, where a command lets people name them; else None.
    """

    settings: AnnotationSettings
    names: tuple[str, ...] | None


def reads_annotations(order: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command all options for annotations; it takes them as ``reading``, a `Reading`.

    Args:
        order: whether ``--classes A,B,…`` names the classes in their order.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        @functools.wraps(command)
        def call(*arguments: Any, **options: Any) -> None:
            values = {name: options.pop(name) for name in OPTIONS}
            command(*arguments, **options, reading=_reading(values, order))

        parameters = [
            *(one for name, one in own.items() if name != "reading"),
            *(
                Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
                for name, (kind, default) in OPTIONS.items()
            ),
        ]
        call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        del call.__wrapped__  # its annotations are not ours
        return call

    return decorate


def _reading(values: dict[str, Any], order: bool) -> Reading:
    from data.annotations import AnnotationSettings

    entries = values["classes"] or []
    listed = [entry for entry in entries if order and not _is_table(entry)]
    table = read_table([entry for entry in entries if entry not in listed])
    settings = validate(values | {"classes": table}, AnnotationSettings, "options")
    names = tuple(name.strip() for entry in listed for name in entry.split(","))
    return Reading(settings, names or None)


def read_table(entries: Sequence[str]) -> dict[str, str]:
    """The table of classes that ``OLD=NEW`` and files of ``OLD: NEW`` make, later ones above.

    Raises:
        ConfigError: an entry is neither, or a file can't be read.
    """
    table: dict[str, str] = {}
    for entry in entries:
        old, separator, new = entry.rpartition("=")
        if separator:
            table[old.strip()] = new.strip()
        elif entry.endswith((".yaml", ".yml")):
            read = load_yaml(entry)
            if any(isinstance(old, bool) for old in read):
                raise ConfigError(
                    f"--classes {entry}: yes, no, on, off, true and false are no texts in YAML; "
                    "put a class of such a name in quotes"
                )
            table |= {str(old): new for old, new in read.items()}
        else:
            raise ConfigError(f"--classes {entry}: expected OLD=NEW, or a .yaml file of OLD: NEW")
    return table


def _is_table(entry: str) -> bool:
    return "=" in entry or entry.endswith((".yaml", ".yml"))
