"""Torch and OpenVINO find the same cells, and each says when it can't run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import PYTHONPATH
from lively import CLASSES, lively, patchwork, saved
from torch._dynamo.exc import TorchDynamoException

from configs import ConfigError
from models.card import GraphFacts
from models.storage.graphs import load_openvino
from models.storage.source import ModelSource
from pipeline.flow import work_ahead
from pipeline.network import openvino_runtime, runtimes
from pipeline.network import precision as precisions
from pipeline.network.detector import RuntimeSettings, TileDetector
from pipeline.network.openvino_runtime import OpenVINORuntime
from pipeline.network.precision import MOST_AP_COST, find_precision
from pipeline.network.runtimes import MOST_LANES
from pipeline.network.torch_runtime import TorchRuntime

THRESHOLDS = [0.25, 0.25]
REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOLIBRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """A detector whose network is traced and converted once, for tests of what comes after."""
    return saved(tmp_path_factory.mktemp("models") / "lively")


@pytest.fixture
def without_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)


def with_int8(detector, **costs):
    """A detector whose card names an int8 network, and what precisions are known to cost."""
    known = {precision: {"ap50/abnormal": cost} for precision, cost in costs.items()}
    graphs = {"openvino-int8": GraphFacts(sha256="1")}
    detector.card = detector.card.model_copy(update={"ap_cost": known, "graphs": graphs})
    return detector


def tile(size=(96, 160), seed=0):
    return patchwork(size, seed)


def ready(detector, name, precision="fp32", **settings):
    return TileDetector(
        detector, RuntimeSettings(device="cpu", name=name, precision=precision, **settings)
    )


def openvino(detector, precision="fp32", **options):
    return OpenVINORuntime(ModelSource.of(detector), THRESHOLDS, precision, **options)


def build_runtime(detector, *how):
    return runtimes.build_runtime(ModelSource.of(detector), THRESHOLDS, *how)


@torch.inference_mode()
def run(runtime, seed=0):
    """Raw outputs by name."""
    one = tile(seed=seed)
    if runtime.name == "openvino":
        return {name: torch.from_numpy(value) for name, value in runtime.run(one).items()}
    return runtime.run([one]).outputs


@pytest.mark.parametrize("name", ["fcos", "reppoints"])
def test_both_runtimes_find_the_same_cells(name):
    by_torch, by_openvino = (ready(lively(name), runtime) for runtime in ("torch", "openvino"))
    tiles = [tile((96, 160)), tile((70, 101), seed=1), tile((64, 200), seed=2)]
    for one in tiles:  # one by one: torch pads a batch to its largest tile
        expected, found = by_torch.detect([one])[0], by_openvino.detect([one])[0]
        assert len(expected) > 3
        order = [np.lexsort(cells.boxes.T.round(1)) for cells in (expected, found)]
        assert expected.labels[order[0]].tolist() == found.labels[order[1]].tolist()
        np.testing.assert_allclose(found.boxes[order[1]], expected.boxes[order[0]], atol=0.02)
        np.testing.assert_allclose(found.scores[order[1]], expected.scores[order[0]], atol=1e-3)


def test_a_batch_gives_each_tile_what_it_gives_alone(on_disk):
    together = ready(on_disk, "openvino")
    tiles = [tile((96, 160)), tile((70, 101), seed=1)]
    for found, one in zip(together.detect(tiles), tiles, strict=True):
        np.testing.assert_array_equal(found.boxes, together.detect([one])[0].boxes)


def test_a_network_of_fixed_shape_gives_what_one_for_any_shape_gives(monkeypatch, on_disk):
    tiles = [tile((96, 160)), tile((70, 101), seed=1), tile((96, 160), seed=2)]
    fixed = openvino(on_disk)
    found = [fixed.run(one) for one in tiles]
    assert sorted(fixed._of_shape) == [(70, 101, 3), (96, 160, 3)]
    monkeypatch.setattr(openvino_runtime, "FIXED_SHAPES", 0)
    any_shape = openvino(on_disk)
    for one, values in zip(tiles, found, strict=True):
        for name, expected in any_shape.run(one).items():
            np.testing.assert_allclose(values[name], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_gives_the_same_outputs_and_two_lanes_share_it():
    plain, compiled = (TorchRuntime(lively(), "cpu", "fp32", compiled=on) for on in (False, True))
    with work_ahead(lambda seed: run(compiled, seed), range(6), threads=2, ahead=2) as found:
        for seed, outputs in enumerate(found):
            torch.testing.assert_close(outputs, run(plain, seed), atol=1e-4, rtol=1e-4)


def test_what_torch_cannot_compile_is_refused_in_one_line(monkeypatch):
    def refuse(*_):
        raise TorchDynamoException("no C++ compiler\nwhere it was looked for")

    runtime = TorchRuntime(lively(), "cpu", "fp32")
    monkeypatch.setattr(runtime._detector, "run", refuse)
    with pytest.raises(ConfigError, match=r"runtime.compile: .*here: no C\+\+ compiler; leave it"):
        runtime.run([tile()])


def test_auto_is_openvino_on_a_cpu(on_disk):
    runtime = build_runtime(on_disk, "auto", "cpu", "auto")
    assert runtime.name == "openvino"
    assert runtime.fallback is None


def test_without_openvino_torch_runs_and_says_so(without_openvino):
    runtime = build_runtime(lively(), "auto", "cpu", "auto")
    assert runtime.name == "torch"
    assert "OpenVINO can't be loaded here" in runtime.fallback
    with pytest.raises(ConfigError, match="runtime openvino: OpenVINO can't be loaded"):
        build_runtime(lively(), "openvino", "cpu", "auto")
    with pytest.raises(ConfigError, match="OpenVINO can't be loaded"):
        build_runtime(with_int8(lively()), "auto", "cpu", "int8")
    assert build_runtime(lively(), "torch", "cpu", "auto").fallback is None


def test_what_openvino_cannot_convert_runs_on_torch_and_says_so(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(load_openvino(), "convert_model", refuse)
    runtime = build_runtime(lively(), "auto", "cpu", "fp32")
    assert (runtime.name, runtime.precision) == ("torch", "fp32")
    assert "no such operation" in runtime.fallback


@pytest.mark.parametrize(
    ("name", "device", "precision", "message"),
    [
        ("auto", "cpu", "fp16", "precision fp16: for GPUs only"),
        ("openvino", "cpu", "fp16", "precision fp16: for GPUs only"),
        ("torch", "cpu", "int8", "precision int8: only OpenVINO"),
        ("openvino", "cpu", "int8", "precision int8: lively has no int8 network"),
        ("openvino", "cuda", "auto", "runtime openvino: for CPUs only, not cuda"),
    ],
)
def test_what_does_not_fit_is_refused(name, device, precision, message):
    with pytest.raises(ConfigError, match=message):
        build_runtime(lively(), name, device, precision)


@pytest.mark.parametrize("name", ["auto", "openvino", "torch"])
def test_a_cpu_that_does_not_compute_bf16_refuses_it_at_once(name, monkeypatch, on_disk):
    """By torch it took 263 s where fp32 took 6; OpenVINO quietly took fp32."""
    monkeypatch.setattr(precisions, "cpu_instructions", lambda: frozenset({"avx2", "avx512_vnni"}))
    message = r"precision bf16: .*none of amx_bf16, avx512_bf16\); use auto or fp32"
    with pytest.raises(ConfigError, match=message):
        build_runtime(on_disk, name, "cpu", "bf16")
    assert build_runtime(on_disk, name, "cpu", "auto").precision == "fp32"


def test_a_gpu_s_bf16_is_no_matter_of_the_cpu(monkeypatch):
    monkeypatch.setattr(precisions, "cpu_instructions", frozenset)
    assert find_precision("bf16", "cuda") == "bf16"


@pytest.mark.parametrize("instructions", [{"amx_bf16"}, {"avx512_bf16"}])
def test_a_cpu_that_computes_bf16_is_let_to(instructions, monkeypatch):
    monkeypatch.setattr(precisions, "cpu_instructions", lambda: frozenset(instructions))
    assert find_precision("bf16", "cpu", "torch") == "bf16"
    assert find_precision("bf16", "cpu", "openvino") == "bf16"


def test_int8_is_computed_without_instructions_for_it_too(monkeypatch):
    monkeypatch.setattr(precisions, "cpu_instructions", lambda: frozenset({"avx2"}))
    card = with_int8(lively(), int8=0.0).card
    assert find_precision("int8", "cpu", "openvino", card) == "int8"


BF16, VNNI = {"avx512_bf16", "avx512_vnni"}, {"avx512_vnni"}


@pytest.mark.parametrize(
    ("native", "costs", "runtime", "expected"),
    [
        (BF16, {}, "openvino", "bf16"),
        (BF16, {}, "torch", "bf16"),
        (BF16, {"int8": 0.0, "bf16": 0.0}, "openvino", "int8"),
        (BF16, {"int8": 0.02, "bf16": 0.0}, "openvino", "bf16"),
        (BF16, {"int8": 0.0}, "torch", "bf16"),
        (BF16, {"bf16": 0.02}, "openvino", "fp32"),
        (BF16, {"bf16": 0.02, "int8": 0.0}, "openvino", "int8"),
        (BF16, {"bf16": 0.02, "int8": 0.0}, "torch", "fp32"),
        (VNNI, {"int8": MOST_AP_COST}, "openvino", "int8"),
        (VNNI, {"int8": MOST_AP_COST + 0.001}, "openvino", "fp32"),
        (VNNI, {}, "openvino", "fp32"),
        (set(), {"int8": 0.0, "bf16": 0.0}, "openvino", "fp32"),
    ],
)
def test_auto_takes_no_precision_that_costs_too_much(native, costs, runtime, expected, monkeypatch):
    monkeypatch.setattr(precisions, "cpu_instructions", lambda: frozenset(native))
    card = with_int8(lively(), **costs).card
    assert find_precision("auto", "cpu", runtime, card) == expected
    assert find_precision("auto", "cpu") == ("bf16" if "avx512_bf16" in native else "fp32")


def test_a_network_is_compiled_once_and_taken_from_the_cache(cache, on_disk):
    """At the first start it is converted before, and read from what was kept at the next."""
    first, again = (openvino(on_disk) for _ in range(2))
    assert len(list(cache.iterdir())) == 1
    taken = [r._any_shape.compiled.get_property("LOADED_FROM_CACHE") for r in (first, again)]
    assert taken == [False, True]
    torch.testing.assert_close(run(again), run(first))


def test_the_cache_confuses_neither_weights_nor_precisions(cache):
    for seed, kinds in enumerate([("bf16", "fp32", "bf16"), ("fp32",)]):
        detector = lively(seed=seed)
        exact = run(TorchRuntime(detector, "cpu", "fp32"))
        for precision in kinds:
            if find_precision("auto", "cpu") != "bf16" and precision == "bf16":
                continue
            found = run(openvino(detector, precision))
            error = max(float((found[name] - exact[name]).abs().max()) for name in exact)
            assert (error > 1e-3) == (precision == "bf16")


def test_a_damaged_cache_is_made_anew(cache, on_disk):
    expected = run(openvino(on_disk))
    blob = next(cache.iterdir())
    content = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(content[: len(content) // 2])
    torch.testing.assert_close(run(openvino(on_disk)), expected)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise here")
def test_signals_come_through_when_networks_have_come_and_gone():
    """The process would die, so it is one of its own."""
    script = (
        "import gc, signal\n"
        "from lively import lively\n"
        "from models.storage.source import ModelSource\n"
        "from pipeline.network.openvino_runtime import OpenVINORuntime\n"
        "sources = [ModelSource.of(lively(seed=seed)) for seed in range(2)]\n"
        "first, second = (OpenVINORuntime(one, [0.5, 0.5], 'fp32') for one in sources)\n"
        "del first; gc.collect(); del second; gc.collect()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('heard'))\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    env = os.environ | {"PYTHONPATH": PYTHONPATH}
    ended = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "heard\n")


def test_threads_are_as_many_as_asked_for_and_not_pinned(on_disk):
    compiled = openvino(on_disk, threads=1)._any_shape.compiled
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_lanes_share_the_threads_and_give_what_one_gives_alone(on_disk):
    alone, together = openvino(on_disk, threads=2), openvino(on_disk, threads=2, lanes=2)
    assert together._any_shape.compiled.get_property("NUM_STREAMS") == 2
    with work_ahead(lambda seed: run(together, seed), range(8), threads=2, ahead=2) as found:
        for seed, outputs in enumerate(found):
            torch.testing.assert_close(outputs, run(alone, seed), atol=1e-5, rtol=1e-5)
    assert 1 <= len(together._of_shape[96, 160, 3]._idle) <= 2


@pytest.mark.slow
def test_two_first_inferences_at_once_do_not_wait_for_each_other():
    """OpenVINO fills its tables of types then; without care a third of these processes hung."""
    script = (
        "import sys, threading\n"
        "import numpy as np\n"
        "from models import ModelSource\n"
        "from pipeline.network.openvino_runtime import OpenVINORuntime\n"
        "model = ModelSource.find('cric-fcos-light')\n"
        "runtime = OpenVINORuntime(model, [0.5] * 6, 'int8', lanes=2)\n"
        "both = threading.Barrier(2)\n"
        "def infer():\n"
        "    both.wait()\n"
        "    runtime.run(np.zeros((64, 64, 3), np.uint8))\n"
        "sys.setswitchinterval(1e-6)\n"
        "threads = [threading.Thread(target=infer) for _ in range(2)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    env = os.environ | {"PYTHONPATH": str(REPO)}
    for _ in range(10):
        subprocess.run([sys.executable, "-c", script], env=env, check=True, timeout=60)


def test_lanes_are_as_many_as_threads_up_to_a_bound_and_torch_has_one(on_disk):
    for threads, lanes in (1, 1), (2, 2), (16, MOST_LANES):
        assert ready(on_disk, "openvino", threads=threads).lanes == lanes
    assert ready(on_disk, "torch", threads=2).lanes == 1


def test_the_weights_that_run_are_named(tmp_path):
    detector = saved(tmp_path)
    for name in ("torch", "openvino"):
        assert ready(detector, name).runtime.sha256 == detector.card.sha256
    assert detector.card.detector.classes == CLASSES
