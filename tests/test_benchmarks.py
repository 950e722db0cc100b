import bench_peers
import bench_reader
import bench_stitcher
import pytest


def test_the_benchmark_of_the_stitcher_runs() -> None:
    _, _, kept = bench_stitcher.seconds_to_merge(3000)
    assert 1500 < kept < 2900


@pytest.mark.parametrize(
    ("bench", "side", "told"),
    [(bench_reader, "1200", "tiles as chosen"), (bench_peers, "1600", "plain loop")],
    ids=["reader", "peers"],
)
def test_a_benchmark_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bench: object,
    side: str,
    told: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--side", side, "--rounds", "1"])
    bench.main()
    assert told in capsys.readouterr().out
