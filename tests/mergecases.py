"""Batches of results for ``cytolibra merge``, and how it is called."""

from dataclasses import replace

import numpy as np
from fakes import CLASSES, make_cells, make_report, scored
from typer.testing import CliRunner

from pipeline.batch.fingerprint import Fingerprint, save_fingerprint
from pipeline.reports.planes import PlaneRead, count_planes
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


def write(out, name, count, recipe="a" * 64, depths=(), **options):
    """A result; of focal planes at those depths, in µm, the cells lie in one after the other."""
    cells = make_cells(count, seed=count)
    rng = np.random.default_rng(count)
    cells = scored(cells, rng.random((count, len(CLASSES))).astype(np.float32))
    folder = out / name
    folder.mkdir(parents=True)
    if depths:
        cells = replace(cells, planes=np.arange(count, dtype=np.int16) % len(depths))
    report = make_report(name, cells, **options)
    planes = [
        PlaneRead(number=n + 1, name=f"plane {n + 1}", z_um=z, tiles=1)
        for n, z in enumerate(depths)
    ]
    told = count_planes(planes, report.cells, CLASSES)
    write_reports(report.model_copy(update={"planes": told}), folder)
    save_fingerprint(Fingerprint(recipe=recipe, files=(), sha256=""), folder)
    return folder


def rows_of(folder, delimiter=","):
    text = (folder / "cells.csv").read_text(encoding="utf-8-sig")
    if delimiter == ";":
        text = text.replace(",", ".").replace(";", ",")
    header, *rows = text.splitlines()
    return [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
