"""What cells are called, counted by hand."""

import numpy as np
from cellcases import HERE, NOWHERE, THERE, cells, crowd, join_cells, random_fields

from data.evaluation import confusion_matrix, shares


def test_counted_by_hand():
    """One cell rightly named, one called 2 instead of 1, one missed, one false alarm of class 0."""
    truth = [cells((HERE, 0), (THERE, 1)), cells((HERE, 2))]
    found = [cells((HERE, 0, 0.9), (THERE, 2, 0.8)), cells((NOWHERE, 0, 0.7))]
    matrix = confusion_matrix(truth, found, 3)
    assert matrix.tolist() == [
        [1, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],  # missed
        [1, 0, 0, 0],  # nothing was there
    ]
    assert shares(matrix).tolist() == matrix.tolist()


def test_in_a_crowd_nothing_counts():
    truth = [join_cells(crowd([40, 40, 100, 100], 1), cells((HERE, 1)))]
    found = [cells((THERE, 0, 0.9), (HERE, 1, 0.4))]
    assert confusion_matrix(truth, found, 2).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_every_cell_and_every_detection_is_counted_once():
    truth, found = random_fields(1, classes=3)
    matrix = confusion_matrix(truth, found, 3)
    labels = np.concatenate([field.labels for field in truth])
    names = np.concatenate([field.labels for field in found])
    assert matrix[:3].sum(axis=1).tolist() == np.bincount(labels, minlength=3).tolist()
    assert matrix[:, :3].sum(axis=0).tolist() == np.bincount(names, minlength=3).tolist()


def test_shares_are_of_rows_and_an_empty_row_stays_empty():
    assert shares(np.array([[1, 3], [0, 0]])).tolist() == [[0.25, 0.75], [0, 0]]


def test_fields_without_anything():
    assert confusion_matrix([cells()], [cells()], 1).tolist() == [[0, 0], [0, 0]]
    assert confusion_matrix([cells((HERE, 0))], [cells()], 1).tolist() == [[0, 1], [0, 0]]
    assert confusion_matrix([cells()], [cells((HERE, 0, 0.9))], 1).tolist() == [[0, 0], [1, 0]]
