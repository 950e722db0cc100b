"""Parts of other packages: found by import path or entry point, and refused in one line."""

import sys
from types import SimpleNamespace

import pytest

from configs import ConfigError, plugins
from configs.plugins import check_name, installed, is_path, load_part


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of somebody else that is on the path, and its entry points."""
    monkeypatch.syspath_prepend(tmp_path)
    declared = []
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [e for e in declared if e.group == group]
    )
    installed.cache_clear()

    def write(text, **entries):
        (tmp_path / "elsewhere.py").write_text(text)
        for name, value in entries.items():
            group = "cytolibra.losses"
            declared.append(SimpleNamespace(name=name, value=value, group=group))
        installed.cache_clear()

    yield write
    installed.cache_clear()
    sys.modules.pop("elsewhere", None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b:C", True),
        ("a:C.d", True),
        ("focal", False),
        ("a b:C", False),
        (":C", False),
        ("a:", False),
        ("a:b:c", False),
        ("../a:C", False),
    ],
)
def test_an_import_path_has_a_module_and_an_object(name, expected):
    assert is_path(name) is expected


def test_parts_are_found_by_path_and_by_entry_point(package):
    package("class Inner:\n    value = 3\n", mine="elsewhere:Inner.value")
    assert load_part("losses", "elsewhere:Inner.value", "loss.name") == 3
    assert load_part("losses", "mine", "loss.name") == 3
    assert check_name("losses", "mine", ("focal",)) == "mine"
    with pytest.raises(ValueError, match="expected one of focal, mine, or an import path"):
        check_name("losses", "mene", ("focal",))


def test_two_packages_may_not_mean_different_things_by_one_name(package):
    package("", mine="elsewhere:A")
    package("", mine="elsewhere:A")
    assert set(installed("losses")) == {"mine"}
    package("", mine="other:B")
    with pytest.raises(ConfigError, match=r"two installed packages declare mine.*elsewhere:A and"):
        installed("losses")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "nowhere.at_all:C", "loss.name = nowhere.at_all:C: there is no module nowhere"),
        ("", "elsewhere:C", "module 'elsewhere' has no attribute 'C'"),
        ("1/0", "elsewhere:C", "can't be imported: ZeroDivisionError: division by zero"),
        ("def", "elsewhere:C", "can't be imported: SyntaxError"),
        ("import nowhere", "elsewhere:C", "there is no module nowhere; install"),
    ],
)
def test_what_can_not_be_had_is_told(package, text, name, message):
    package(text)
    with pytest.raises(ConfigError) as told:
        load_part("losses", name, "loss.name")
    assert message in str(told.value)
