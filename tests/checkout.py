"""Where this checkout lies, for processes that tests start."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PYTHONPATH = os.pathsep.join(map(str, (REPO, REPO / "tests")))
"""With it they find our packages, and what the tests share."""
