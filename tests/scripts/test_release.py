"""What a release needs is checked, and what is missing is named."""

import io
import subprocess
import zipfile

import numpy as np
import pytest
from PIL import Image

from scripts.reference.pictures import MOST_BYTES, shrink
from scripts.release import PAGE, REPO, ReleaseError, check_clean, check_version, check_wheel


def git(folder, *words):
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repo(tmp_path):
    """A small checkout with all that a release looks at."""
    folder = tmp_path / "repo"
    files = {
        "setup.cfg": "[metadata]\nversion = 1.2.0\n",
        "CITATION.cff": "cff-version: 1.2.0\nversion: 1.2.0\n",
        "CHANGELOG.md": "# Changelog\n\n## 1.1.0 (2026-01-01)\n",
        "news/a.added.md": "New.\n",
        "news/README.md": "How.\n",
        "configs/py.typed": "",
        "configs/screen/default.yaml": "a: 1\n",
        "pipeline/reports/templates/report.html": "<p>\n",
        "tests/test_a.py": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a")
    return folder


def test_a_whole_checkout_passes(repo):
    check_clean(repo)
    assert check_version(repo) == "1.2.0"


def test_what_is_not_committed_is_named(repo):
    (repo / "setup.cfg").write_text("[metadata]\nversion = 1.3.0\n")
    (repo / "new.py").write_text("")
    with pytest.raises(ReleaseError, match=r"^not committed: setup.cfg, new.py; commit"):
        check_clean(repo)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("CITATION.cff", "cff-version: 1.2.0\n", "names another version than setup.cfg's 1.2.0"),
        ("CITATION.cff", "version: 1.1.0\n", "names another version than setup.cfg's 1.2.0"),
        ("CHANGELOG.md", "## 1.2.0 (2026-02-02)\n", "has 1.2.0 already"),
    ],
)
def test_a_version_that_is_told_otherwise_is_refused(repo, file, text, message):
    (repo / file).write_text(text)
    with pytest.raises(ReleaseError, match=message):
        check_version(repo)


def test_a_version_with_a_tag_or_without_news_is_refused(repo):
    git(repo, "tag", "v1.2.0")
    with pytest.raises(ReleaseError, match=r"v1.2.0 is tagged already"):
        check_version(repo)
    git(repo, "tag", "-d", "v1.2.0")
    (repo / "news" / "a.added.md").unlink()
    with pytest.raises(ReleaseError, match="holds no fragment"):
        check_version(repo)


@pytest.mark.parametrize(
    ("lacks", "holds", "message"),
    [
        (None, None, None),
        ("configs/py.typed", None, r"a.whl: lacks configs/py.typed; see package_data"),
        ("pipeline/reports/templates/report.html", None, "lacks pipeline/reports/templates"),
        (PAGE, None, r"lacks pipeline/review/assets/index.html"),
        (None, "tests/test_a.py", r"holds tests/test_a.py; see packages.find"),
    ],
)
def test_what_a_wheel_lacks_or_should_not_hold_is_named(repo, tmp_path, lacks, holds, message):
    whole = ["configs/py.typed", "configs/screen/default.yaml", PAGE]
    whole += ["pipeline/reports/templates/report.html", *filter(None, [holds])]
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in whole:
            if name != lacks:
                archive.writestr(name, "")
    if message is None:
        check_wheel(wheel, repo)
    else:
        with pytest.raises(ReleaseError, match=message):
            check_wheel(wheel, repo)


def test_this_checkout_tells_one_version():
    assert check_version(REPO)


def test_a_picture_is_made_to_fit():
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    smooth = np.zeros((400, 600, 3), np.uint8)
    smooth[:] = np.linspace(0, 255, 600, dtype=np.uint8)[None, :, None]
    assert len(shrink(Image.fromarray(noise))) <= MOST_BYTES
    kept = np.asarray(Image.open(io.BytesIO(shrink(Image.fromarray(smooth)))).convert("RGB"))
    assert abs(kept.astype(int) - smooth).max() <= 2
