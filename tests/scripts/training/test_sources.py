"""Several sources of a training: read as one, drawn from by shares, one of them held out."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from configs import ConfigError, apply_overrides, validate
from data.crops.augment import AugmentSettings
from data.crops.dataset import CropDataset
from data.crops.sampling import CropSettings
from scripts.slides import images_of
from scripts.training.resumed import changed_settings
from scripts.training.run import make_data, read_fields, read_run_fields
from scripts.training.settings import TrainSettings

PLAIN = AugmentSettings(stain=0, brightness=0, contrast=0, blur=0, jpeg=0, noise=0)


@pytest.fixture
def two(values, coco):
    """The two fields of ``coco`` in files of their own, as two sources."""
    content = json.loads(coco[0].read_text())
    sources = []
    for image in content["images"]:
        name = f"hospital-{image['id']}"
        own = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        path = coco[0].with_name(f"{name}.json")
        path.write_text(json.dumps(content | {"images": [image], "annotations": own}))
        sources.append({"annotations": str(path), "images": str(coco[1])})
    return values | {"data": values["data"] | {"train": sources}}


def settings_of(values, **data):
    return validate(values | {"data": values["data"] | data}, TrainSettings, "test")


def crops(fields, count=40, **settings):
    values = CropSettings(size=64, **settings)
    drawn = CropDataset(fields, images_of(fields), 0.5, values, PLAIN, count, seed=3)
    return [drawn[i] for i in range(count)]


def test_two_sources_give_the_crops_of_one_that_holds_both(values, two):
    one, _ = read_fields(settings_of(values))
    several, _ = read_fields(settings_of(two))
    assert [f.source for f in several.fields] == ["hospital-1", "hospital-2"]
    assert several.class_counts() == one.class_counts() == [1, 2]
    for (image, target), (other, same) in zip(crops(one), crops(several), strict=True):
        assert image.equal(other)
        assert target["boxes"].equal(same["boxes"])
        assert target["field"] == same["field"]


def test_sources_are_drawn_from_by_their_weights(two):
    two["data"]["train"][1]["weight"] = 4
    fields, _ = read_fields(settings_of(two))
    drawn = [int(target["field"]) for _, target in crops(fields, 300)]
    assert np.mean(drawn) == pytest.approx(0.8, abs=0.06)


def test_each_source_has_its_own_table_of_classes(two):
    path = Path(two["data"]["train"][1]["annotations"])
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 1, "name": "normal"}, {"id": 2, "name": "CIN 2+"}]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"hospital-2.json: CIN 2\+ \(1\) are not among"):
        read_fields(settings_of(two))
    two["data"]["train"][1]["classes"] = {"normal": "NILM", "CIN 2+": "HSIL"}
    fields, _ = read_fields(settings_of(two))
    assert fields.class_counts() == [1, 2]


def test_a_source_that_is_held_out_is_neither_learned_from_nor_chosen_by(two):
    fields = read_run_fields(settings_of(two, hold_out="hospital-2"))
    assert [f.image.name for f in fields.train.fields] == ["1.png"]
    assert [f.image.name for f in fields.val.fields] == ["1.png", "2.png"]
    assert [f.image.name for f in fields.held_out.fields] == ["2.png"]
    assert read_run_fields(settings_of(two)).held_out is None


def test_what_is_held_out_is_held_out_of_both_parts(two):
    near, away = two["data"]["train"]
    val = [one | {"images": two["data"]["val"]["images"]} for one in (near, away)]
    fields = read_run_fields(settings_of(two, val=val, hold_out="hospital-2"))
    assert [f.image.name for f in fields.train.fields] == ["1.png"]
    assert [f.image.name for f in fields.val.fields] == ["1.png"]
    assert [f.image for f in fields.held_out.fields] == [
        Path(away["images"], "2.png"),
        Path(val[1]["images"], "2.png"),
    ]


def test_a_source_can_only_be_held_out_if_it_is_there_and_leaves_others(two):
    with pytest.raises(
        ConfigError, match=r"no source is called so; there are hospital-1, hospital-2"
    ):
        settings_of(two, hold_out="away")
    own = two["data"]["val"] | {"name": "away"}
    with pytest.raises(ConfigError, match=r"without it data\.val has no source left"):
        settings_of(two, val=own, hold_out="away")


def test_an_image_that_is_held_out_and_chosen_by_is_refused(two):
    val = [two["data"]["val"], two["data"]["val"] | {"name": "hospital-2"}]
    with pytest.raises(
        ConfigError, match=r"is in data\.val and in the source hospital-2, which is"
    ):
        read_run_fields(settings_of(two, val=val, hold_out="hospital-2"))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "data.train = .*at least 1 item"),
        ("fields.json", "expected a source, annotations and images, or a list of sources"),
        ([{"annotations": "a.json"}], "data.train.0.images is missing"),
        ({"annotations": "a.json"}, "data.train.images is missing"),
        ([{"annotations": "a.json", "images": "a", "wieght": 2}], "did you mean weight"),
        ([{"annotations": "a/x.json", "images": "a"}, {"annotations": "b/x.json", "images": "b"}],
         "2 sources are called x; give each a name of its own"),
    ],
)  # fmt: skip
def test_wrong_sources_are_told_by_their_keys(values, train, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(values, train=train)


def test_an_image_of_two_sources_is_refused(values):
    source = values["data"]["train"]
    twice = [source, source | {"name": "again"}]
    with pytest.raises(ConfigError, match=r"1.png: is in the sources fields and again"):
        read_fields(settings_of(values, train=twice))


def test_an_error_says_which_source_it_is_of(two):
    two["data"]["train"][1] |= {"name": "far away", "annotations": "none.json"}
    with pytest.raises(ConfigError, match=r"^source far away: none.json: no such file"):
        read_fields(settings_of(two))


def test_sources_are_set_by_their_number(two):
    changed = apply_overrides(two, ["data.train.1.weight=3"])
    assert [one.weight for one in settings_of(changed).data.train] == [1, 3]
    for override in ("data.train.2.weight=3", "data.train.weight=3", "data.train.-1={}"):
        with pytest.raises(ConfigError, match=r"a list has 2 entries; number .* 0 to 1"):
            apply_overrides(two, [override])


def test_a_run_goes_on_where_sources_moved_but_not_with_others(two, tmp_path):
    path = tmp_path / "config.yaml"
    before = settings_of(two).model_dump(mode="json")
    path.write_text(json.dumps(before))  # JSON is YAML
    assert settings_of(before).data == settings_of(two).data
    two["data"]["train"][1]["images"] = "elsewhere"
    moved = settings_of(two)
    assert "data.train.1.images = elsewhere (was" in changed_settings(path, moved)
    two["data"]["train"][1]["weight"] = 2
    with pytest.raises(ConfigError, match=r"data.train.1.weight = 2.0 \(was 1.0\)"):
        changed_settings(path, settings_of(two))
    two["data"]["train"].pop()
    with pytest.raises(ConfigError, match=r"data.train = 1 source \(was 2 sources\)"):
        changed_settings(path, settings_of(two))


def test_balanced_batches_hold_each_source_alike_whatever_the_workers(two):
    two["data"]["crops"] = {"size": 64, "batches": "balanced"}
    two["loop"] |= {"batch_size": 3, "steps": 2}
    settings = settings_of(two)
    fields = read_run_fields(settings)
    seen = []
    for workers in (0, 1):
        loop = settings.loop.model_copy(update={"workers": workers})
        of_workers = settings.model_copy(update={"loop": loop})
        with closing(make_data(of_workers, fields.train, fields.val)) as data:
            batches = list(data.train_dataloader())
        seen.append([[int(target["field"]) for target in targets] for _, targets in batches])
    assert seen == [[[0, 1, 0], [1, 0, 1]]] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.crops.batches": "balanced", "loop.batch_size": 1}, r"loop\.batch_size is 1; raise"),
        ({"data.crops.batches": "balanced", "data.hold_out": "hospital-1"}, "there is one"),
        ({"data.crops.batches": "balanced", "data.crops.source_power": 0.5}, "source_power says"),
        ({"group_dro.step": 0.01, "data.hold_out": "hospital-1"}, "there is one in data.train"),
        ({"group_dro.step": 0.01, "data.crops.drawn": 0.5}, "drawn crops are of no source"),
        ({"group_dro.step": 0.01, "distillation.teacher": "a"}, "goes by the class loss"),
        ({"views.weight": 1, "distillation.teacher": "a"}, "views compares places by the annot"),
        ({"views.weight": 1, "data.augment.stain": 0}, "views: no step of data.augment changes"),
        ({"views.weight": 0}, r"views\.weight = 0"),
    ],
)
def test_what_cannot_be_balanced_weighed_or_compared_is_refused(two, changes, message):
    values = apply_overrides(two, [f"{key}={value}" for key, value in changes.items()])
    with pytest.raises(ConfigError, match=message) as refusal:
        validate(values, TrainSettings, "test")
    assert "\n" not in str(refusal.value)
