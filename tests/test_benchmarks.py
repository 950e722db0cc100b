import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_of_the_stitcher_runs() -> None:
    _, _, kept = load("bench_stitcher").seconds_to_merge(3000)
    assert 1500 < kept < 2900


def test_the_benchmark_of_the_reader_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--side", "1200", "--rounds", "1"])
    load("bench_reader").main()
    assert "tiles as chosen" in capsys.readouterr().out


def test_the_benchmark_beside_peers_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--side", "1600", "--rounds", "1"])
    load("bench_peers").main()
    assert "plain loop" in capsys.readouterr().out
