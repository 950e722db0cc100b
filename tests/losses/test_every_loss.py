"""Every loss that is registered keeps the contract that we ship."""

import pytest
from pydantic import TypeAdapter

from losses import LossConfig
from losses.contract import LossContract
from losses.registry import LOSSES

SETTINGS = TypeAdapter(LossConfig)


def of(loss):
    class Contract(LossContract):
        def build(self, num_classes):
            settings = SETTINGS.validate_python({"name": loss})
            return settings.with_counts([1000, 100, 10][:num_classes]).build(num_classes)

    return Contract


for name in LOSSES:
    globals()[f"Test_{name}"] = of(name)


@pytest.mark.parametrize("name", LOSSES)
def test_the_registry_names_the_class_that_the_settings_build(name):
    loss = of(name)().build(3)
    assert f"{type(loss).__module__}:{type(loss).__qualname__}" == LOSSES[name]
    by_path = SETTINGS.validate_python({"name": LOSSES[name]})
    assert by_path.softmax is SETTINGS.validate_python({"name": name}).softmax
