"""Options that would do nothing in a call are refused, not passed over."""

import pytest
from typer.testing import CliRunner

from scripts.cli import build_app


def test_a_setting_of_another_detector_is_told(tmp_path):
    words = ["train", "--config", "train/cric", "--out", str(tmp_path / "run")]
    sets = ["--set", "model.anchors.scale=8", "--set", "model.atss.anchor_scale=8"]  # the default
    called = CliRunner().invoke(build_app("train"), [*words, *sets])
    assert called.exit_code == 2  # for want of data
    told = "warning: model.anchors: of another detector; with fcos it does nothing [setting-idle]"
    assert told in called.stderr
    retina = CliRunner().invoke(
        build_app("train"), [*words, *sets, "--set", "model.name=retinanet"]
    )
    assert "setting-idle" not in retina.stderr


def test_the_weight_of_a_loss_that_there_is_none_of_is_told(tmp_path):
    words = ["train", "--config", "train/cric", "--out", str(tmp_path / "run")]
    head = "model.abnormal_head.weight="
    taught = "distillation.teacher=there-is-none"

    def told(*sets):
        both = [word for one in sets for word in ("--set", one)]
        return "setting-idle" in CliRunner().invoke(build_app("train"), [*words, *both]).stderr

    assert told(head + "2", taught)
    assert not told(head + "1", taught)
    assert not told(head + "2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "evaluate --screened r --labels l.csv --level 0.9 --by patient --crowds cells",
            "--by, --level, --crowds: of --data, not of --screened",
        ),
        ("evaluate --data d --images i --model m --rule r", "--rule: of --screened, not of --data"),
        (
            "calibrate r --negatives --sensitivity 0.95 --folds 5",  # by default, but given
            "--sensitivity, --folds: of the rule that --labels are for, not of --negatives",
        ),
        ("calibrate r --labels l.csv --model m", "--model: of --negatives"),
        (
            "export --model m --to openvino --out o --tiles 3",
            "--tiles: of --calibration, whose tiles int8 learns its ranges from",
        ),
        ("view users --add-user ann --port 80 --no-browser", "--port, --browser: of the server"),
        (
            "synth --out s --fields f --images i --kind liquid --abnormal 0.1",
            "--abnormal, --kind: of drawn cells, not of --fields",
        ),
        (
            "synth --out s --cells 5 --cells-per-mm2 150",
            "--cells-per-mm2: says how many cells, and so does --cells",
        ),
        (
            "data split a --images i --out s.csv --parts train=0.8,val=0.2 --folds 5",
            "--parts: says which parts there are, and so does --folds",
        ),
        (
            "screen s --out o --mpp 0.25 --mpp-override 0.5",
            "--mpp is of slides that carry no scale",
        ),
        ("tile s --out o --mpp 0.25 --mpp-override 0.5", "--mpp is of slides that carry no scale"),
        ("train --out o --find-lr --resume", "--find-lr starts from the settings"),
    ],
)
def test_what_would_do_nothing_is_refused(words, message):
    command, *rest = words.split()
    called = CliRunner().invoke(build_app(command), [command, *rest])
    assert called.exit_code == 2
    assert message in " ".join(called.stderr.split())
