"""Fixtures that every part of the tests shares."""

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real cells and slides beside the checkout; skips where it is missing."""
    folder = Path(os.environ.get("CYTOLIBRA_SHARED", REPO.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"real cells and slides are not here ({folder}); set CYTOLIBRA_SHARED")
    return folder
