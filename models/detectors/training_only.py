"""What only training needs of a detector, and no saved model has."""

from __future__ import annotations

from torch import Tensor, nn


class TrainingOnly(nn.Module):
    """Base of modules that are in checkpoints of a training, but not in the model it makes.

    The settings that ask for one are named in `models.config.TRAINING_ONLY`.
    """


def lasting_state(detector: nn.Module) -> dict[str, Tensor]:
    """A detector's weights and buffers by name, but for those below a `TrainingOnly`."""
    passing = tuple(
        f"{name}."
        for name, module in detector.named_modules(remove_duplicate=False)
        if isinstance(module, TrainingOnly)
    )
    state = detector.state_dict()
    return {name: value for name, value in state.items() if not name.startswith(passing)}
