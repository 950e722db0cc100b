"""What the machine has is found without torch, and is what torch would say."""

import sys
from pathlib import Path

import pytest
import torch

from pipeline.network import devices
from pipeline.network.precision import _BF16, _INT8

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")


@LINUX
def test_torch_is_not_asked_for_gpus_where_linux_has_none(monkeypatch):
    monkeypatch.setattr(devices, "_GPU_NODES", ("no-such-node",))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert devices.count_gpus() == 0
    assert devices.find_device("auto") == "cpu"


@pytest.mark.parametrize(("available", "gpus"), [(True, 2), (False, 0)])
def test_where_there_may_be_one_torch_says_how_many(available, gpus, monkeypatch):
    monkeypatch.setattr(devices, "_GPU_NODES", ("null",))  # which every /dev has
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.count_gpus() == gpus
    assert devices.find_device("auto") == ("cuda" if available else "cpu")


@LINUX
def test_instructions_have_torch_s_names(monkeypatch):
    known = torch.cpu.get_capabilities()
    if not any(name in known for name in _BF16 | _INT8):
        pytest.skip("another kind of processor")
    by_linux = devices.cpu_instructions()
    for name in _BF16 | _INT8:
        assert (name in by_linux) == bool(known.get(name)), name


def test_where_linux_says_nothing_torch_does(monkeypatch):
    def refuse(*_, **__):
        raise OSError

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx_vnni": False})
    assert devices.cpu_instructions.__wrapped__() == {"avx2"}


def test_torch_gets_one_thread_beside_the_network_if_it_is_there(monkeypatch):
    devices.leave_cores_to_network()
    assert torch.get_num_threads() == 1
    monkeypatch.delitem(sys.modules, "torch")
    devices.leave_cores_to_network()
    assert "torch" not in sys.modules
