"""The table of faults names tests that are there."""

import ast
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / "docs/concepts/faults.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| fault"))
]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_each_row_says_fault_cause_number_loss_and_test():
    assert len(ROWS) > 20
    assert {len(row) for row in ROWS} == {4}
    assert all(all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_the_test_of_a_row_is_there(row):
    named = NAMED.findall(row[1])
    assert named, "names no test"
    for file, test in named:
        tree = ast.parse((REPO / "tests" / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
