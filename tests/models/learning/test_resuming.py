"""Checkpoints that a run may go on with, and files that only look like one."""

import pickle
import zipfile

import pytest
import torch

from configs import ConfigError
from models.learning.resuming import check_checkpoint, random_states

PARTS = ("state_dict", "optimizer_states", "loops", "callbacks")


def whole():
    return {key: {} for key in PARTS} | {"rng": random_states()}


def test_a_checkpoint_with_the_states_of_all_generators_is_taken(tmp_path):
    torch.save(whole(), tmp_path / "last.ckpt")
    check_checkpoint(tmp_path / "last.ckpt")


class Evil:
    """Runs something where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_a_checkpoint_that_would_run_something_is_refused_and_runs_nothing(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "last.ckpt"
    torch.save(whole() | {"callbacks": Evil(mark)}, path)
    with pytest.raises(ConfigError, match="no checkpoint of cytolibra train"):
        check_checkpoint(path)
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(ConfigError, match="no checkpoint of cytolibra train"):
        check_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "text", "zip", "other"])
def test_any_other_file_is_refused_in_a_line(tmp_path, damage):
    path = tmp_path / "last.ckpt"
    torch.save({"a": torch.zeros(3)} if damage == "other" else whole(), path)
    if damage == "gone":
        path.unlink()
    elif damage == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", b"x")
    elif damage != "other":
        content = path.read_bytes()
        path.write_bytes(
            {"empty": b"", "text": b"weights"}.get(damage, content[: len(content) // 2])
        )
    with pytest.raises(ConfigError, match=r"--resume .*last\.ckpt: ") as caught:
        check_checkpoint(path)
    assert str(caught.value).isprintable()
