"""Layers against a plain dict; snapshots that nothing changes."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.review.store import layers
from pipeline.review.store.layers import Layers

STEPS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(-1, 9)), max_size=60)


@given(STEPS, st.integers(1, 4))
def test_it_is_a_dict_and_its_snapshots_stay(steps, most):
    before, layers.MOST_RECENT = layers.MOST_RECENT, most
    try:
        found, wanted, snapshots = Layers(), {}, []
        for key, value in steps:
            if value >= 0:
                found[key] = wanted[key] = value
            elif key in wanted:
                del found[key], wanted[key]
            assert (key in found) == (key in wanted)
            if value % 2:
                snapshots.append((found.snapshot(), dict(wanted)))
        assert dict(found) == wanted
        assert len(found) == len(wanted)
        for snapshot, then in snapshots:
            assert dict(snapshot) == then
            assert len(snapshot) == len(then)
            assert all(snapshot.get(key) == then.get(key) for key in "abcdefgh")
    finally:
        layers.MOST_RECENT = before
