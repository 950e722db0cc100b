"""Drawn cells meet the criteria of their classes."""

import numpy as np
import pytest

from data.synth.cells import draw_cell, reach_of
from data.synth.criteria import CLASSES, INTERMEDIATE_NUCLEUS_UM2, CellPlan, plan_cell
from data.synth.noise import CLOUDS, GRAIN, field_at, field_over, texture, window
from data.synth.shapes import Sketch, area_of, blob
from data.synth.stain import develop, sample_stain

MPP = 0.25


def plans(name: str, count: int = 150) -> list[CellPlan]:
    stain = sample_stain(np.random.default_rng(0))
    label = CLASSES.index(name)
    return [plan_cell(label, np.random.default_rng(i), stain) for i in range(count)]


def nuclear_ratios(name: str) -> np.ndarray:
    return np.array([p.nuclear_area for p in plans(name)]) / INTERMEDIATE_NUCLEUS_UM2


def nc_ratios(name: str) -> np.ndarray:
    """Nuclear over cell area."""
    return np.array([p.nuclear_area / area_of(p.cytoplasm) for p in plans(name)])


def test_normal_nuclei_stay_below_one_and_a_half_times_an_intermediate_one():
    ratios = nuclear_ratios("NILM")
    assert ratios.max() <= 1.5
    assert ratios.min() >= 0.3
    assert 0.7 < np.median(ratios) < 1.2


def test_ascus_nuclei_are_two_and_a_half_to_three_times_normal():
    ratios = nuclear_ratios("ASC-US")
    assert (ratios >= 2.499).all()
    assert (ratios <= 3.001).all()


def test_lsil_nuclei_exceed_three_times_and_some_are_paired_or_haloed():
    assert (nuclear_ratios("LSIL") > 3.0).all()
    cells = plans("LSIL")
    assert 0.15 < np.mean([len(p.nuclei) == 2 for p in cells]) < 0.45
    assert 0.2 < np.mean([p.halo is not None for p in cells]) < 0.55


def test_asch_and_hsil_are_small_cells_with_a_high_nc_ratio():
    asch = nuclear_ratios("ASC-H")
    assert asch.min() >= 1.499
    assert asch.max() <= 2.501
    assert nc_ratios("ASC-H").min() > 0.25
    assert nc_ratios("HSIL").min() > 0.3
    mature = np.median(nc_ratios("ASC-US"))
    assert np.median(nc_ratios("ASC-H")) > 4 * mature


def test_contours_grow_uneven_with_the_grade():
    def unevenness(name: str) -> float:
        """Perimeter squared over area, at its least for a circle."""
        values = []
        for plan in plans(name):
            outline = plan.nuclei[0].outline
            steps = np.diff(outline, axis=0, append=outline[:1])
            values.append(np.hypot(*steps.T).sum() ** 2 / area_of(outline))
        return float(np.median(values))

    assert unevenness("NILM") < unevenness("HSIL") < unevenness("SCC")


@pytest.mark.parametrize("name", CLASSES)
def test_the_drawn_nucleus_has_the_planned_area(name):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        stain = sample_stain(rng)
        plan = plan_cell(CLASSES.index(name), rng, stain)
        if len(plan.nuclei) > 1:
            continue
        _, stamp = draw_cell(plan, rng, stain, (100.3, 80.7), MPP)
        density = stamp.density[1]
        drawn = (density > 0.5 * np.median(density[density > 0.3 * density.max()])).sum()
        assert drawn * MPP**2 == pytest.approx(plan.nuclear_area, rel=0.1)


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_drawn_beyond_the_reach(name):
    rng = np.random.default_rng(3)
    stain = sample_stain(rng)
    plan = plan_cell(CLASSES.index(name), rng, stain)
    for defocus in (0.0, 1.0):
        for stamp in draw_cell(plan, rng, stain, (300.0, 300.0), MPP, defocus):
            border = np.concatenate(
                [stamp.density[:, [0, -1]].ravel(), stamp.density[..., [0, -1]].ravel()]
            )
            assert np.abs(border).max() < 0.02
            assert stamp.x >= 300 - reach_of(plan, defocus) / MPP - 4


def test_a_halo_clears_the_cytoplasm_around_the_nucleus():
    stain = sample_stain(np.random.default_rng(0))
    plan = next(p for p in plans("LSIL") if p.halo is not None and p.thickness > 0.8)
    cytoplasm, _ = draw_cell(plan, np.random.default_rng(1), stain, (300.5, 300.5), MPP)
    halo_radius = np.sqrt(area_of(plan.halo) / np.pi)
    nucleus_radius = np.abs(plan.nuclei[0].outline).max()
    between = (halo_radius + nucleus_radius) / 2
    rows, columns = np.mgrid[: cytoplasm.density.shape[1], : cytoplasm.density.shape[2]]
    x, y = (columns + cytoplasm.x - 300) * MPP, (rows + cytoplasm.y - 300) * MPP
    total = cytoplasm.density.sum(0)
    body = total[total > 0.3 * np.median(total[total > 0.05])]
    ring = total[np.abs(np.hypot(x, y) - between) < 0.5]
    assert np.median(ring) < 0.6 * np.median(body)


def test_layers_multiply_the_light():
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0, 1.5, (2, 3, 20, 30)).astype(np.float32)
    alone, beneath, together = (np.empty((20, 30, 3), np.uint8) for _ in range(3))
    develop(one.copy(), alone)
    develop(other.copy(), beneath)
    develop(one + other, together)
    expected = alone.astype(float) * beneath / 255
    assert np.abs(together - expected).max() <= 1.6


def test_a_blob_has_exactly_its_area_and_a_mask_covers_it():
    rng = np.random.default_rng(1)
    for area in (5.0, 35.0, 400.0):
        outline = blob(rng, area, 1.4, 0.08)
        assert area_of(outline) == pytest.approx(area, rel=1e-9)
        mask = Sketch.around((50.2, 60.9), MPP, 20).mask(outline, soft=0.25)
        assert mask.sum() * MPP**2 == pytest.approx(area, rel=0.06)


def test_a_mask_lies_where_its_outline_is():
    sketch = Sketch.around((50.2, 60.9), MPP, 12)
    mask = sketch.mask(blob(np.random.default_rng(0), 60.0), soft=0.25)
    rows, columns = np.mgrid[: sketch.height, : sketch.width]
    x = (mask * (columns + sketch.x + 0.5)).sum() / mask.sum()
    y = (mask * (rows + sketch.y + 0.5)).sum() / mask.sum()
    assert (x, y) == pytest.approx((50.2, 60.9), abs=0.6)


def test_a_field_over_a_grid_is_the_field_at_its_points():
    x, y = np.arange(-40, 200) * 0.37, np.arange(300, 420) * 0.37
    grid = field_over(9, 25.0, x, y)
    points = field_at(9, 25.0, x[None, :], y[:, None])
    np.testing.assert_allclose(grid, points, atol=1e-6)
    assert 0 <= grid.min() < grid.max() <= 1


def test_a_window_wraps_around_its_tile():
    tile = np.arange(64, dtype=np.float32).reshape(8, 8)
    for x, y, width, height in ((0, 0, 8, 8), (5, 7, 3, 1), (6, -3, 30, 11), (-17, 4, 5, 20)):
        rows = (y + np.arange(height)) % 8
        columns = (x + np.arange(width)) % 8
        expected = tile[rows][:, columns]
        np.testing.assert_array_equal(window(tile, x, y, width, height), expected)


@pytest.mark.parametrize("band", [GRAIN, CLOUDS])
def test_texture_has_unit_contrast_where_pixels_resolve_it(band):
    tile = texture(band, 0.12)
    assert abs(tile.mean()) < 0.02
    assert tile.std() == pytest.approx(1.0, abs=0.1)
    assert texture(band, 1.0).std() < tile.std()
