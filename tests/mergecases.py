"""Batches of results for ``cytolibra merge``, and how it is called."""

import numpy as np
from fakes import CLASSES, make_cells, make_report, scored
from typer.testing import CliRunner

from pipeline.batch.fingerprint import Fingerprint, save_fingerprint
from pipeline.reports.writers import write_reports
from scripts.cli import build_app


def call(*words):
    result = CliRunner().invoke(build_app("merge"), ["merge", *map(str, words)])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def refused(*words):
    result = call(*words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return result.stderr


def write(out, name, count, recipe="a" * 64, **options):
    cells = make_cells(count, seed=count)
    rng = np.random.default_rng(count)
    cells = scored(cells, rng.random((count, len(CLASSES))).astype(np.float32))
    folder = out / name
    folder.mkdir(parents=True)
    write_reports(make_report(name, cells, **options), folder)
    save_fingerprint(Fingerprint(recipe=recipe, files=(), sha256=""), folder)
    return folder


def rows_of(folder, delimiter=","):
    text = (folder / "cells.csv").read_text(encoding="utf-8-sig")
    if delimiter == ";":
        text = text.replace(",", ".").replace(";", ",")
    header, *rows = text.splitlines()
    return [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
