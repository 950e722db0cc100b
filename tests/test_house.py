"""The house rules: who imports whom, and that nobody else claims our package names."""

import ast
from importlib import metadata
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "configs": set(),
    "losses": {"configs"},
    "models": {"configs", "losses"},
    "data": {"configs"},
    "pipeline": {"configs", "losses", "models", "data"},
    "scripts": {"configs", "losses", "models", "data", "pipeline"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package):
    for path in (REPO / package).rglob("*.py"):
        ours = (imports(path) & set(MAY_IMPORT)) - {package}
        assert ours <= MAY_IMPORT[package], path


def test_no_other_distribution_claims_our_names():
    claimed = metadata.packages_distributions()
    for package in MAY_IMPORT:
        assert set(claimed.get(package, ["cytolibra"])) == {"cytolibra"}, package


def test_no_path_or_host_of_one_machine_is_named():
    for path in REPO.rglob("*"):
        if path.suffix in {".py", ".md", ".yaml", ".cfg", ".toml"} and ".venv" not in path.parts:
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
