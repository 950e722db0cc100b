"""Reports of earlier schemas as this one's: ``python -m pipeline.reports.convert FOLDER...``.

Reading takes them as they are (`SlideReport`); this is for programs that read ``report.json``
themselves. Tables, GeoJSON and pages stay as they were: columns are only ever added.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from configs import ConfigError
from pipeline.reports.report import SlideReport
from pipeline.reports.writers import PARTIAL, to_json, write_whole


def convert_reports(folder: Path) -> Iterator[Path]:
    """Writes anew each ``report.json`` of an earlier schema below a folder; yields their paths.

    Raises:
        ConfigError: the folder is none, or a report can't be read or written.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    current = SlideReport.model_fields["schema_version"].default
    for path in sorted(folder.rglob("report.json")):
        if any(part.startswith(PARTIAL) for part in path.relative_to(folder).parts):
            continue  # it is being written
        try:
            values = json.loads(path.read_bytes())
            if isinstance(values, dict) and values.get("schema_version") == current:
                continue
            report = SlideReport.model_validate_json(path.read_bytes())
            write_whole(path, to_json(report.model_dump(mode="json")))
        except OSError as error:
            raise ConfigError(f"{path}: can't be converted: {error.strerror}") from error
        except (ValidationError, ValueError) as error:
            raise ConfigError(f"{path}: is no report of cytolibra screen") from error
        yield path


def main(arguments: Sequence[str]) -> int:
    """Converts folders, and tells each report that was; 2 where one can't be."""
    if not arguments:
        print("usage: python -m pipeline.reports.convert FOLDER...", file=sys.stderr)
        return 2
    try:
        for folder in arguments:
            for path in convert_reports(Path(folder)):
                print(path)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
