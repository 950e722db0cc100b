"""Groups of classes by how frequent they are."""

from data.evaluation import long_tail


def groups(*counts):
    return {name: members.tolist() for name, members in long_tail(counts).items()}


def test_the_fields_of_cric_have_all_three_groups():
    training = groups(3007, 231, 353, 58, 172, 50)
    assert training == {"frequent": [0], "common": [1, 2, 4], "rare": [3, 5]}
    assert groups(533, 61, 66, 5, 38, 5) == training  # the fields that it is validated on


def test_groups_without_a_class_are_left_out():
    assert groups(10, 9) == {"frequent": [0, 1]}
    assert groups(0, 0) == {"rare": [0, 1]}
    assert groups(100, 30, 3, 2, 0) == {"frequent": [0, 1], "common": [2], "rare": [3, 4]}
