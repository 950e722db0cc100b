"""The cache of decoded tiles holds little, decodes once, and forgets failures."""

import concurrent.futures
import threading

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slidefiles import picture

from pipeline.slides.readers.segments import SegmentCache, may_be_damaged


def segment(number, size=100):
    return np.full((size, 1, 1), number % 256, np.uint8)


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 1000))
def test_keeps_what_was_used_last(keys, limit):
    """Against an obvious list of keys, the latest last."""
    cache, kept = SegmentCache(limit), []
    for key in keys:
        decoded = []
        pixels = cache.get(key, lambda key=key, to=decoded: to.append(key) or segment(key))
        assert (pixels == key).all()
        assert bool(decoded) == (key not in kept)
        kept = [*(k for k in kept if k != key), key]
        kept = kept[-max(1, limit // 100) :]


def test_threads_that_want_one_segment_wait_for_it():
    cache, started, decoded = SegmentCache(1000), threading.Barrier(4), []
    release = threading.Event()

    def decode():
        decoded.append(1)
        release.wait(5)
        return segment(7)

    def want(_):
        started.wait()
        return cache.get("tile", decode)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = pool.map(want, range(4))
        release.set()
        assert all((pixels == 7).all() for pixels in results)
    assert decoded == [1]


def test_failures_are_told_and_forgotten():
    cache = SegmentCache(1000)

    def fail():
        raise OSError("network")

    with pytest.raises(OSError, match="network"):
        cache.get("tile", fail)
    assert (cache.get("tile", lambda: segment(3)) == 3).all()


def test_nothing_stored_is_remembered_too():
    cache = SegmentCache(1000)
    assert cache.get("tile", lambda: None) is None
    assert cache.get("tile", lambda: segment(1)) is None


def test_many_threads_on_a_small_cache():
    cache = SegmentCache(500)
    keys = np.random.default_rng(0).integers(0, 12, 4000).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        shown = pool.map(lambda key: cache.get(key, lambda: segment(key)), keys)
        assert all((pixels == key).all() for key, pixels in zip(keys, shown, strict=True))
    assert cache._bytes == 100 * len(cache._kept) <= 500


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_sound_jpeg_is_not_doubted(subsampling, padding):
    for seed in range(20):
        jpeg = imagecodecs.jpeg8_encode(picture(64, 64, seed), level=90, subsampling=subsampling)
        assert not may_be_damaged(jpeg + padding, imagecodecs.jpeg8_decode(jpeg))


JPEG = imagecodecs.jpeg8_encode(picture(64, 64), level=90)
MIDDLE = len(JPEG) // 2
GREY = np.pad(picture(63, 63), ((0, 1), (0, 1), (0, 0)), constant_values=128)


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (JPEG[:-2], picture(64, 64)),
        (JPEG[:MIDDLE] + b"\xff\xc9" + JPEG[MIDDLE + 2 :], picture(64, 64)),
        (JPEG[:MIDDLE] + bytes(16) + JPEG[MIDDLE + 16 :], picture(64, 64)),
        (JPEG, GREY),
    ],
    ids=["no end", "marker", "zeros", "grey"],
)
def test_each_sign_of_damage_is_enough(data, pixels):
    assert may_be_damaged(data, pixels)
    assert not may_be_damaged(JPEG, picture(64, 64))


def test_restarts_are_sound():
    with_restart = JPEG[:MIDDLE] + b"\xff\xd3" + JPEG[MIDDLE:]
    assert not may_be_damaged(with_restart, picture(64, 64))
