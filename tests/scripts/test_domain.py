"""A model's domain from annotated fields, as training and evaluation measure it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from drawncells import cell
from PIL import Image
from typer.testing import CliRunner

from configs import ConfigError
from data.annotations import AnnotationSettings
from models.card import DEFAULT_MODEL
from pipeline.cells.domain import DomainSettings, check_domain, judge_looks
from pipeline.cells.looks import LOOKS, SIDE, measure_looks
from pipeline.geometry import Detections
from scripts.cli import build_app
from scripts.domain import measure_domain
from scripts.evaluate import _read_learned
from scripts.slides import read_annotated

CELLS = 6


def write_fields(folder, count, seed):
    """Fields at 0.5 µm/px, each a row of drawn cells in colours of its own."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "NILM"}]}
    for number in range(count):
        nucleus, around = rng.normal((90, 60, 120), 8), rng.normal((150, 200, 190), 12)
        cells = [cell(nucleus, around + rng.normal(0, 4, 3), seed) for seed in range(CELLS)]
        Image.fromarray(np.concatenate(cells, axis=1)).save(folder / f"{number}.png")
        size = {"width": CELLS * SIDE, "height": SIDE, "mpp": 0.5}
        content["images"].append({"id": number, "file_name": f"{number}.png", **size})
        content["annotations"] += [
            {
                "id": number * CELLS + i,
                "image_id": number,
                "category_id": 1,
                "bbox": [i * SIDE + 12, 12, 40, 40],
            }
            for i in range(CELLS)
        ]
    (folder / "fields.json").write_text(json.dumps(content))
    return read_annotated(folder / "fields.json", folder, ("NILM",))


def middles(fields):
    return [field.nuclei.astype(np.float64) for field in fields.fields]


def test_annotated_cells_describe_the_domain(tmp_path):
    train, val = write_fields(tmp_path / "train", 30, 0), write_fields(tmp_path / "val", 4, 1)
    facts = measure_domain(train, val, middles(val), "drawn")
    assert (facts.fields, facts.checked, facts.data) == (30, 34, "drawn")
    own = measure_looks(np.array([cell(seed=seed) for seed in range(CELLS)]))
    assert judge_looks(own, facts).within is True
    density = facts.aspects["stain"].mean[list(LOOKS).index("nuclear_density")]
    assert density == pytest.approx(own[:, 0].mean(), abs=0.1)


def test_too_few_fields_and_none_without_a_scale(tmp_path):
    train, val = write_fields(tmp_path / "train", 19, 0), write_fields(tmp_path / "val", 1, 1)
    with pytest.raises(ConfigError, match="19 groups with cells say nothing"):
        measure_domain(train, val, middles(val), "drawn")


def test_an_image_that_cannot_be_read_is_passed_over(tmp_path):
    train, val = write_fields(tmp_path / "train", 30, 0), write_fields(tmp_path / "val", 1, 1)
    (tmp_path / "train" / "3.png").write_bytes(b"no picture")
    assert measure_domain(train, val, middles(val), "drawn").fields == 29


def test_what_is_odd_about_the_fields_learned_from_is_told(tmp_path, capsys):
    write_fields(tmp_path / "train", 1, 0)
    table = tmp_path / "train" / "fields.json"
    content = json.loads(table.read_text())
    content["annotations"][0]["bbox"] = [-500, 0, 20, 20]
    table.write_text(json.dumps(content))
    model = SimpleNamespace(config=SimpleNamespace(classes=("NILM",)))
    learned = _read_learned(model, table, tmp_path / "train", AnnotationSettings())
    told = capsys.readouterr()
    assert learned.doubts
    assert all(f"warning: {doubt}\n" in told.err for doubt in learned.doubts)
    assert all(f"--write-domain: {note}\n" in told.out for note in learned.notes)


def test_the_check_may_be_turned_off(tmp_path):
    train, val = write_fields(tmp_path / "train", 20, 0), write_fields(tmp_path / "val", 1, 1)
    facts = measure_domain(train, val, middles(val), "drawn")
    none = Detections.empty()
    assert check_domain(None, none, facts, DomainSettings(check=False)) is None
    assert check_domain(None, none, None, DomainSettings()) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--write-domain", "t.json"], "--write-domain and --domain-images go together"),
        (["--domain-images", "t"], "--write-domain and --domain-images go together"),
    ],
)
def test_a_call_that_lacks_half_is_refused(tmp_path, options, message):
    from lively import saved

    saved(tmp_path / "model", pyramid={"channels": 32, "levels": [3]})
    call = ["evaluate", "--model", tmp_path / "model", "--data", "v.json", "--images", "v"]
    result = CliRunner().invoke(build_app("evaluate"), [*map(str, call), *options])
    assert result.exit_code == 2
    assert message in result.output


def test_a_shipped_model_stays_as_it_is():
    call = ["evaluate", "--model", DEFAULT_MODEL, "--data", "v.json", "--images", "v"]
    options = ["--write-domain", "t.json", "--domain-images", "t"]
    result = CliRunner().invoke(build_app("evaluate"), [*call, *options])
    assert result.exit_code == 2
    assert "--write-domain: a shipped model stays as it is" in " ".join(result.output.split())
