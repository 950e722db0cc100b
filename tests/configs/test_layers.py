"""Settings in layers: what goes before what, and who said it."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from configs import ConfigError, StrictModel, load_config, load_yaml
from configs.layers import Said, join, plain, read_layers


class Focal(StrictModel):
    name: Literal["focal"]
    gamma: float = 2.0


class Other(StrictModel):
    name: Literal["other"]
    gamma: float = 12.0


Loss = Annotated[Focal | Other, Field(discriminator="name")]


class Optimiser(StrictModel):
    name: str = "adamw"
    lr: float = 1e-3


class Settings(StrictModel):
    loss: Loss = Focal(name="focal")
    losses: dict[str, Loss] = Field(default_factory=dict)
    optimiser: Optimiser = Optimiser()
    levels: tuple[int, ...] = (3,)
    teacher: Optimiser | None = None
    steps: tuple[dict[str, Any], ...] = ()


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def test_a_later_file_goes_before_an_earlier_one_key_by_key(write):
    low = write("a.yaml", "optimiser: {name: sgd, lr: 3}\nlevels: [3, 4]")
    high = write("b.yaml", "optimiser: {lr: 4}\nlevels: [5]")
    found = load_config([low, high], Settings)
    assert found.optimiser == Optimiser(name="sgd", lr=4)
    assert found.levels == (5,)  # lists are replaced
    assert load_config([high, low], Settings).optimiser.lr == 3
    assert load_config([low, high], Settings, ["optimiser.lr=5"]).optimiser.lr == 5


def test_a_file_stands_on_others_beside_it_or_presets(write):
    write("base/low.yaml", "optimiser: {name: sgd, lr: 1}\nlevels: [3]")
    write("base/mid.yaml", "extends: low.yaml\noptimiser: {lr: 2}")
    high = write("high.yaml", "extends: [base/mid.yaml]\nlevels: [6]")
    found = load_config(high, Settings)
    assert (found.optimiser, found.levels) == (Optimiser(name="sgd", lr=2), (6,))


def test_what_two_files_stand_on_undoes_nothing_of_either(write):
    write("base.yaml", "optimiser: {name: sgd, lr: 1}\nlevels: [3]")
    one = write("one.yaml", "extends: base.yaml\noptimiser: {lr: 2}")
    other = write("other.yaml", "extends: base.yaml\nlevels: [5]")
    both = write("both.yaml", "extends: [one.yaml, other.yaml]")
    for given in ([one, other], both):
        found = load_config(given, Settings)
        assert (found.optimiser.lr, found.levels) == (2, (5,))
    # What is named itself goes where it stands.
    assert load_config([one, write("base.yaml", "optimiser: {lr: 7}")], Settings).optimiser.lr == 7
    # In one list the two would say that each overrides the other.
    wrong = write("wrong.yaml", "extends: [one.yaml, base.yaml]")
    with pytest.raises(ConfigError, match=r"wrong.yaml: extends: base.yaml lies below .* put it"):
        load_config(wrong, Settings)


def test_another_kind_takes_nothing_of_the_one_before(write):
    low = write("a.yaml", "loss: {name: other, gamma: 7}\nlosses: {x: {name: other, gamma: 7}}")
    assert load_config(low, Settings, ["loss.gamma=8"]).loss == Other(name="other", gamma=8)
    found = load_config(low, Settings, ["loss.name=focal", "losses.x.name=focal"])
    assert found.loss == found.losses["x"] == Focal(name="focal", gamma=2.0)
    either_way = ["loss.gamma=1", "loss.name=focal"]
    for overrides in (either_way, either_way[::-1]):
        assert load_config(low, Settings, overrides).loss == Focal(name="focal", gamma=1)


@pytest.mark.parametrize("override", ["steps.0.name=flip", "steps.0={name: flip}"])
def test_another_kind_of_step_takes_nothing_either(write, override):
    path = write("a.yaml", "steps: [{name: blur, p: 0.9}, {name: noise}]")
    assert load_config(path, Settings, [override]).steps == ({"name": "flip"}, {"name": "noise"})
    assert load_config(path, Settings, ["steps.0.p=1"]).steps[0] == {"name": "blur", "p": 1}


def test_a_group_may_be_taken_away(write):
    low = write("a.yaml", "teacher: {lr: 2}")
    assert load_config([low, write("b.yaml", "teacher: null")], Settings).teacher is None


def test_each_value_knows_who_said_it(write):
    low = write("a.yaml", "loss: {name: other, gamma: 7}\noptimiser: {name: sgd, lr: 1}")
    high = write("b.yaml", f"extends: {low}\noptimiser: {{lr: 2}}")
    tree = join(read_layers(high, ["loss.name=focal"]), Settings)
    assert tree["optimiser"] == {"name": Said("sgd", low), "lr": Said(2, high)}
    assert tree["loss"] == {"name": Said("focal", "--set")}
    assert plain(tree)["optimiser"] == {"name": "sgd", "lr": 2}
    assert [layer.name for layer in read_layers("release/cric-fcos-light")] == [
        "train/cric-light",
        "release/cric-fcos-light",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: wrong.yaml", r"wrong.yaml: extends itself"),
        ("extends: other.yaml", r"wrong.yaml: extends itself, by way of .*other.yaml"),
        ("extends: none.yaml", r"wrong.yaml: extends: none.yaml: no such file or preset"),
        ("extends: {a: b}", "expected a file or preset, or a list"),
        ("extends: [3]", "expected a file or preset, or a list"),
        ("levels: [1]\nlevels: [2]", "not valid YAML: the key levels stands twice"),
        ("loss: {name: focal, name: other}", "the key name stands twice"),
        ("extend: a.yaml", "unknown key extend"),
        ("optimiser: &a {lr: *a}", "a group holds itself, by an alias"),
    ],
)
def test_what_can_not_be_is_told(write, text, message):
    write("other.yaml", "extends: wrong.yaml")
    with pytest.raises(ConfigError, match=message):
        load_config(write("wrong.yaml", text), Settings)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("2026-02-30", "'2026-02-30' is no timestamp; in quotes it is a text"),
        ('!!int ""', "'' is no int"),
        ("!!bool maybe", "'maybe' is no bool"),
        pytest.param("9" * 5000, "'9999", id="too long"),
    ],
)
def test_what_only_looks_like_a_date_or_a_number_is_told(write, value, told):
    with pytest.raises(
        ConfigError, match=r"--set optimiser\.name=.* is no [a-z]+; in quotes it is"
    ):
        load_config(None, Settings, [f"optimiser.name={value}"])
    path = write("a.yaml", f"optimiser:\n  name: {value}")
    with pytest.raises(ConfigError, match=r"a\.yaml: not valid YAML: ") as caught:
        load_config(path, Settings)
    assert told in str(caught.value)
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "read"), [("010", 8), ("-017", -15), ("1:30", 90), ("1:30.5", 90.5)]
)
def test_a_number_that_yaml_reads_as_another_one_is_told(write, value, read):
    with pytest.raises(ConfigError, match=rf"{value} would be read as {read}; write that"):
        load_config(None, Settings, [f"optimiser.lr={value}"])
    with pytest.raises(ConfigError, match=f"would be read as {read}"):
        load_config(write("a.yaml", f"levels: [{value}]"), Settings)
    for harmless in ("0", "0.5", "0x1F", "-0", "1_000", f"'{value}'"):
        load_config(None, Settings, [f"steps=[{{name: {harmless}}}]"])


def test_one_entry_of_a_list_is_changed_by_its_number_as_yaml_or_the_call_writes_it(write):
    low = write("a.yaml", "levels: [3, 4, 5]")
    high = write("b.yaml", "levels: {1: 6}")
    assert load_config([low, high], Settings, ["levels.2=7"]).levels == (3, 6, 7)
    assert load_config([low, write("c.yaml", "levels: {'1': 6}")], Settings).levels == (3, 6, 5)
    tree = join(read_layers([low, high]), Settings)
    assert tree["levels"] == Said([3, 6, 5], f"{low}, {high}")


@pytest.mark.parametrize("override", ["groups.0={}", "groups={}"])
def test_an_empty_group_over_an_entry_of_a_list_says_nothing(write, override):
    low = write("a.yaml", "groups: [{a: 1}]")
    tree = join(read_layers(low, [override]), Settings)
    assert tree["groups"] == Said([{"a": 1}], low)


@pytest.mark.parametrize("key", ["1", "-1", "yes", "1.0", "a"])
def test_a_number_that_no_entry_has_is_told_with_those_that_there_are(write, key):
    low, high = write("a.yaml", "levels: [3]"), write("b.yaml", f"levels: {{{key}: 4}}")
    with pytest.raises(ConfigError, match=r"a list has 1 entry; number the one that is meant, 0$"):
        load_config([low, high], Settings)


def test_a_number_of_any_length_is_told():
    overrides = ["levels=[3]", f"levels.{'9' * 5000}=4"]
    with pytest.raises(ConfigError, match=r"a list has 1 entry; number the one that is meant, 0$"):
        load_config(None, Settings, overrides)


def test_of_an_empty_list_no_entry_is_asked_for(write):
    told = "levels.0.* stands where a list is empty; say the list as a whole, in brackets"
    with pytest.raises(ConfigError, match=told):
        load_config(write("a.yaml", "levels: []"), Settings, ["levels.0=3"])
    with pytest.raises(ConfigError, match=told):
        load_config(None, Settings, ["levels=[]", "levels.0=3"])


def test_a_value_that_holds_itself_is_refused():
    with pytest.raises(ConfigError, match="the value holds itself"):
        load_config(None, Settings, ["levels=&a [*a]"])


def test_anchors_of_yaml_may_be_merged(write):
    path = write("a.yaml", "a: &a {x: 1}\nb: {<<: *a, y: 2}")
    assert load_yaml(path)["b"] == {"x": 1, "y": 2}


def test_errors_name_all_files(write):
    low, high = write("a.yaml", "levels: [3]"), write("b.yaml", "level: 3")
    with pytest.raises(ConfigError, match=r"a\.yaml \+ .*b\.yaml: unknown key level"):
        load_config([low, high], Settings)
