"""Graders made up for tests: a colour's share of each class, in numpy and as OpenVINO's graph."""

import threading
from pathlib import Path

import numpy as np

from models.card import GRADER, ModelCard, SecondLookFacts
from models.storage.graphs import GRADER_FILES, add_grader_graph, load_openvino, save_openvino

SPREAD = 20.0
"""Levels of colour that make a class e times as likely."""


def grader_facts(classes, **changes) -> SecondLookFacts:
    """Of a grader that tells classes, then background, by red, green and blue."""
    values = {
        "name": "by colour",
        "backbone": "mobilenet_v2",
        "classes": classes,
        "size": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "floor": 0.1,
        "thresholds": dict.fromkeys(classes, 0.3),
        "sha256": "11",
    }
    return SecondLookFacts(**(values | changes))


def probabilities_of(crops, classes: int = 2):
    """(N, classes + 1) of (N, S, S, 3): the softmax of mean red, green and blue over `SPREAD`."""
    means = np.asarray(crops, np.float64).mean(axis=(1, 2))[:, : classes + 1] / SPREAD
    powers = np.exp(means - means.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


class ColourGrader:
    """Says what `probabilities_of` says, and remembers what it was shown."""

    precision, sha256, fallback, batch_size = "fp32", "11", None, 4

    def __init__(self, answer=probabilities_of):
        self.answer = answer
        self.seen = []
        self._lock = threading.Lock()

    def grade(self, crops):
        assert crops.shape[0] == self.batch_size
        with self._lock:
            self.seen += list(crops.copy())
        return self.answer(crops)


def colour_graph(size: int, outputs: int = 3, softmax: bool = True, spread: float = SPREAD):
    """The same as a graph of any number of crops."""
    openvino = load_openvino()
    from openvino import opset13 as ops

    pixels = ops.parameter([-1, size, size, 3], openvino.Type.u8, name="pixels")
    means = ops.reduce_mean(ops.convert(pixels, "f32"), np.array([1, 2]), False)
    weights = np.eye(3, outputs, dtype=np.float32) / np.float32(spread)
    scores = ops.matmul(means, ops.constant(weights), False, False)
    found = ops.softmax(scores, 1) if softmax else scores
    model = openvino.Model([found], [pixels], "by colour")
    model.inputs[0].get_tensor().set_names({"pixels"})
    model.outputs[0].get_tensor().set_names({"probabilities"})
    return model


def give_grader(card: ModelCard, folder: Path, *kinds: str, **changes) -> ModelCard:
    """Writes a grader beside a model's weights: graphs of these kinds, no weights."""
    facts = grader_facts(card.detector.classes, **changes)
    card = card.model_copy(update={"second_look": facts})
    for kind in kinds or ("openvino",):
        save_openvino(colour_graph(facts.size), folder, kind, GRADER_FILES)
        card = add_grader_graph(card, folder, kind)
    (folder / GRADER).touch()
    return card
