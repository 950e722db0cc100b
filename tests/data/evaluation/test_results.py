"""Detections in COCO's own format, counted again by pycocotools alone."""

import contextlib
import io
import json

import numpy as np
import pytest
from cellcases import cells, random_fields
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.evaluation import average_precision, from_results, to_results


def by_pycocotools(truth, results, label):
    """AP, AP50 and AP75 of one class, as pycocotools computes them from the two contents."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(json.loads(json.dumps(results))), "bbox")
        evaluation.params.maxDets = [1, 10, 1000]
        evaluation.params.catIds = [label + 1]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    recall = evaluation.eval["recall"][:, 0, 0, -1]
    return precision.mean(), precision[0].mean(), precision[5].mean(), recall.mean()


@pytest.mark.parametrize("seed", range(3))
def test_pycocotools_counts_the_same(seed):
    truth, found = random_fields(seed, count=8, classes=3)
    annotations = [
        {
            "image_id": i,
            "category_id": int(label) + 1,
            "bbox": [*box[:2], *(box[2:] - box[:2])],
            "area": 400.0,
            "iscrowd": 0,
        }
        for i, field in enumerate(truth, 1)
        for box, label in zip(field.boxes, field.labels, strict=True)
    ]
    content = {
        "images": [{"id": i} for i in range(1, 9)],
        "categories": [{"id": i} for i in (1, 2, 3)],
        "annotations": [{"id": i, **a} for i, a in enumerate(annotations, 1)],
    }
    ours = average_precision(truth, found, 3)
    for label in range(3):
        figures = [ours[name][label] for name in ("ap", "ap50", "ap75", "ar")]
        expected = by_pycocotools(content, to_results(found), label)
        assert figures == pytest.approx(expected, abs=1e-9)


def test_what_was_written_comes_back():
    _, found = random_fields(2, classes=3)
    again = from_results(json.loads(json.dumps(to_results(found))), len(found))
    for one, other in zip(found, again, strict=True):
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.boxes, other.boxes, atol=2e-2)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_scores_have_no_more_digits_than_single_precision():
    score = float(np.float32(0.1))
    assert to_results([cells(([0, 0, 5, 5], 0, score))])[0]["score"] == 0.1


def test_more_fields_than_there_are_is_an_error():
    with pytest.raises(IndexError):
        from_results([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], 2)
