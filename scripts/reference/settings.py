"""The page of settings, from the settings' classes by way of their JSON Schemas."""

from __future__ import annotations

from configs.describing import json_schema
from scripts.config import Kind, model_of, title_of
from scripts.reference.columns import meaning
from scripts.reference.tables import code, rows_of, table

AS_OF_TRAIN = ("base.", "losses.NAME.")
"""Keys of a comparison that are those of a training, and stand there."""


def page() -> str:
    """``docs/reference/settings.md``."""
    lines = [
        "# Settings",
        "",
        "Every key of the YAML files that `--config` takes, and of `--set key=value`. What it",
        "comes to, with who said each, is printed by `cytolibra config COMMAND`; editors complete",
        "such files by the schemas in `configs/schema` (`cytolibra config COMMAND --schema`). `[]`",
        "stands for each entry of a list, `NAME` for a name of your choice. A loss takes the keys",
        "of its own `name`, which stands in brackets before them.",
    ]
    for kind in Kind:
        schema = json_schema(model_of(kind), title_of(kind))
        title = "train, of a grader" if kind is Kind.grader else str(kind)
        rows = [
            [code(row.path), row.kind, code(row.default), meaning(row.path, row.text)]
            for row in rows_of(schema)
            if not (kind is Kind.compare and row.path.startswith(AS_OF_TRAIN))
        ]
        lines += ["", f"## {title}", "", *table(["key", "value", "default", "what"], rows)]
    return "\n".join(lines) + "\n"
