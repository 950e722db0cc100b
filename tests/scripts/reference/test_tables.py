"""Rows of a schema, and tables in Markdown."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from scripts.reference.tables import Row, rows_of, table


class Inner(BaseModel):
    """A group."""

    size: int = Field(3, ge=1, description="of it")


class Round(BaseModel):
    kind: Literal["round"]
    radius: float = Field(gt=0, description="in µm")


class Square(BaseModel):
    kind: Literal["square"]
    side: float = Field(1.0, lt=9, description="in µm")


class Outer(BaseModel):
    name: str = Field("a|b", description="of all")
    inner: Inner = Field(Inner(), description="a part")
    many: list[Inner] = Field(description="parts")
    named: dict[str, Inner] = Field(description="by name")
    maybe: Inner | None = Field(None, description="or none")
    shape: Annotated[Round | Square, Field(discriminator="kind", description="one of two")]


def test_each_key_has_a_row_below_its_group():
    rows = list(rows_of(Outer.model_json_schema()))
    size = ("whole number ≥ 1", "3", "of it")
    assert rows[:9] == [
        Row("name", "text", '"a|b"', "of all"),
        Row("inner", "group", "", "a part"),
        Row("inner.size", *size),
        Row("many", "list of group", "", "parts"),
        Row("many[].size", *size),
        Row("named", "group", "", "by name"),
        Row("named.NAME.size", *size),
        Row("maybe", "group or null", "null", "or none"),
        Row("maybe.size", *size),
    ]
    assert rows[9:] == [
        Row("shape", "group", "", "one of two"),
        Row("shape.kind", '"round"', "", "(kind round) "),
        Row("shape.radius", "number > 0", "", "(kind round) in µm"),
        Row("shape.kind", '"square"', "", "(kind square) "),
        Row("shape.side", "number < 9", "1.0", "(kind square) in µm"),
    ]


def test_bars_and_line_ends_stay_within_their_cell():
    assert table(["a", "b"], [["x|y", "1\n2"]])[2] == "| x\\|y | 1 2 |"
