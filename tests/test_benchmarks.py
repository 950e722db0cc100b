import os
import subprocess
import sys
from pathlib import Path

import bench_backbones
import bench_isolation
import bench_objects
import bench_peers
import bench_reader
import bench_reviews
import bench_staging
import bench_stitcher
import gpu_busy
import pytest
import simulate_cluster
from clustersim import WAYS, Rates, simulate

from configs import load_config

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.sh"


def test_the_benchmark_of_the_stitcher_runs() -> None:
    _, _, kept = bench_stitcher.seconds_to_merge(3000)
    assert 1500 < kept < 2900


def test_the_benchmark_of_objects_runs() -> None:
    pytest.importorskip("highdicom", reason="DICOM objects need cytolibra[dicom]")
    count, seconds, size, _ = bench_objects.measure(2000).replace(",", "").split()
    assert count == "2000"
    assert float(seconds) > 0
    assert float(size) == pytest.approx(2000 * 48 / 1e6, abs=0.06)


@pytest.mark.parametrize(
    ("bench", "side", "told"),
    [
        pytest.param(bench_reader, "1200", "tiles as chosen", id="reader"),
        pytest.param(bench_reader, "600 --dicom", "tiles by OpenSlide", id="reader of DICOM"),
        pytest.param(
            bench_isolation,
            "600",
            "in a process: opened in",
            id="isolation",
            marks=pytest.mark.slow,
        ),
        pytest.param(bench_peers, "1600", "plain loop", id="peers", marks=pytest.mark.slow),
        pytest.param(
            bench_backbones,
            "256 --backbones efficientnet_lite0",
            "efficientnet_lite0",
            id="backbones",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_benchmark_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bench: object,
    side: str,
    told: str,
) -> None:
    more = ["--slides", "0"] if bench is bench_isolation else []
    monkeypatch.setattr("sys.argv", ["bench", "--side", *side.split(), "--rounds", "1", *more])
    bench.main()
    assert told in capsys.readouterr().out


@pytest.mark.slow
def test_the_benchmark_of_staging_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("aiohttp", reason="the extra cloud is not installed")
    small = ["bench", "--side", "900", "--slides", "2", "--shares", "0.5"]
    monkeypatch.setattr("sys.argv", small)
    bench_staging.main()
    *_, line = capsys.readouterr().out.splitlines()
    rate, alone, both, over = (float(cell) for cell in line.strip("| ").split("|"))
    assert rate > 0
    assert alone > 0
    assert both - over > 0


@pytest.mark.slow
def test_the_benchmark_of_isolation_screens(capsys: pytest.CaptureFixture[str]) -> None:
    bench_isolation.tell_batches(1, 1500, 1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == ["screened here", "screened isolated"]


def test_the_benchmark_of_reviews_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["bench", "--entries", "40", "--folder", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    bench_reviews.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["4", "40"]
    assert list(tmp_path.iterdir()) == []


def test_the_share_of_time_that_a_gpu_is_busy_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '0, 100\\n0, 0\\n1, [N/A]\\n0, 50\\n'; exec sleep 60\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    code = "import sys, time; time.sleep(0.5); sys.exit(3)"
    monkeypatch.setattr("sys.argv", ["gpu_busy", sys.executable, "-c", code])
    assert gpu_busy.main() == 3
    told = capfd.readouterr().out
    assert told == "GPU 0: busy 50% of the time (3 samples), idle in 33% of them\n"
    assert gpu_busy.describe("0, [N/A]\n").startswith("nvidia-smi told no share")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert gpu_busy.main() == 3
    assert "is not measured" in capfd.readouterr().err


SAME = [
    *("slides.spread=0", "slides.slow_share=0", "slides.failing=0", "machines.slow_share=0"),
    *("machines.hours_to_loss=1e12", "machines.start_s=0", "slides.gigabytes=1e-9"),
    *(f"costs.{name}=0" for name in ("start_ms", "start_ops", "slide_ops")),
    *(f"costs.{name}=0" for name in ("look_ops", "publish_s", "summary_ms")),
    "costs.hash_gb_per_s=1e12",
]
"""Slides and machines all alike, and nothing that costs or goes wrong."""


def rates(*changes: str) -> Rates:
    return load_config(None, Rates, [*SAME, *changes])


@pytest.mark.parametrize("way", WAYS)
def test_simulated_machines_that_share_nothing_take_what_they_take(way: str) -> None:
    run = simulate(rates("slides.seconds=36"), 1000, 10, way)
    assert run.hours == pytest.approx(1.0)
    assert run.machine_hours == pytest.approx(10.0)
    assert run.share("work") == pytest.approx(1.0)
    assert (run.done, run.failed, run.losses, run.redone) == (1000, 0, 0, 0)


def test_simulated_storage_gives_no_more_than_it_has() -> None:
    for way in ("shards", "claims"):
        run = simulate(rates("slides.gigabytes=1", "storage.gigabytes_per_s=0.5"), 1000, 100, way)
        assert run.hours == pytest.approx(2000 / 3600)
        assert run.breaks == "storage"
        assert run.spent["work"] == pytest.approx(1000 * 42 / 3600)


def test_a_simulated_file_server_is_shared_by_all_who_start() -> None:
    run = simulate(rates("costs.start_ops=10", "storage.ops_per_s=1000"), 1000, 50, "claims")
    # 50 starts of 10,000 questions each, of which 1,000 are answered a second; then 20 slides each.
    assert run.hours * 3600 == pytest.approx(500 + 20 * 42)
    assert run.spent["start"] == pytest.approx(50 * 500 / 3600)


def test_a_simulated_driver_is_one_for_all() -> None:
    run = simulate(rates("costs.publish_s=1"), 1000, 100, "ray")
    # Once round 100 machines takes the driver longer than a machine takes for a slide.
    assert run.hours * 3600 == pytest.approx(1000, rel=0.1)
    assert run.breaks == "driver"


def test_simulated_slow_machines_hold_up_shards_and_not_claims() -> None:
    slow = rates("machines.slow_share=0.3", "machines.slow_times=3")
    shards, claims = (simulate(slow, 2000, 20, way) for way in ("shards", "claims"))
    assert shards.hours == pytest.approx(100 * 126 / 3600)
    assert claims.hours < 0.55 * shards.hours


@pytest.mark.parametrize("way", WAYS)
def test_simulated_losses_lose_no_slide(way: str) -> None:
    lossy = rates("machines.hours_to_loss=1", "machines.back_s=60", "slides.failing=0.1")
    run = simulate(lossy, 2000, 20, way)
    assert run.done + run.failed == 2000
    assert 150 < run.failed < 250
    assert run.losses > 10
    assert 0 < run.redone <= run.losses * 20
    assert run.spent["lost"] > 0
    again = simulate(lossy, 2000, 20, way)
    assert again == run


def test_the_simulation_prints_tables_and_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "plot.svg"
    words = ["x", "--slides", "300", "--machines", "1", "10", "--plot", str(path)]
    monkeypatch.setattr("sys.argv", [*words, "--set", "storage.gigabytes_per_s=0.01"])
    simulate_cluster.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 6
    assert "| claims |" in lines[-2]
    assert "storage: " in lines[-2]
    assert path.read_text(encoding="utf-8").startswith("<svg")
    monkeypatch.setattr("sys.argv", ["x", "--set", "slides.seconds=-1"])
    with pytest.raises(SystemExit):
        simulate_cluster.main()
    assert "slides.seconds" in capsys.readouterr().err


def test_the_page_of_a_million_slides_has_all_rates_of_the_simulation() -> None:
    page = (Path(__file__).parents[1] / "docs/concepts/million.md").read_text(encoding="utf-8")
    assert "\n".join(simulate_cluster.table_of_inputs(Rates())) in page


def test_models_of_a_trial_are_not_taken_for_real_ones(tmp_path: Path) -> None:
    python = tmp_path / "python"  # makes what is asked for, and nothing in it
    python.write_text(
        """#!/usr/bin/env bash
        while [ $# -gt 1 ]; do
          [ "$1" != --out ] || out=$2
          [ "$1" != train ] || made=model/model.json
          shift
        done
        case "${out:-}" in
          *.csv) touch "$out";;
          ?*) [ -n "${made:-}" ] || exit 0
            mkdir -p "$out/model" && touch "$out/$made" && echo "made $out";;
        esac
        """
    )
    python.chmod(0o755)

    def call(**changes: str) -> subprocess.CompletedProcess[str]:
        own = {"CRIC": "cric", "PYTHON": str(python), "OUT": str(tmp_path / "out"), "SEEDS": "0"}
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            ["bash", SCRIPT], env=kept | own | changes, capture_output=True, text=True, check=False
        )

    trial = call(STEPS="2", FOLDS="2")
    assert trial.returncode == 0, trial.stderr
    assert trial.stdout.count("made ") == 4
    again = call(STEPS="2", FOLDS="2")
    assert (again.returncode, again.stdout.count(": is there")) == (0, 4)
    real = call(FOLDS="2")
    assert real.returncode == 2
    assert "detector-0/made_with.txt: what lies beside it was made with other" in real.stderr
    assert "folds.txt: what lies" in call(STEPS="2", FOLDS="3").stderr
    (tmp_path / "out" / "detector-0" / "made_with.txt").unlink()
    assert "model.json: nothing says what it was made with" in call(STEPS="2", FOLDS="2").stderr
