import re
import threading
import time
from pathlib import Path

import pytest
from fakes import make_report
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from configs import ConfigError
from pipeline.batch import metrics as module
from pipeline.batch.discovery import SlideJob
from pipeline.batch.exposition import Family, Sample, expose
from pipeline.batch.metrics import RunMetrics, metrics_file
from pipeline.batch.run_record import SlideRecord
from pipeline.reports.slide_summary import SlideSummary


def job(name: str) -> SlideJob:
    return SlideJob(path=Path("/slides", name), name=name)


def parse(text: str) -> dict[str, Metric]:
    """Families by name, held against what node_exporter asks for."""
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    told = [re.match(r"(# \w+ )?(\w+)", line) for line in text.splitlines()]
    assert all(told)
    series = [(s.name, tuple(sorted(s.labels.items()))) for f in families for s in f.samples]
    assert len(series) == len(set(series))
    for family in families:
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        # The parser takes the ending of counters off; node_exporter wants it.
        if family.type == "counter":
            assert f"# TYPE {family.name}_total counter\n" in text
    return {family.name: family for family in families}


def values(text: str) -> dict[tuple[str, ...], float]:
    """Values by name of the series and the values of its own labels."""
    return {
        (s.name, *(value for key, value in s.labels.items() if key != "batch")): s.value
        for family in parse(text).values()
        for s in family.samples
    }


def end(metrics: RunMetrics, name: str, **record: object) -> None:
    what = SlideRecord(path=f"/slides/{name}", **record)
    report = SlideSummary.of(make_report(job(name).path)) if what.status == "complete" else None
    metrics.slide_ended(job(name), what, report)


def test_a_run_is_told_in_numbers_that_prometheus_reads() -> None:
    metrics = RunMetrics('night "1"\n\\')
    metrics.describe("cric-fcos")
    metrics.batch_started(7)
    for name in "abcd":
        metrics.slide_started(job(name))
    metrics.tiles_done(job("a").path, 3, 5)
    metrics.tiles_done(job("a").path, 5, 5)
    metrics.tiles_done(job("c").path, 2, 9)
    end(metrics, "a", status="complete", seconds=31.5)
    metrics.tiles_done(job("a").path, 5, 5)  # of another process, and late
    end(metrics, "b", status="failed", seconds=1, error="b: states no scale [mpp-missing]")
    end(metrics, "d", status="failed", seconds=1, error="d: damaged [at-17]")
    end(metrics, "e", status="complete", reused=True)
    end(metrics, "f", status="complete", rescored=True, seconds=0.5)
    text = metrics.text()
    assert {s.labels["batch"] for f in parse(text).values() for s in f.samples} == {'night "1"\n\\'}
    told = values(text)
    assert {key[1]: n for key, n in told.items() if key[0] == "cytolibra_slides"} == {
        "pending": 1,
        "running": 1,
        "complete": 3,
        "failed": 2,
    }
    outcomes = {k[1]: n for k, n in told.items() if k[0] == "cytolibra_slides_ended_total"}
    assert outcomes == {
        "screened": 1,
        "rescored": 1,
        "reused": 1,
        "failed": 2,
        "elsewhere": 0,
    }
    failures = {k[1]: n for k, n in told.items() if k[0] == "cytolibra_slide_failures_total"}
    assert failures == {"mpp-missing": 1, "other": 1}
    report = make_report(Path("a"))
    area = told[("cytolibra_screened_area_square_meters_total",)]
    assert area == pytest.approx(report.area.screened_mm2 * 1e-6)
    assert area > 0
    cells = {k[1]: n for k, n in told.items() if k[0] == "cytolibra_cells_total"}
    assert cells == make_report(Path("a")).counts
    assert told[("cytolibra_abnormal_cells_total",)] == report.abnormal_cells
    assert told[("cytolibra_tiles_total",)] == 7
    duration = "cytolibra_slide_duration_seconds"
    assert (told[f"{duration}_count",], told[f"{duration}_sum",]) == (1, 31.5)
    assert [told[f"{duration}_bucket", le] for le in ("30", "60", "+Inf")] == [0, 1, 1]
    assert abs(told[("cytolibra_last_success_timestamp_seconds",)] - time.time()) < 60
    assert told[("cytolibra_run_active",)] == 1
    assert told[("cytolibra_remaining_seconds",)] > 0
    rate = told[("cytolibra_slides_per_second",)]
    assert told[("cytolibra_remaining_seconds",)] * rate == pytest.approx(2)
    (info,) = parse(text)["cytolibra_build_info"].samples
    assert info.labels["model"] == "cric-fcos"


def test_what_other_processes_do_is_counted_apart() -> None:
    metrics = RunMetrics("b")
    metrics.batch_started(5)
    metrics.slide_started(job("a"))  # and taken over
    for name, status in {"a": "complete", "b": "failed"}.items():
        record = SlideRecord(path=name, status=status, seconds=3)
        metrics.slide_ended_elsewhere(
            job(name), record, SlideSummary.of(make_report(job(name).path))
        )
    end(metrics, "c", status="complete", seconds=3)
    told = values(metrics.text())
    states = {key[1]: n for key, n in told.items() if key[0] == "cytolibra_slides"}
    assert states == {"pending": 2, "running": 0, "complete": 2, "failed": 1}
    assert told["cytolibra_slides_ended_total", "elsewhere"] == 2
    assert told["cytolibra_slides_ended_total", "screened"] == 1
    assert told["cytolibra_slide_duration_seconds_count",] == 1
    assert ("cytolibra_remaining_seconds",) not in told


def test_a_run_that_has_ended_says_so() -> None:
    metrics = RunMetrics("b")
    metrics.batch_started(2)
    metrics.slide_started(job("a"))
    assert ("cytolibra_run_exit_code",) not in values(metrics.text())
    metrics.end(130)
    told = values(metrics.text())
    assert told[("cytolibra_run_active",)] == 0
    assert told[("cytolibra_run_exit_code",)] == 130
    assert told["cytolibra_slides", "running"] == 0
    assert told["cytolibra_slides", "pending"] == 2
    rates = [values(metrics.text())[("cytolibra_slides_per_second",)] for _ in range(2)]
    assert rates[0] == rates[1]


def test_there_are_as_many_series_for_many_slides_as_for_few() -> None:
    counts = []
    for slides in (5, 500):
        metrics = RunMetrics("b")
        metrics.batch_started(slides)
        for n in range(slides):
            metrics.slide_started(job(f"{n}.svs"))
            failed = {"status": "failed", "error": f"{n}.svs: damaged at {n} [{n}]"}
            end(metrics, f"{n}.svs", **({"status": "complete"} if n % 2 else failed), seconds=n)
        counts.append(len(metrics.text().splitlines()))
    assert counts[0] == counts[1]


def test_labels_help_and_values_are_escaped() -> None:
    nasty = 'a\\n"b"\nc\udcff{}='
    text = expose(
        [Family("x_total", "counter", "A \\ and\na line.", [Sample(2.5, {"l": nasty})])], {}
    )
    assert len(text.splitlines()) == 3
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"l": 'a\\n"b"\nc\\udcff{}='}
    assert family.documentation == "A \\ and\na line."
    assert family.samples[0].value == 2.5


def wait_for(holds: object, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)


@pytest.mark.usefixtures("quick")
def test_the_file_is_there_before_after_and_as_slides_end(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    with metrics_file(path, pytest.fail, every=60) as metrics:
        assert values(path.read_text())["cytolibra_run_active",] == 1
        metrics.batch_started(1)
        end(metrics, "a", status="complete", seconds=2)
        wait_for(lambda: values(path.read_text())["cytolibra_slides", "complete"] == 1)
        metrics.end(0)
    told = values(path.read_text())
    assert (told["cytolibra_run_active",], told["cytolibra_run_exit_code",]) == (0, 0)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("quick")
def test_it_is_written_though_nothing_happens(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    with metrics_file(path, pytest.fail, every=0.05):
        first = path.stat().st_mtime_ns
        wait_for(lambda: path.stat().st_mtime_ns > first)
        path.unlink()  # somebody tidies up: it comes again, and nobody is told
        wait_for(path.exists)
    assert "cytolibra_run_exit_code" not in path.read_text()


@pytest.mark.usefixtures("quick")
def test_no_reader_meets_a_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    seen: set[float] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            text = path.read_text()
            assert text.endswith("\n")
            seen.add(values(text)["cytolibra_slide_duration_seconds_count",])

    with metrics_file(path, pytest.fail) as metrics:
        reader = threading.Thread(target=read)
        reader.start()
        for n in range(50):
            end(metrics, f"{n}", status="complete", seconds=1)
            time.sleep(0.005)
        stop.set()
        reader.join()
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("night.txt", r"night\.txt: node_exporter reads .* such as .*night\.prom"),
        (".prom", r"\.prom: node_exporter reads"),
        ("none/night.prom", r"night\.prom: can't be written: No such file"),
    ],
)
def test_a_file_that_cant_be_is_told_before_anything_begins(
    tmp_path: Path, name: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told), metrics_file(tmp_path / name, pytest.fail):
        pytest.fail("began")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.usefixtures("quick")
def test_what_goes_wrong_later_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "textfiles"
    folder.mkdir()
    told: list[str] = []
    with metrics_file(folder / "night.prom", told.append, every=0.02):
        (folder / "night.prom").unlink()
        folder.rmdir()
        wait_for(lambda: told)
        time.sleep(0.1)
    (one,) = told
    assert "night.prom: can't be written: No such file or directory" in one


@pytest.mark.usefixtures("quick")
def test_two_runs_that_write_one_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    told: list[str] = []
    with metrics_file(path, told.append, every=60), metrics_file(path, told.append, every=60):
        pass
    assert len(told) == 1
    assert "is written by another run, too" in told[0]


def test_a_call_that_is_refused_leaves_its_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    with pytest.raises(ConfigError), metrics_file(path, pytest.fail):
        raise ConfigError("no slides")
    assert values(path.read_text())["cytolibra_run_exit_code",] == 2
