"""What people and editors are told of settings."""

import yaml
from pydantic import ConfigDict, Field

from configs import StrictModel
from configs.describing import help_of, json_schema, listing
from configs.layers import Layer, join


class Inner(StrictModel):
    """A part of it."""

    size: int = 1


class Base(StrictModel):
    """Base.

    Attributes:
        low: from below; ``None`` for
            nothing.
    """

    low: int | None = None


class Outer(Base):
    """All of it.

    Attributes:
        left, right: the sides.
        inner, other: the parts.

    More words: that are no attribute.
    """

    left: int = 0
    right: float = 1.5
    inner: Inner = Inner()
    other: Inner = Inner()
    parts: dict[str, Inner] = Field(default_factory=dict)


def test_help_comes_from_the_docstrings_and_speaks_yaml():
    assert help_of(Outer) == {
        "low": "from below; `null` for nothing.",
        "left": "the sides.",
        "right": "the sides.",
        "inner": "A part of it.",
        "other": "A part of it.",
    }


def test_a_listing_is_yaml_and_names_origins():
    layers = [
        Layer("mine", {"left": 3, "parts": {"a b": {"size": 2}}}),
        Layer("--set", {"right": 2}),
    ]
    settings = Outer.model_validate({"left": 3, "parts": {"a b": {"size": 2}}, "right": 2})
    text = listing(settings, join(layers, Outer))
    assert Outer.model_validate(yaml.safe_load(text)) == settings
    lines = text.splitlines()
    assert "left: 3  # mine" in lines
    assert "right: 2.0  # --set" in lines
    assert "low: null  # default" in lines
    assert "    size: 2  # mine" in lines
    assert lines[lines.index("left: 3  # mine") - 1] == "# the sides."


def test_a_listing_has_what_only_another_package_knows():
    class Open(StrictModel):
        model_config = ConfigDict(extra="allow")
        name: str

    settings = Open.model_validate({"name": "a:B", "power": 2})
    tree = join([Layer("mine", {"name": "a:B", "power": 2})], Open)
    assert listing(settings, tree) == "name: a:B  # mine\npower: 2  # mine\n"


def test_a_schema_describes_and_requires_nothing_but_names():
    schema = json_schema(Outer, "T")
    assert schema["properties"]["left"]["description"] == "the sides."
    assert schema["additionalProperties"] is False
    assert "extends" in schema["properties"]
    assert "required" not in schema
