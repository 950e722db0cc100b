"""The house rules: who imports whom, and that nobody else claims our package names."""

import ast
import os
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent

PACKAGES = {
    "configs": set(),
    "losses": {"configs"},
    "models": {"configs", "losses"},
    "data": {"configs"},
    "pipeline": {"configs", "losses", "models", "data"},
    "scripts": {"configs", "losses", "models", "data", "pipeline"},
    "cytolibra": {"configs", "losses", "models", "data", "pipeline", "scripts"},
}
"""Which packages each may import."""

FLOORS = {
    "models": [
        {"config"},
        {"card"},
        {"detectors"},
        {"grader"},
        {"learning", "storage"},
    ],
    "data": [
        {"arrays"},
        {"boxes", "tables", "paths", "folders", "thinning", "resample", "pixels", "evaluation"},
        {"fields"},
        {"annotations"},
        {"synth"},
        {"crops"},
    ],
    "pipeline": [
        {"errors", "geometry", "flow", "memory", "children", "limits", "locks"},
        {"slides.readers"},
        {"cloud"},
        {"slides"},
        {"tiles"},
        {"cells"},
        {"network", "reports"},
        {"objects"},
        {"settings"},
        {"in_force"},
        {"conclusion"},
        {"planning"},
        {"search"},
        {"screen"},
        {"batch"},
        {"review.store"},
        {"review"},
        {"review.server"},
    ],
    "scripts": [
        {"slides", "progress", "telling", "candidates", "checks", "review"},
        {"domain"},
        {"evaluation"},
        {"training"},
        {"comparison"},
        {"reference"},
    ],
}
"""Rooms (folders) and single modules of a package, from the ground up.

Each may import those of lower floors, never one beside or above it. Modules of ``scripts`` that are
not named are commands: they stand above all rooms.
"""


@cache
def modules(package: str) -> dict[str, set[str]]:
    """Dotted names of a package's modules, and what each imports."""
    found = {}
    for path in sorted((REPO / package).rglob("*.py")):
        name = ".".join(path.relative_to(REPO).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name.removesuffix(".__init__")] = imports(tree)
    return found


def imports(tree: ast.Module) -> set[str]:
    """What a module imports, as dotted names: the modules, and what is taken from them."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(name: str, floors: list[set[str]]) -> tuple[str, int] | None:
    """The room that a dotted name lies in, the innermost, and its floor; None for no room."""
    _, _, inside = name.partition(".")
    found = [
        (one, floor)
        for floor, rooms in enumerate(floors)
        for one in rooms
        if f"{inside}.".startswith(f"{one}.")
    ]
    return max(found, key=lambda place: len(place[0]), default=None)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package):
    for name, imported in modules(package).items():
        ours = {other.split(".")[0] for other in imported} & set(PACKAGES) - {package}
        assert ours <= PACKAGES[package], name


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_downwards(package):
    floors = FLOORS[package]
    for name, imported in modules(package).items():
        own = room(name, floors)
        for other in imported:
            place = room(other, floors) if other.startswith(f"{package}.") else None
            if own and place and own[0] != place[0]:
                assert place[1] < own[1], f"{name} imports {other}"


@pytest.mark.parametrize("package", ["models", "data", "pipeline"])
def test_every_module_has_its_room(package):
    for name in modules(package):
        assert name == package or room(name, FLOORS[package]), name


def test_no_other_distribution_claims_our_names():
    claimed = metadata.packages_distributions()
    for package in PACKAGES:
        assert set(claimed.get(package, ["cytolibra"])) == {"cytolibra"}, package


def test_no_path_or_host_of_one_machine_is_named():
    for folder, inside, names in os.walk(REPO):
        inside[:] = {*inside} - {".git", ".venv", "node_modules"}
        for path in map(Path(folder).joinpath, names):
            if path.suffix in {".py", ".md", ".yaml", ".cfg", ".toml"}:
                text = path.read_text(encoding="utf-8")
                for name in ("/" + "work/", "/" + "root/"):
                    assert name not in text, path


def test_the_contracts_imports_work():
    import inspect

    from losses import grad_libra_loss
    from models import build_detector, load_detector
    from pipeline import ScreenSettings, screen_slide

    assert list(inspect.signature(grad_libra_loss).parameters) == [
        "inputs", "targets", "alpha_pos", "alpha_neg", "reduction", "detach"
    ]  # fmt: skip
    assert list(inspect.signature(screen_slide).parameters)[:3] == ["path", "detector", "settings"]
    assert callable(build_detector)
    assert callable(load_detector)
    assert ScreenSettings().tiler.size == 1536
