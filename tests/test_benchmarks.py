import os
import sys
from pathlib import Path

import bench_isolation
import bench_objects
import bench_peers
import bench_reader
import bench_reviews
import bench_staging
import bench_stitcher
import gpu_busy
import pytest


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
        pytest.param(bench_isolation, "600", "in a process: opened in", id="isolation"),
        pytest.param(bench_peers, "1600", "plain loop", id="peers", marks=pytest.mark.slow),
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
    monkeypatch.setattr("sys.argv", ["bench", "--side", side, "--rounds", "1", *more])
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
