"""``make release``: everything that has to hold of a release, checked; nothing is published."""

from __future__ import annotations

import argparse
import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent

PACKAGED = (
    *("configs/**/*.yaml", "configs/schema/*.json", "configs/splits/*.csv", "models/zoo/*/*"),
    *("pipeline/*/schema/*.json", "pipeline/reports/templates/*", "*/**/*.pyi", "*/py.typed"),
    "*/**/*.py",
)
"""What of the checkout has to be in the wheel, beside the tests and benchmarks, which are not."""

LEFT_OUT = ("tests", "benchmarks", "docs", "build", "dist", "demo", "runs")

NO_TORCH = REPO / "container" / "no-torch.txt"
"""What a screen on a CPU does without; the container leaves it out."""


class ReleaseError(Exception):
    """Something that a release needs doesn't hold; says what, and what to do."""


def main() -> int:
    """Checks tree, version, news, tests, documentation and wheel; writes sdist, wheel and SBOM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="for wheel and SBOM")
    parser.add_argument("--skip-tests", action="store_true", help="they have just passed")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    try:
        check_clean(REPO)
        version = check_version(REPO)
        if not arguments.skip_tests:
            _run("make", "test", "test-browser", "test-slow")
        _run(*_tool("mkdocs"), "build", "--strict", "--quiet")
        wheel = _build(out, version)
        check_wheel(wheel, REPO)
        sbom = _try_wheel(wheel, out)
    except (ReleaseError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{wheel}\n{sbom}\nAll holds. What is left: towncrier build --version {version}, commit,")
    print(f"git tag v{version}, and publishing, which this never does.")
    return 0


def check_clean(repo: Path) -> None:
    """Makes sure that what is released is what is committed.

    Raises:
        ReleaseError: files are changed or not committed; names them.
    """
    status = _told(repo, "git", "status", "--porcelain")
    if status:
        names = ", ".join(line[3:] for line in status.splitlines()[:5])
        raise ReleaseError(f"not committed: {names}; commit or remove them")


def check_version(repo: Path) -> str:
    """The version, which is told alike everywhere, has no tag yet, and has news.

    Raises:
        ReleaseError: it is not so; says where.
    """
    setup = configparser.ConfigParser()
    setup.read(repo / "setup.cfg", encoding="utf-8")
    version = setup["metadata"]["version"]
    cited = re.search(
        r"^version: (.+)$", (repo / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE
    )
    if cited is None or cited[1].strip("\"'") != version:
        raise ReleaseError(f"CITATION.cff: names another version than setup.cfg's {version}")
    if re.search(rf"^## {re.escape(version)} \(", _changes(repo), re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md: has {version} already; raise it in setup.cfg")
    if _told(repo, "git", "tag", "--list", f"v{version}"):
        raise ReleaseError(f"v{version} is tagged already; raise it in setup.cfg")
    if not list((repo / "news").glob("*.*.md")):
        raise ReleaseError("news: holds no fragment; a release says what changed")
    return version


PAGE = "pipeline/review/assets/index.html"
"""Of the reading room: built, not committed."""


def check_wheel(wheel: Path, repo: Path) -> None:
    """Makes sure that every file that the program needs is in the wheel.

    Raises:
        ReleaseError: some are missing, or it holds what it should not; names them.
    """
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    missing = sorted({*_needed(repo), PAGE} - held)
    if missing:
        raise ReleaseError(f"{wheel.name}: lacks {', '.join(missing[:5])}; see package_data")
    strangers = sorted(name for name in held if name.split("/")[0] in LEFT_OUT)
    if strangers:
        raise ReleaseError(f"{wheel.name}: holds {', '.join(strangers[:5])}; see packages.find")


def _needed(repo: Path) -> Iterator[str]:
    tracked = set(_told(repo, "git", "ls-files").splitlines())
    for pattern in PACKAGED:
        for path in repo.glob(pattern):
            name = path.relative_to(repo).as_posix()
            if name in tracked and name.split("/")[0] not in LEFT_OUT:
                yield name


def _build(out: Path, version: str) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        # A copy of what is committed: build folders of a checkout bring back what was removed.
        _run("git", "archive", "--output", f"{folder}/source.tar", "HEAD")
        _run("tar", "-xf", f"{folder}/source.tar", "-C", folder)
        shutil.copytree(REPO / Path(PAGE).parent, Path(folder, PAGE).parent)
        # The wheel is built of the sdist, so that this one is whole, too.
        _run(*_tool("uv"), "build", "--quiet", "--out-dir", str(out), folder)
    return out / f"cytolibra-{version}-py3-none-any.whl"


def _try_wheel(wheel: Path, out: Path) -> Path:
    """Installs the wheel into a fresh environment without torch, screens with it, and lists it."""
    uv = _tool("uv")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _run(*uv, "venv", "--quiet", f"{folder}/env")
        python = place / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        target = ("--python", str(python))
        _run(*uv, "pip", "install", "--quiet", "--dry-run", *target, str(wheel))  # with torch
        _run(*uv, "pip", "install", "--quiet", *target, "--excludes", str(NO_TORCH), str(wheel))
        call = (str(python), "-m", "cytolibra")
        _run(*call, "synth", "--out", "slides", "--slides", "1", "--size", "2048x2048", cwd=place)
        _run(*call, "screen", "slides", "--out", "reports", cwd=place)
        for name in ("report.html", "report.json", "cells.csv", "cells.geojson"):
            if not (place / "reports" / "slide-001.tif" / name).stat().st_size:
                raise ReleaseError(f"{wheel.name}: writes an empty {name}")
        sbom = out / f"{wheel.name.split('-py3')[0]}.cdx.json"
        cyclonedx = ("-m", "cyclonedx_py", "environment", str(python))
        _run(sys.executable, *cyclonedx, "--output-reproducible", "-o", str(sbom))
    return sbom


def _changes(repo: Path) -> str:
    return (repo / "CHANGELOG.md").read_text(encoding="utf-8")


def _tool(name: str) -> Sequence[str]:
    """A program of this environment."""
    return (str(Path(sys.executable).parent / name),)


def _run(*call: str, cwd: Path = REPO) -> None:
    print("+", *call, flush=True)
    # Else a PYTHONPATH that leads here would pass the checkout off as what the wheel installs.
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(call, cwd=cwd, check=True, env=surroundings | {"NO_MKDOCS_2_WARNING": "1"})


def _told(repo: Path, *call: str) -> str:
    done = subprocess.run(call, cwd=repo, check=True, capture_output=True, encoding="utf-8")
    return done.stdout.rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
