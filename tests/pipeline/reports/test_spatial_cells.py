"""A SpatialData store of a batch: read back by zarr and pyarrow, and by spatialdata where it is."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from fakes import CLASSES
from mergecases import call, refused, rows_of, write

from pipeline.reports import spatial_cells
from pipeline.reports.spatial_cells import region_names

zarr = pytest.importorskip("zarr", reason="needs cytolibra[spatialdata]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs cytolibra[spatialdata]")

NAMES = {"A_é.svs": 5, "a/é.svs": 30, "b.svs": 7, "c.svs": 0}
REGIONS = {"A_é.svs": "A_é.svs", "a/é.svs": "a_é.svs-2", "b.svs": "b.svs"}
"""What the slides with cells are called in the store."""


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    out = tmp_path_factory.mktemp("spatial") / "reports"
    for name, count in NAMES.items():
        write(out, name, count)
    return out


@pytest.fixture(scope="module")
def store(batch):
    """A store whose chunks hold 16 rows: no slide ends with one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spatial_cells, "CHUNK", 16)
        path = batch.parent / "cells.zarr"
        result = call(batch, "--to", "spatialdata", "--out", path)
    assert result.stdout == f"{path}: 42 cells of 4 slides\n"
    return path


@pytest.fixture(scope="module")
def rows(batch):
    """All that the tables say, as text, with the region."""
    return [
        {**row, "region": region, "slide": name}
        for name, region in REGIONS.items()
        for row in rows_of(batch / name)
    ]


def column(frame, name):
    """A column of an AnnData's frame, as its specification says; None where it is empty."""
    part = frame[name]
    kind = part.attrs["encoding-type"]
    if kind == "categorical":
        words = [*part["categories"][:], None]
        return [words[code] for code in part["codes"][:]]
    if kind.startswith("nullable"):
        values, mask = part["values"][:], part["mask"][:]
        return [None if empty else value for value, empty in zip(values, mask, strict=True)]
    return list(part[:])


def is_same(value, text):
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return text == ""
    if isinstance(value, bool | np.bool_):
        return text == str(value).lower()
    return text == value if isinstance(value, str) else value == float(text)


def test_the_table_has_the_values_of_the_files(store, rows):
    table = zarr.open_group(store, mode="r")["tables/cells"]
    obs = table["obs"]
    scores = [f"score_{one.name}" for one in CLASSES]
    kept = [name for name in rows[0] if name not in ("slide", "region", *scores)]
    assert obs.attrs["column-order"] == ["slide", "recipe", *kept, "region"]
    for name in obs.attrs["column-order"]:
        if name != "recipe":
            found = column(obs, name)
            assert len(found) == len(rows)
            assert all(is_same(value, row[name]) for value, row in zip(found, rows, strict=True)), (
                name
            )
    assert set(column(obs, "recipe")) == {"a" * 12}
    expected = np.array([[float(row[name]) for name in scores] for row in rows])
    np.testing.assert_array_equal(table["X"][:], expected)
    assert list(table["var/_index"][:]) == [one.name for one in CLASSES]
    assert list(obs["_index"][:]) == [f"{row['region']}_{row['id']}" for row in rows]
    assert obs["score"].chunks == (16,)
    assert str(table["uns/units/x_um"][()]) == "µm"


def test_boxes_are_linked_to_the_table_and_to_micrometres(store, rows):
    root = zarr.open_group(store, mode="r")
    table = root["tables/cells"]
    assert table.attrs["region"] == list(REGIONS.values())
    assert (table.attrs["region_key"], table.attrs["instance_key"]) == ("region", "id")
    assert sorted(name for name, _ in root["shapes"].groups()) == sorted(REGIONS.values())
    for region in REGIONS.values():
        shapes = pq.read_table(store / "shapes" / region / "shapes.parquet")
        own = [row for row in rows if row["region"] == region]
        assert shapes["id"].to_pylist() == [int(row["id"]) for row in own]
        for packed, row in zip(shapes["geometry"].to_pylist(), own, strict=True):
            left, top, right, bottom = (float(row[name]) for name in spatial_cells._EDGES)
            assert np.frombuffer(packed[:1] + packed[1:5], "u1").tolist() == [1, 3, 0, 0, 0]
            corners = np.frombuffer(packed[13:], "<f8").reshape(5, 2)
            assert corners.tolist() == [
                [right, top], [right, bottom], [left, bottom], [left, top], [right, top]
            ]  # fmt: skip
        scaled, same = root["shapes"][region].attrs["coordinateTransformations"]
        assert (scaled["type"], scaled["scale"]) == ("scale", [0.25, 0.25])
        assert scaled["output"]["name"] == region
        assert scaled["output"]["axes"][0]["unit"] == "micrometer"
        assert (same["type"], same["output"]["name"]) == ("identity", f"{region}_px")


def test_every_slide_is_told_and_the_whole_has_its_facts(store):
    root = zarr.open_group(store, mode="r")
    obs = root["tables/slides/obs"]
    assert column(obs, "slide") == list(NAMES)
    assert column(obs, "cells") == list(NAMES.values())
    assert column(obs, "region") == [*REGIONS.values(), ""]
    assert root.attrs["cytolibra"]["model"] == "fake"
    assert root.attrs["spatialdata_attrs"] == {"version": "0.2"}


def test_focal_planes_are_columns_that_may_be_empty(tmp_path):
    write(tmp_path / "r", "flat.svs", 4)
    write(tmp_path / "r", "deep.svs", 5, depths=(0.5, None))
    call(tmp_path / "r", "--to", "spatialdata", "--out", tmp_path / "x.zarr")
    obs = zarr.open_group(tmp_path / "x.zarr", mode="r")["tables/cells/obs"]
    rows = rows_of(tmp_path / "r/deep.svs")
    assert sorted(row["plane"] for row in rows) == ["1", "1", "1", "2", "2"]
    planes = column(obs, "plane")
    assert planes == [*(int(row["plane"]) for row in rows), None, None, None, None]
    depths = [float(row["z_um"] or "nan") for row in rows]
    np.testing.assert_array_equal(column(obs, "z_um"), [*depths, *[np.nan] * 4])


def test_names_are_those_that_spatialdata_takes():
    names = [
        "a b.svs",
        "a_b.svs",
        "A_B.SVS",
        "__x",
        "..",
        "é/😀",
        "n" * 300,
        "n" * 301,
        "q",
        "q_px",
    ]
    assert region_names(names) == [
        "a_b.svs", "a_b.svs-2", "A_B.SVS-3", "x", "slide", "é__", "n" * 120, "n" * 120 + "-2", "q",
        "q_px-2",
    ]  # fmt: skip


def test_long_names_of_any_script_are_those_of_files(tmp_path):
    names = ["検" * 80, "検" * 81, "x" + "検" * 80, "é" * 119]
    regions = region_names(names)
    assert regions == ["検" * 40, "検" * 40 + "-2", "x" + "検" * 39, "é" * 60]
    write(tmp_path / "r", names[0], 4)
    call(tmp_path / "r", "--to", "spatialdata", "--out", tmp_path / "x.zarr")
    root = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert column(root["tables/slides/obs"], "slide") == [names[0]]
    assert (tmp_path / "x.zarr/shapes" / regions[0]).is_dir()


def test_a_batch_without_cells_has_its_slides(tmp_path):
    write(tmp_path / "r", "a.svs", 0)
    call(tmp_path / "r", "--to", "spatialdata", "--out", tmp_path / "x.zarr")
    root = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert column(root["tables/slides/obs"], "slide") == ["a.svs"]
    assert "cells" not in root["tables"]


def test_nothing_is_replaced_and_nothing_half_written_stays(batch, tmp_path):
    (tmp_path / "x.zarr").mkdir()
    told = refused(batch, "--to", "spatialdata", "--out", tmp_path / "x.zarr")
    assert "is there already" in told
    write(tmp_path / "r", "a.svs", 4)
    table = tmp_path / "r/a.svs/cells.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    told = refused(tmp_path / "r", "--to", "spatialdata", "--out", tmp_path / "out/y.zarr")
    assert "it has 3 cells, and report.json beside it counts 4" in told
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_extra_it_says_which(batch, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    told = refused(batch, "--to", "spatialdata", "--out", tmp_path / "x.zarr")
    assert "zarr is not installed: pip install 'cytolibra[spatialdata]'" in told


OPENED = """
import json, sys, spatialdata
batch = spatialdata.read_zarr(sys.argv[1])
cells, told = batch.tables["cells"], {}
for name, boxes in batch.shapes.items():
    both, rows = spatialdata.join_spatialelement_table(
        sdata=batch, spatial_element_names=name, table_name="cells", how="inner"
    )
    moved = spatialdata.transform(boxes, to_coordinate_system=name)
    assert (rows.obs["id"].to_numpy() == both[name].index.to_numpy()).all()
    middle = moved.centroid
    told[name] = [len(rows), abs(middle.x.to_numpy() - rows.obs["x_um"].to_numpy()).max()]
print(json.dumps([told, cells.obs["class"].value_counts().to_dict(),
                  batch.tables["slides"].obs["cells"].tolist(), sorted(batch.coordinate_systems)]))
"""


def test_spatialdata_opens_it(store, rows):
    python = os.environ.get("CYTOLIBRA_SPATIALDATA") or (
        find_spec("spatialdata") and sys.executable
    )
    if not python:
        pytest.skip("needs a Python that has spatialdata: make test-spatialdata")
    ran = subprocess.run(
        [python, "-W", "ignore", "-c", OPENED, store], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    regions, classes, slides, systems = json.loads(ran.stdout.splitlines()[-1])
    assert {name: count for name, (count, _) in regions.items()} == {
        REGIONS[name]: count for name, count in NAMES.items() if count
    }
    assert max(off for _, off in regions.values()) < 0.01
    named = [row["class"] for row in rows]
    assert {name: count for name, count in classes.items() if count} == {
        name: named.count(name) for name in set(named)
    }
    assert slides == list(NAMES.values())
    assert systems == sorted([*REGIONS.values(), *(f"{one}_px" for one in REGIONS.values())])
