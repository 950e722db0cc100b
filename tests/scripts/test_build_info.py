"""Which build this is: the commit of a checkout, whatever shape it has."""

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts import build_info
from scripts.build_info import commit_of, describe_version

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = Path(__file__).resolve().parents[2]


def test_this_checkout_says_what_git_says():
    asked = ["git", "-C", str(REPO), "rev-parse", "HEAD"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git, or no checkout")
    assert commit_of(REPO) == said
    assert describe_version() == f"cytolibra {version('cytolibra')} (commit {said[:12]})"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({".git/HEAD": COMMIT}, COMMIT),
        ({".git/HEAD": "ref: refs/heads/a", ".git/refs/heads/a": COMMIT}, COMMIT),
        (
            {".git/HEAD": "ref: refs/heads/a", ".git/packed-refs": f"# p\n{COMMIT} refs/heads/a"},
            COMMIT,
        ),
        ({".git/HEAD": "ref: refs/heads/new"}, None),
        ({".git/HEAD": "nonsense"}, None),
        ({".git": "gitdir: elsewhere", "elsewhere/HEAD": COMMIT}, COMMIT),
        (
            {
                ".git": "gitdir: main/worktrees/a",
                "main/worktrees/a/HEAD": "ref: refs/heads/a",
                "main/worktrees/a/commondir": "../..",
                "main/refs/heads/a": COMMIT,
            },
            COMMIT,
        ),
    ],
)
def test_the_commit_is_read_from_gits_files(tmp_path, files, expected):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert commit_of(tmp_path) == expected


@pytest.mark.parametrize(
    ("texts", "build"),
    [
        (
            {"direct_url.json": f'{{"vcs_info": {{"commit_id": "{COMMIT}"}}}}'},
            "commit 0123456789ab",
        ),
        (
            {"direct_url.json": '{"url": "file:///a"}', "RECORD": "a,b"},
            f"build {hashlib.sha256(b'a,b').hexdigest()[:12]}",
        ),
        ({}, "build unknown"),
    ],
)
def test_without_a_checkout_the_installation_tells(tmp_path, monkeypatch, texts, build):
    installed = SimpleNamespace(version="1.2", read_text=texts.get)
    monkeypatch.setattr(build_info, "distribution", lambda _: installed)
    assert describe_version(tmp_path) == f"cytolibra 1.2 ({build})"
