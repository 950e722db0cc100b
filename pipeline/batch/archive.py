"""What a DICOMweb archive is asked for: a series, or all slides of a study."""

from __future__ import annotations

from collections.abc import Sequence

from configs import ConfigError
from configs.doubts import with_code
from pipeline.cloud.dicomweb import TOKEN, DicomWebStore, RemoteSeries
from pipeline.cloud.problems import Problem, explain
from pipeline.cloud.store import Stores, run
from pipeline.cloud.urls import Url


def find_archived(url: Url, stores: Stores) -> Sequence[RemoteSeries]:
    """The slides of a study or series.

    A series that is named stands for itself: where it can't be listed, it comes with the problem.

    Raises:
        ConfigError: a study can't be listed, or what the archive asks for is not installed.
    """
    store = stores.of(url)
    assert isinstance(store, DicomWebStore), url
    _, _, series = url.text.partition("/series/")
    try:
        found = run(store.series(url))
        problem = "" if found else "holds no slide (VL Whole Slide Microscopy Image)"
    except ConfigError:
        raise
    except Exception as error:
        told = explain(error)
        found, problem = (), with_code(_with_hint(told), told.code)
    if not problem:
        return found
    if series:
        return [RemoteSeries(series, url, (), problem)]
    raise ConfigError(f"{url}: {problem}")


def _with_hint(told: Problem) -> str:
    """What went wrong, and where credentials are taken from, where that may be it."""
    hint = f" (a token in {TOKEN}, or netrc)"
    return told.text + hint if "(401)" in told.text or "(403)" in told.text else told.text
