"""Amplitudes of elsewhere: the spectrum by hand, and folders with something wrong."""

import numpy as np
import pytest
from PIL import Image

from configs import ConfigError, validate
from data.crops import fourier
from data.crops.augment import AugmentSettings, build_augmentation
from data.crops.fourier import FourierSwap, read_amplitudes

SIDE = 32


def picture(seed, size=(SIDE, SIDE), low=90, high=160):
    return np.random.default_rng(seed).integers(low, high, (*size, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """An image of just the crop's size, which has but one window."""
    images = tmp_path / "elsewhere"
    images.mkdir()
    Image.fromarray(picture(1, low=40, high=220)).save(images / "one.png")
    return images


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_the_lowest_amplitudes_are_the_others_and_the_rest_stays(folder, reach):
    read_amplitudes.cache_clear()
    amplitudes = read_amplitudes(folder, 0.1, SIDE)
    beta = (reach + 0.5) / SIDE
    changed = FourierSwap(amplitudes, (beta, beta), p=1.0)(image=picture(0))["image"]
    before, after = (np.fft.fft2(one.astype(float), axes=(0, 1)) for one in (picture(0), changed))
    other = np.fft.fft2(picture(1, low=40, high=220).astype(float), axes=(0, 1))
    frequency = np.abs(np.fft.fftfreq(SIDE, 1 / SIDE))
    lowest = (frequency[:, None] <= reach) & (frequency[None] <= reach)
    assert lowest.sum() == (2 * reach + 1) ** 2
    # Of 1,024 pixels, each by up to a half; of the mean colour all may go the same way.
    rounding = np.where(frequency[:, None] + frequency[None] == 0, 513.0, 60.0)[..., None]
    assert (np.abs(np.abs(after) - np.abs(other)) < rounding)[lowest].all()
    assert (np.abs(after - before) < rounding)[~lowest].all()
    turned = np.abs(np.angle(after / before)) * np.abs(other)
    assert (turned < 2 * rounding)[lowest].all()  # phases stay


def test_the_mean_colour_alone_is_that_of_the_other(folder):
    read_amplitudes.cache_clear()
    swap = FourierSwap(read_amplitudes(folder, 0.0, SIDE), (0.0, 0.0), p=1.0)
    changed = swap(image=picture(0))["image"].astype(float)
    other = picture(1, low=40, high=220).mean(axis=(0, 1))
    np.testing.assert_allclose(changed.mean(axis=(0, 1)), other, atol=0.6)
    apart = changed - picture(0)
    assert np.ptp(apart[..., 0]) <= 1


def test_what_serves_nothing_is_left_out_and_told(folder):
    read_amplitudes.cache_clear()
    Image.fromarray(picture(2, (SIDE - 1, 90))).save(folder / "small.png")
    whole = (folder / "one.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(whole)
    below = folder / "below"
    below.mkdir()
    Image.fromarray(picture(3, (50, 70))).save(below / "two.png")
    found = read_amplitudes(folder, 0.1, SIDE)
    assert found.values.shape == (8, 7, 4, 3)
    others, bad, small = found.notes
    assert others == "data.augment.fourier.images: 1 of 5 files are no plain images: passed over"
    assert "1 can't be read, left out: cut.png (" in bad
    assert small.endswith("1 smaller than a crop of 32 px, left out: small.png")
    assert len(np.unique(found.values[:4, 0, 0, 0])) > 1  # of a larger image several windows


def test_folders_that_are_links_are_looked_into(folder, tmp_path):
    read_amplitudes.cache_clear()
    others = tmp_path / "others"
    others.mkdir()
    (others / "linked").symlink_to(folder)
    assert read_amplitudes(others, 0.1, SIDE).images == (others / "linked/one.png",)


def test_no_image_at_all_is_refused_in_one_line(tmp_path, folder):
    read_amplitudes.cache_clear()
    empty, small = tmp_path / "empty", tmp_path / "small"
    for one in (empty, small):
        one.mkdir()
    Image.fromarray(picture(2, (8, 8))).save(small / "small.png")
    for place, message in [
        (tmp_path / "none", "is no folder"),
        (folder / "one.png", "is no folder"),
        (empty, "has no image to take from"),
        (small, "no image to take from; .*smaller than a crop of 32 px, left out: small.png"),
    ]:
        with pytest.raises(ConfigError, match=r"data\.augment\.fourier\.images: .*" + message) as e:
            read_amplitudes(place, 0.01, SIDE)
        assert "\n" not in str(e.value)
    settings = AugmentSettings(fourier={"images": folder})
    with pytest.raises(ConfigError, match="for crops of one size"):
        build_augmentation(settings)


def test_of_too_many_images_some_are_taken_evenly(folder, monkeypatch):
    read_amplitudes.cache_clear()
    monkeypatch.setattr(fourier, "MOST_IMAGES", 3)
    for level in range(1, 7):
        Image.fromarray(np.full((SIDE, SIDE, 3), level, np.uint8)).save(folder / f"a{level}.png")
    found = read_amplitudes(folder, 0.0, SIDE)
    levels = found.values[::4, 0, 0, 0] / SIDE**2
    assert levels[:2].tolist() == [1, 4]
    assert levels[2] > 100
    assert found.notes == ("data.augment.fourier.images: 3 of 7 images are taken, evenly",)


@pytest.mark.parametrize("beta", [[0.1, 0.05], [-0.1, 0.1], [0.0, 0.5]])
def test_frequencies_that_make_no_sense_are_refused(beta, tmp_path):
    with pytest.raises(ConfigError, match=r"fourier\.beta = .*two values that rise, from 0 to 0.1"):
        validate({"fourier": {"images": str(tmp_path), "beta": beta}}, AugmentSettings, "augment")


def test_the_same_seed_takes_the_same(folder):
    read_amplitudes.cache_clear()
    Image.fromarray(picture(5, (60, 60))).save(folder / "two.png")
    settings = AugmentSettings(steps=(), fourier={"images": folder, "probability": 1.0})
    drawn = []
    for seed in (1, 1, 2):
        pipeline = build_augmentation(settings, side=SIDE)
        pipeline.set_random_seed(seed)
        drawn.append(pipeline(image=picture(0), bboxes=np.zeros((0, 4)), labels=[])["image"])
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
