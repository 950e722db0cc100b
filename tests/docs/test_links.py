"""Links between files of the checkout lead somewhere; those of the site its own build checks."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent.parent
FILES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "news/README.md"]
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
_MENTION = re.compile(r"\bdocs/[\w./-]+\.(?:md|png)\b")


@pytest.mark.parametrize("name", FILES)
def test_links_lead_to_files(name):
    path = REPO / name
    links = _LINK.findall(path.read_text(encoding="utf-8"))
    assert links or name != "README.md"
    for link in links:
        assert (path.parent / link).exists(), link


def test_pages_that_code_and_cards_name_are_there():
    mentions = set()
    for pattern in ("*.py", "*.md", "*.yaml", "*.yml", "*.cfg"):
        for path in REPO.rglob(pattern):
            if not {".venv", "build", "tests", "node_modules"} & set(path.relative_to(REPO).parts):
                mentions |= set(_MENTION.findall(path.read_text(encoding="utf-8")))
    assert "docs/concepts/scale.md" in mentions
    assert not [name for name in mentions if not (REPO / name).is_file()]
