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

    On a CPU int8 where it has instructions for it and the model a network in it that was measured,
    else bf16 where it computes that natively, else fp32; never one that is known to cost more than
    `MOST_AP_COST`. A CPU that doesn't compute bf16 takes forty times as long for it as for fp32: it
    is refused there. One without instructions for int8 computes it all the same, faster than fp32.

    Raises:
        ConfigError: the precision does not fit the device, the runtime or the model.
    """
    if name != "auto":
        _check_precision(name, device, runtime, card)
        return name
    if device != "cpu":
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    has_int8 = runtime == "openvino" and card is not None and "openvino-int8" in card.graphs
    if has_int8 and computes_int8() and _known_cost(card, "int8", unknown=1.0) <= MOST_AP_COST:
        return "int8"
    if computes_bf16() and _known_cost(card, "bf16", unknown=0.0) <= MOST_AP_COST:
        return "bf16"
    return "fp32"


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
