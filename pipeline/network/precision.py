"""Which precision the network's convolutions run in."""

from __future__ import annotations

from typing import Literal

from configs import ConfigError
from models.card import ModelCard
from pipeline.network.devices import cpu_instructions

Precision = Literal["fp32", "bf16", "fp16", "int8"]

MOST_AP_COST = 0.005
"""AP50 of abnormal cells that the precision which "auto" takes may lose against fp32."""

_BF16 = frozenset({"avx512_bf16", "amx_bf16"})
_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instruction sets that compute in a precision natively."""

NO_BF16 = f"this CPU does not compute it (it has none of {', '.join(sorted(_BF16))})"
"""Why bf16 is refused where `computes_bf16` says no."""


def find_precision(
    name: Literal["auto"] | Precision,
    device: str,
    runtime: Literal["torch", "openvino"] = "torch",
    card: ModelCard | None = None,
) -> Precision:
    """What "auto" comes to on a device, for a model.

    The first of `candidates`; which is the fastest here `pipeline.network.fastest` finds out.

    Raises:
        ConfigError: the precision does not fit the device, the runtime or the model.
    """
    if name != "auto":
        _check_precision(name, device, runtime, card)
        return name
    return candidates(device, runtime, card)[0]


def candidates(
    device: str, runtime: Literal["torch", "openvino"], card: ModelCard | None
) -> list[Precision]:
    """What "auto" may come to on a device, for a model: first what its instructions speak for.

    Never what is known to cost more than `MOST_AP_COST`, nor int8 of which nobody measured what it
    costs. A CPU that doesn't compute bf16 takes forty times as long for it as for fp32: there it is
    no candidate. One without instructions for int8 computes it all the same.
    """
    if device != "cpu":
        import torch

        return ["bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"]
    may_bf16 = computes_bf16() and _known_cost(card, "bf16", unknown=0.0) <= MOST_AP_COST
    exact: list[Precision] = ["bf16", "fp32"] if may_bf16 else ["fp32"]
    has_int8 = runtime == "openvino" and card is not None and "openvino-int8" in card.graphs
    if not has_int8 or _known_cost(card, "int8", unknown=1.0) > MOST_AP_COST:
        return exact
    return ["int8", *exact] if computes_int8() else [*exact, "int8"]


def computes_bf16() -> bool:
    """Whether this CPU computes bf16 natively."""
    return bool(_BF16 & cpu_instructions())


def computes_int8() -> bool:
    """Whether this CPU has instructions for int8, without which it is slower."""
    return bool(_INT8 & cpu_instructions())


def _check_precision(name: Precision, device: str, runtime: str, card: ModelCard | None) -> None:
    if name == "fp16" and device == "cpu":
        # A CPU computes it slower than fp32 and less exactly than bf16.
        raise ConfigError("precision fp16: for GPUs only; on a CPU use auto, bf16 or fp32")
    if name == "bf16" and device == "cpu" and not computes_bf16():
        raise ConfigError(f"precision bf16: {NO_BF16}; use auto or fp32")
    if name == "int8" and runtime != "openvino":
        raise ConfigError(
            "precision int8: only OpenVINO computes it, on a CPU; use auto, bf16 or fp32"
        )
    if name == "int8" and (card is None or "openvino-int8" not in card.graphs):
        raise ConfigError(
            f"precision int8: {card.name if card else 'the model'} has no int8 network; make one "
            "with cytolibra export --to openvino --int8"
        )


def _known_cost(card: ModelCard | None, precision: Precision, unknown: float) -> float:
    """AP50 of abnormal cells that a precision was measured to lose with a model."""
    costs = card.ap_cost.get(precision, {}) if card else {}
    return costs.get("ap50/abnormal", unknown)
