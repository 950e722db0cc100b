"""A slide of dark squares and a detector that finds them: the journey without a network."""

import threading
from types import SimpleNamespace

import numpy as np
from scipy import ndimage

from models import DetectorConfig, ModelCard
from pipeline.geometry import Detections
from pipeline.network.detector import TileDetector

CLASSES = ("NILM", "HSIL")
DARK = {0: 120, 1: 60}
"""Grey of a cell of each class."""


def blob_slide(size, centers, labels, side=20):
    """(H, W, 3) uint8 with a dark square on each centre (level-0 px)."""
    width, height = size
    image = np.full((height, width, 3), 235, np.uint8)
    for (x, y), label in zip(centers, labels, strict=True):
        half = side // 2
        image[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = DARK[label]
    return image


class BlobDetector(TileDetector):
    """Boxes around whatever is dark; no network."""

    device, batch_size, readers, lanes = "cpu", 2, 2, 1
    runtime = SimpleNamespace(name="torch", precision="fp32", sha256="", fallback=None)

    def __init__(self, mpp=0.5):
        self.turn = threading.Lock()
        config = DetectorConfig(name="fcos", classes=CLASSES)
        thresholds = dict.fromkeys(CLASSES, 0.5)
        self.card = ModelCard(name="blobs", detector=config, mpp=mpp, thresholds=thresholds)
        self.thresholds = np.array([0.5, 0.5], np.float32)

    def detect(self, tiles):
        return [self._detect(tile) for tile in tiles]

    def _detect(self, tile):
        grey = tile.mean(axis=2)
        parts, _ = ndimage.label(grey < 180)
        boxes, labels = [], []
        for rows, columns in ndimage.find_objects(parts):
            boxes.append([columns.start, rows.start, columns.stop, rows.stop])
            labels.append(int(np.median(grey[rows, columns]) < 90))
        scores = np.full(len(boxes), 0.9, np.float32)
        return Detections(np.array(boxes, float).reshape(-1, 4), scores, np.array(labels, int))
