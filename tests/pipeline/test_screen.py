"""One slide from file to report, with a detector that finds dark squares."""

import csv
import json

import cv2
import numpy as np
import pytest
from blobs import CLASSES, BlobDetector, blob_slide
from planefiles import write_planes
from slidefiles import break_tiles, write_aperio, write_image, write_pyramid, write_scn
from smallbackbone import SMALL

from configs import ConfigError
from data.synth import draw_field
from models import ModelCard, ModelFileError, build_detector
from models.card import FalseAlarms, NoNumbersError, RateFacts
from pipeline.errors import SlideError
from pipeline.in_force import in_force
from pipeline.network.detector import RuntimeSettings, TileDetector
from pipeline.network.devices import find_device
from pipeline.network.precision import find_precision
from pipeline.reports.expectation import version_of
from pipeline.reports.triage import BY_CHANCE, NO_CATEGORY
from pipeline.reports.writers import write_reports
from pipeline.screen import screen_slide
from pipeline.settings import ScreenSettings

SIZE = (1500, 1100)


@pytest.fixture
def scattered():
    """Cells far enough apart that each is one blob, some across the seams of small tiles."""
    rng = np.random.default_rng(0)
    grid = [(x, y) for x in range(40, 1480, 60) for y in range(40, 1080, 60)]
    centers = [(x + int(rng.integers(-8, 8)), y + int(rng.integers(-8, 8))) for x, y in grid]
    return centers, rng.integers(0, 2, len(centers)).tolist()


def settings(**changes):
    values = {"tiler": {"size": 256, "overlap": 64}, "foreground": {"enabled": False}}
    return ScreenSettings.model_validate(values | changes)


@pytest.fixture
def slide(tmp_path, scattered):
    path = tmp_path / "slide ø\n.tif"
    image = blob_slide(SIZE, *scattered)
    return write_pyramid(path, image, levels=1, mpp=0.25, compression="deflate")


def test_finds_every_cell_once_wherever_the_seams_fall(slide, scattered):
    centers, labels = scattered
    expected = sorted((x, y, label) for (x, y), label in zip(centers, labels, strict=True))
    for offset in ((0, 0), (37, 101), (128, 5)):
        tiler = {"size": 256, "overlap": 64, "offset": offset}
        report = screen_slide(slide, BlobDetector(), settings(tiler=tiler))
        found = np.column_stack([report.cells.centers.round(), report.cells.labels])
        found = sorted(map(tuple, found.astype(int).tolist()))
        assert len(found) == len(expected)
        assert np.abs(np.array(found) - expected).max() <= 2
    assert report.counts == {name: labels.count(i) for i, name in enumerate(CLASSES)}
    assert report.abnormal_cells == labels.count(1)
    assert report.suggestion.category == NO_CATEGORY
    assert "does not know how many false alarms" in report.suggestion.rule
    assert report.area.screened_mm2 == pytest.approx(1500 * 1100 * 0.25**2 / 1e6)


def test_one_colour_of_glass_alone_is_not_screened(tmp_path):
    path = write_image(tmp_path / "blank.png", np.full((600, 600, 3), 240, np.uint8))
    report = screen_slide(path, BlobDetector(), ScreenSettings(mpp=0.25))
    assert report.area.screened_mm2 == 0
    assert len(report.cells) == 0
    assert report.cells_per_mm2 is None
    assert report.suggestion.category == "no cells above threshold"


def test_a_slide_smaller_than_a_tile(tmp_path):
    path = write_image(tmp_path / "tiny.png", blob_slide((90, 60), [(45, 30)], [1]))
    report = screen_slide(path, BlobDetector(), settings(mpp=0.25))
    assert report.counts == {"NILM": 0, "HSIL": 1}
    np.testing.assert_allclose(report.cells.boxes, [[35, 20, 55, 40]], atol=2)


def test_what_cannot_be_read_is_told_and_the_rest_is_screened(slide, scattered):
    break_tiles(slide, [0])
    report = screen_slide(slide, BlobDetector(), settings(max_unread=0.5))
    x_min, y_min, x_max, y_max = np.array(report.area.unread).T
    assert (x_min.min(), y_min.min()) == (0, 0)
    assert report.area.unread_mm2 > 0
    covered = report.area.unread_mm2 + report.area.screened_mm2
    assert covered == pytest.approx(report.area.slide_mm2)
    assert "unread-area" in [doubt.code for doubt in report.warnings]
    far = [(x, y) for x, y in scattered[0] if x > x_max.max() + 40 or y > y_max.max() + 40]
    found = report.cells.centers
    for center in far:
        assert np.abs(found - center).max(axis=1).min() <= 2


def test_a_slide_of_which_too_much_is_unread_fails(slide):
    break_tiles(slide, range(24 * 18))
    with pytest.raises(SlideError, match=r"100% of what had to be screened can't be read"):
        screen_slide(slide, BlobDetector(), settings())


def test_want_of_memory_says_what_to_turn_down(slide, monkeypatch):
    def want_memory(self, tiles):
        raise MemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(BlobDetector, "detect", want_memory)
    with pytest.raises(SlideError, match=r"tif: out of memory on cpu; .*batch_size \(2\).*\(256\)"):
        screen_slide(slide, BlobDetector(), settings())


def test_a_network_that_gives_no_numbers_fails_the_slide_in_one_line(slide, monkeypatch):
    def no_numbers(self, tiles):
        raise NoNumbersError

    monkeypatch.setattr(BlobDetector, "detect", no_numbers)
    with pytest.raises(SlideError, match=r"tif: the network gives no numbers .*--precision fp32"):
        screen_slide(slide, BlobDetector(), settings())


def test_progress_counts_the_tiles(slide):
    told = []
    screen_slide(
        slide, BlobDetector(), settings(), progress=lambda done, total: told.append((done, total))
    )
    assert told[-1][0] == told[-1][1] > 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_same_slide_gives_the_same_report(slide):
    first, second = (screen_slide(slide, BlobDetector(), settings()) for _ in range(2))
    volatile = {"timing"}
    assert first.model_dump(exclude=volatile) == second.model_dump(exclude=volatile)
    np.testing.assert_array_equal(first.cells.boxes, second.cells.boxes)


@pytest.mark.parametrize("write", [write_aperio, write_pyramid])
def test_any_number_of_threads_finds_the_same_cells(tmp_path, scattered, write):
    path = write(tmp_path / "slide.svs", blob_slide(SIZE, *scattered), levels=1)
    files = set()
    for readers, lanes, batch_size in ((1, 1, 1), (2, 1, 2), (5, 3, 2)):
        detector = BlobDetector()
        detector.readers, detector.lanes, detector.batch_size = readers, lanes, batch_size
        write_reports(screen_slide(path, detector, settings()), tmp_path)
        files.add((tmp_path / "cells.csv").read_bytes())
    assert len(files) == 1
    assert files.pop().count(b"\n") > len(scattered[0])


@pytest.fixture
def detector():
    config = {"name": "fcos", "classes": CLASSES, "pyramid": {"channels": 32}}
    model = build_detector(config | SMALL)
    thresholds = {"NILM": 0.004, "HSIL": 0.002}
    model.card = ModelCard(name="x", detector=model.config, mpp=0.5, thresholds=thresholds)
    return model


def test_a_network_reports_nothing_below_its_own_thresholds(detector):
    tile = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    ready = TileDetector(detector, RuntimeSettings(device="cpu", precision="fp32"))
    found = ready.detect([tile, tile])
    assert len(found[0])
    np.testing.assert_array_equal(found[0].boxes, found[1].boxes)
    assert (found[0].scores >= ready.thresholds[found[0].labels]).all()
    none = TileDetector(detector, RuntimeSettings(device="cpu"), threshold=0.99).detect([tile])
    assert len(none[0]) == 0


@pytest.mark.parametrize(
    ("given", "readers"),
    [({"threads": 1}, 2), ({"threads": 8}, 3), ({"threads": 16}, 5), ({"readers": 7}, 7)],
)
def test_readers_keep_the_network_busy_on_any_number_of_cores(detector, given, readers):
    runtime = RuntimeSettings(device="cpu", name="torch", precision="fp32", **given)
    ready = TileDetector(detector, runtime)
    assert (ready.readers, ready.lanes, ready.batch_size) == (readers, 1, 1)


def test_a_detector_without_a_card_is_refused(detector):
    detector.card = None
    with pytest.raises(ModelFileError, match="no card"):
        TileDetector(detector)


def test_devices_and_precisions_that_are_not_here_are_refused():
    with pytest.raises(Exception, match="device tpu: not on this machine, which has cpu"):
        find_device("tpu")
    with pytest.raises(Exception, match="fp16: for GPUs only"):
        find_precision("fp16", find_device("cpu"))
    assert find_precision("auto", find_device("cpu")) in ("fp32", "bf16")


def told(report):
    return [doubt.code for doubt in report.warnings]


def test_a_slide_that_carries_a_wrong_scale_can_be_overruled(tmp_path, slide):
    table = tmp_path / "mpp.csv"
    table.write_text(f"slide,mpp\n{tmp_path.name}/other.tif,0.5\n", encoding="utf-8")
    other = tmp_path / "other.tif"
    other.write_bytes(slide.read_bytes())
    plain, overruled, tabled = (
        screen_slide(other, BlobDetector(), settings(**changes))
        for changes in (
            {},
            {"mpp_override": 0.3},
            {"mpp_override": 0.3, "mpp_table": table, "tiler": {"allow_coarse": True}},
        )
    )
    scales = [(r.slide.mpp, r.slide.mpp_source) for r in (plain, overruled, tabled)]
    assert scales == [(0.25, "file"), (0.3, "override"), (0.5, "table")]
    assert "mpp-overruled" not in told(plain)
    assert "mpp-overruled" in told(overruled)
    assert "mpp-overruled" in told(tabled)
    untouched = screen_slide(slide, BlobDetector(), settings(mpp_table=table))
    assert untouched.slide.mpp_source == "file"


@pytest.mark.parametrize(("times", "codes"), [(1.0, []), (1.3, []), (1.35, ["mpp-coarse"])])
def test_a_slide_coarser_than_the_model_is_told(tmp_path, times, codes):
    image = write_image(tmp_path / "a.png", blob_slide((300, 200), [(100, 100)], [1]))
    mpp = BlobDetector().card.mpp * times
    report = screen_slide(image, BlobDetector(), settings(mpp=mpp))
    assert [code for code in told(report) if code == "mpp-coarse"] == codes


def test_a_slide_much_coarser_than_the_model_is_refused_unless_allowed(tmp_path):
    image = write_image(tmp_path / "a.png", blob_slide((300, 200), [(100, 100)], [1]))
    mpp = BlobDetector().card.mpp * 2.1
    with pytest.raises(SlideError, match=r"a\.png: .*2\.1 times coarser.*allow_coarse") as caught:
        screen_slide(image, BlobDetector(), settings(mpp=mpp))
    assert caught.value.code == "too-coarse"
    allowed = settings(mpp=mpp, tiler={"size": 256, "overlap": 64, "allow_coarse": True})
    assert "mpp-coarse" in told(screen_slide(image, BlobDetector(), allowed))


def test_strict_turns_each_warning_into_a_failure_with_its_code(tmp_path, slide):
    dark = write_image(tmp_path / "dark.png", np.full((600, 600, 3), 30, np.uint8))
    changes = {"mpp": 0.25, "foreground": {"enabled": True}}
    assert "too-dark" in told(screen_slide(dark, BlobDetector(), settings(**changes)))
    with pytest.raises(SlideError, match=r"dark\.png: .*--strict: .*\[too-dark\].*\[strict\]"):
        screen_slide(dark, BlobDetector(), settings(**changes, strict=True))
    break_tiles(slide, [0])
    with pytest.raises(SlideError, match=r"\[unread-area\]"):
        screen_slide(slide, BlobDetector(), settings(max_unread=0.5, strict=True))


def test_a_slide_without_warnings_passes_strict(tmp_path):
    path = tmp_path / "drawn.tif"
    write_pyramid(path, draw_field(7, (1200, 900), 0.25)[0], levels=1, mpp=0.25)
    report = screen_slide(path, BlobDetector(), settings(strict=True))
    assert report.warnings == ()
    assert "strict" not in report.settings
    fact = report.slide.facts[0]
    assert (fact.name, fact.value, fact.source) == ("mpp", "0.25 µm per pixel", "file")


def test_a_slide_scanned_in_part_tells_each_file_s_frame(tmp_path):
    """QuPath shows the scanned part alone, its corner as the origin: there its cells must lie."""
    centers, origin = [(100, 200), (700, 500)], (512, 384)
    image = blob_slide((1024, 768), centers, [1, 0])
    path = write_scn(tmp_path / "part.scn", image, origin, (4096, 3072))
    report = screen_slide(path, BlobDetector(), settings())
    write_reports(report, tmp_path)
    assert report.slide.bounds == (512, 384, 1024, 768)
    (fact,) = [fact for fact in report.slide.facts if fact.name == "frame"]
    assert "1024 x 768 px at (512, 384) of 4096 x 3072" in fact.value
    collection = json.loads((tmp_path / "cells.geojson").read_text(encoding="utf-8"))
    rings = [feature["geometry"]["coordinates"][0][:4] for feature in collection["features"]]
    np.testing.assert_allclose(np.mean(rings, axis=1), centers, atol=2)
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    whole = [(float(row["x_center"]), float(row["y_center"])) for row in rows]
    np.testing.assert_allclose(whole, np.add(centers, origin), atol=2)
    assert float(rows[0]["x_um"]) == pytest.approx(whole[0][0] * 0.25, abs=0.01)


def test_a_slide_that_was_scanned_whole_has_no_bounds_to_tell(slide):
    report = screen_slide(slide, BlobDetector(), settings())
    assert report.slide.bounds is None
    assert "frame" not in {fact.name for fact in report.slide.facts}


def with_figures(per_mm2):
    """The detector, whose card says how often it calls what is normal HSIL."""
    spread = {"between": 0.05, "within": 0.0, "units": 30, "slides": 30}
    rate = RateFacts(per_mm2=per_mm2, mm2=300.0, found=0, unit_mm2=10.0, **spread)
    detector = BlobDetector()
    alarms = FalseAlarms(
        groups={"HSIL": rate, "abnormal": rate},
        unit="slide",
        data="made up",
        thresholds=detector.card.thresholds,
    )
    detector.card = detector.card.model_copy(update={"false_alarms": alarms})
    return detector, alarms


def test_a_category_is_suggested_where_more_was_found_than_chance_has(slide, scattered):
    abnormal = scattered[1].count(1)
    mm2 = 1500 * 1100 * 0.25**2 / 1e6
    few, many = with_figures(1.0)[0], with_figures(abnormal / mm2)[0]
    report = screen_slide(slide, few, settings())
    assert (report.suggestion.category, report.suggestion.level) == ("HSIL", "class")
    assert report.expectation.groups["HSIL"].found == abnormal
    report = screen_slide(slide, many, settings())
    assert (report.suggestion.category, report.suggestion.level) == (BY_CHANCE, None)
    finding = report.expectation.groups["HSIL"]
    assert finding.low < abnormal < finding.high


def test_a_lab_s_own_normal_slides_go_before_the_model_s_figures(tmp_path, slide, scattered):
    detector, alarms = with_figures(1.0)
    rate = alarms.groups["HSIL"].model_copy(update={"per_mm2": 1e5})
    own = alarms.model_copy(update={"groups": {"HSIL": rate, "abnormal": rate}})
    path = tmp_path / "negatives.json"
    path.write_text(own.model_dump_json())
    chosen = settings(triage={"negatives": path})
    report = screen_slide(slide, detector, chosen)
    assert report.suggestion.category == BY_CHANCE
    assert report.settings["triage"]["negatives"] == version_of(own)
    assert in_force(settings(), detector).settings["triage"]["negatives"] == version_of(alarms)


def test_negatives_of_another_model_or_other_thresholds_are_a_wrong_call(tmp_path):
    detector, alarms = with_figures(1.0)
    path = tmp_path / "negatives.json"
    path.write_text(alarms.model_copy(update={"sha256": "other"}).model_dump_json())
    with pytest.raises(ConfigError, match="measured with another model"):
        in_force(settings(triage={"negatives": path}), detector)
    path = tmp_path / "more.json"
    path.write_text(alarms.model_copy(update={"thresholds": {"HSIL": 0.9}}).model_dump_json())
    with pytest.raises(ConfigError, match="other thresholds"):
        in_force(settings(triage={"negatives": path}), detector)


def test_of_a_picture_that_is_no_smear_no_category_is_suggested(tmp_path):
    image = blob_slide((600, 400), [(100, 100), (300, 200)], [1, 1]) // 3
    path = write_image(tmp_path / "dark.png", image)
    changes = {"mpp": 0.25, "foreground": {"enabled": True}}
    report = screen_slide(path, with_figures(0.001)[0], settings(**changes))
    assert "too-dark" in told(report)
    assert report.abnormal_cells > 0
    assert (report.suggestion.category, report.expectation) == (NO_CATEGORY, None)
    assert "no picture that the model knows" in report.suggestion.rule


@pytest.fixture(scope="module")
def half_blurred(tmp_path_factory):
    """Drawn cells on 0.13 mm², whose left half is out of focus."""
    image = draw_field(11, (2048, 1024), 0.25)[0]
    image[:, :1024] = cv2.GaussianBlur(image, (0, 0), 6)[:, :1024]
    path = tmp_path_factory.mktemp("blurred") / "half.tif"
    return write_pyramid(path, image, levels=1, mpp=0.25)


def test_a_part_that_is_out_of_focus_is_told_with_its_area_and_its_cells(half_blurred):
    report = screen_slide(half_blurred, BlobDetector(), settings(foreground={"enabled": True}))
    half = 1024 * 1024 * 0.25**2 / 1e6
    assert report.area.out_of_focus_mm2 == pytest.approx(half, rel=0.15)
    fault = report.quality.out_of_focus
    assert fault.share == pytest.approx(0.5, abs=0.1)
    left = report.cells.centers[:, 0] < 1024
    assert 0 < fault.cells <= left.sum()
    assert "out-of-focus-areas" in told(report)
    assert "out-of-focus" not in told(report)  # not the slide as a whole
    assert report.suggestion.set_aside is not True
    assert report.adequacy.obscured is None or report.adequacy.obscured.places == 8
    assert "sharpness" in report.timing


def test_a_limit_and_no_wish_to_know_change_what_is_told_and_not_what_is_kept(half_blurred):
    reports = [
        screen_slide(half_blurred, BlobDetector(), settings(quality=changes))
        for changes in ({"out_of_focus": 0.9}, {"enabled": False}, {"least_sharp": 0.01})
    ]
    assert all("out-of-focus-areas" not in told(report) for report in reports)
    assert reports[0].area.out_of_focus_mm2 > 0.05
    assert reports[1].area.out_of_focus_mm2 is reports[1].quality is None
    assert reports[2].area.out_of_focus_mm2 == 0
    kept = [report.kept.faults.sharpness.tobytes() for report in reports]
    assert len(set(kept)) == 1


def test_tiles_of_other_sizes_measure_the_same_squares(half_blurred):
    """Squares that a tile's border cuts are measured in part; none is lost."""
    maps = [
        screen_slide(half_blurred, BlobDetector(), settings(tiler=tiler)).kept.faults.sharpness
        for tiler in ({"size": 1024, "overlap": 512}, {"size": 512, "overlap": 128})
    ]
    assert maps[0].shape == maps[1].shape == (2, 4)
    np.testing.assert_array_equal(*(one < 0.3 for one in maps))
    np.testing.assert_allclose(*maps, rtol=0.25)


@pytest.mark.parametrize(("planes", "blurred"), [(1, [1, 1, 0, 0]), ("all", [0, 0, 0, 0])])
def test_of_focal_planes_a_square_is_out_of_focus_where_none_that_is_read_shows_it(
    tmp_path, planes, blurred
):
    sharp = draw_field(11, (2048, 512), 0.25)[0]
    soft = cv2.GaussianBlur(sharp, (0, 0), 6)
    stack = [np.concatenate(two, axis=1) for two in (
        (soft[:, :1024], sharp[:, 1024:]), (sharp[:, :1024], soft[:, 1024:])
    )]  # fmt: skip
    path = write_planes(tmp_path / "stack.ome.tif", stack)
    report = screen_slide(path, BlobDetector(), settings(planes=planes))
    assert (report.kept.faults.sharpness < 0.3).astype(int).tolist() == [blurred]
