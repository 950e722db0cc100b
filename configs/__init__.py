"""Configuration: YAML files checked by pydantic models, with ``key=value`` overrides.

The ground floor of the house: every other package may import it, it imports none.
Presets lie beside this file as ``<kind>/<name>.yaml`` and are named without the suffix; what stands
on what is told in `configs.layers`.
"""

from configs.doubts import Doubt
from configs.errors import ConfigError, CytoLibraError
from configs.layers import apply_overrides, load_yaml
from configs.loading import StrictModel, load_config, validate

__all__ = [
    "ConfigError",
    "CytoLibraError",
    "Doubt",
    "StrictModel",
    "apply_overrides",
    "load_config",
    "load_yaml",
    "validate",
]
