"""What another package brings to have slides of its format read.

```python
class Mine(ReaderPlugin):
    name = "mine"

    def open(self, path):
        return MyReader(path)
```

The package declares it under each ending that it opens, without the dot:

```toml
[project.entry-points."cytolibra.readers"]
mine = "my_package.reading:Mine"
```

See docs/how-to/own-reader.md, and `pipeline.slides.contract` for the tests that its reader is to
pass.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from configs.plugins import is_path, load_part
from pipeline.errors import SlideError, WorkerLostError, kind_and_text
from pipeline.slides.readers.base import Reader

LONGEST = 3600.0
"""A time limit of more seconds than this is none."""


class ReaderPlugin(ABC):
    """Opens slides of one format.

    Attributes:
        name: of the format or library, one word; `slide.reader` of a report has it.
        isolate: whether it runs in a process of its own, so that a crash or a hang of it costs one
            slide. False is for code that can do neither: pure Python, and libraries you vouch for.
        timeout_s: how long opening a slide, or reading a region of 4096 x 4096 px, may take; what
            takes longer is ended. Holds where `isolate` does.
    """

    name: ClassVar[str]
    isolate: ClassVar[bool] = True
    timeout_s: ClassVar[float] = 60.0

    def opens(self, path: Path) -> bool:
        """Whether the file is of this format; only files of its endings are asked for.

        False leaves the file to the next reader of the ending. What is of the format and damaged
        is for `open` to refuse.
        """
        return True

    @abstractmethod
    def open(self, path: Path) -> Reader:
        """Opens a slide.

        Raises:
            SlideError: it is damaged, or of a kind that isn't read; one line.
        """


class PluginError(Exception):
    """What a package brought is no plug-in; one line that names no file."""

    def of(self, text: str) -> SlideError:
        """What that is for a slide; ``text`` says it of the slide."""
        return SlideError(text, "reader-failed")


class CrashError(PluginError):
    """It ended its process."""

    def of(self, text: str) -> SlideError:
        """See `PluginError.of`."""
        return WorkerLostError(text, "reader-failed")


def load_plugin(value: str) -> ReaderPlugin:
    """The plug-in that an entry point names; imports the package.

    Args:
        value: ``module:Name`` of a subclass of `ReaderPlugin`, or of a function that takes a path
            and gives a `Reader`.

    Raises:
        PluginError: it can't be imported, or is neither.
    """
    if not is_path(value):
        raise PluginError(f"the entry point's {value!r} is not module:Name")
    try:
        part = load_part("readers", value, "reader")
    except Exception as error:
        raise PluginError(kind_and_text(error)) from error
    if isinstance(part, type) and issubclass(part, ReaderPlugin):
        return _checked(_made(part), value)
    if isinstance(part, ReaderPlugin):
        return _checked(part, value)
    if not callable(part) or isinstance(part, type):
        raise PluginError(f"{value} is neither a ReaderPlugin nor a function that opens a path")
    return _Function(part, value)


def open_by(plugin: ReaderPlugin, path: Path) -> Reader | None:
    """The slide's reader; None where the plug-in says that the file is not of its format.

    Raises:
        SlideError: the plug-in refuses the file.
        PluginError: it raises anything else, or gives no `Reader`.
    """
    try:
        answer = plugin.opens(path)
        reader = plugin.open(path) if answer else None
    except SlideError:
        raise
    except Exception as error:  # of code that isn't ours
        raise PluginError(kind_and_text(error)) from error
    if not isinstance(answer, bool):
        raise PluginError(f"its opens() gives {type(answer).__name__}, not a bool")
    if (reader is not None and not isinstance(reader, Reader)) or (answer and reader is None):
        raise PluginError(f"its open() gives {type(reader).__name__}, not a Reader")
    return reader


class _Function(ReaderPlugin):
    """A function that opens a path: the least that a plug-in can be."""

    name = "function"

    def __init__(self, function: object, value: str) -> None:
        self._function = function
        self.name = value.partition(":")[2]  # type: ignore[misc]

    def open(self, path: Path) -> Reader:
        return self._function(path)  # type: ignore[operator, no-any-return]


def _made(kind: type[ReaderPlugin]) -> ReaderPlugin:
    try:
        return kind()
    except Exception as error:
        raise PluginError(kind_and_text(error)) from error


def _checked(plugin: ReaderPlugin, value: str) -> ReaderPlugin:
    """A plug-in whose attributes are what they have to be.

    Raises:
        PluginError: one of them isn't.
    """
    name, limit = getattr(plugin, "name", None), plugin.timeout_s
    if not isinstance(name, str) or not name.isprintable() or len(name.split()) != 1:
        raise PluginError(f"{value}.name is {name!r}; it has to be one word")
    if not isinstance(plugin.isolate, bool):
        raise PluginError(f"{value}.isolate is {plugin.isolate!r}; it has to be True or False")
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if not is_number or not math.isfinite(limit) or not 0 < limit <= LONGEST:
        raise PluginError(f"{value}.timeout_s is {limit!r}; it has to be 0 to {LONGEST:g} seconds")
    return plugin
