"""Which build of CytoLibra this is, told apart from others of the same version."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_LENGTH = 12
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def describe_version(root: Path = ROOT) -> str:
    """Version and build: the commit of a checkout or of an installation from one, else the wheel's.

    A wheel is told by the SHA-256 of its RECORD, which names every file with its hash.
    """
    installed = distribution("cytolibra")
    commit = commit_of(root) or _installed_commit(installed)
    if commit:
        return f"cytolibra {installed.version} (commit {commit[:_LENGTH]})"
    record = installed.read_text("RECORD")
    build = hashlib.sha256(record.encode()).hexdigest()[:_LENGTH] if record else "unknown"
    return f"cytolibra {installed.version} (build {build})"


def commit_of(root: Path) -> str | None:
    """The commit that a checkout is on, by its own files; None where there is no checkout."""
    try:
        folder = _git_folder(root)
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head if _COMMIT.fullmatch(head) else None
        return _reference(folder, head.removeprefix("ref: "))
    except OSError:
        return None


def _git_folder(root: Path) -> Path:
    """Of a worktree the folder that its file ``.git`` names."""
    place = root / ".git"
    if place.is_file():
        named = place.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
        return root / named
    return place


def _reference(folder: Path, name: str) -> str | None:
    common = folder / "commondir"
    shared = folder / common.read_text(encoding="utf-8").strip() if common.is_file() else folder
    for place in (folder / name, shared / name):
        if place.is_file():
            return place.read_text(encoding="utf-8").strip()
    packed = shared / "packed-refs"
    if packed.is_file():
        for line in packed.read_text(encoding="utf-8").splitlines():
            commit, _, reference = line.partition(" ")
            if reference == name:
                return commit
    return None


def _installed_commit(installed: Distribution) -> str | None:
    """The commit that an installer took, where it noted one down (PEP 610)."""
    try:
        noted = json.loads(installed.read_text("direct_url.json") or "{}")
        return str(noted["vcs_info"]["commit_id"])
    except (ValueError, KeyError, TypeError):
        return None
