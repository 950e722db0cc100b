"""Where the specimen lies, and what of it can't be seen through."""

import numpy as np
import pytest

from pipeline.tiles.deposit import SQUARE, THICK, Deposit, find_deposit, thick_squares


def test_gaps_between_cells_belong_to_the_deposit_and_the_glass_around_does_not():
    """Cells every 0.5 mm on 3.6 mm: the gaps are filled, and nothing grows outwards."""
    mask = np.zeros((1000, 1000), bool)
    mask[200:701:63, 200:701:63] = True
    deposit = find_deposit(mask, None, 32.0, 0.25)
    assert deposit.side == SQUARE / 0.25
    side = (641 // 8 - 200 // 8 + 1) * SQUARE / 1000  # mm from the first cell to the last
    assert deposit.area_px0 * (0.25 / 1000) ** 2 == pytest.approx(side**2)
    assert deposit.thick_share is None


def test_a_deposit_at_the_edge_of_the_picture_stays_there():
    mask = np.zeros((100, 100), bool)
    mask[:, :8] = True
    deposit = find_deposit(mask, None, 32.0, 0.25)
    assert deposit.mask.sum() == 13
    assert deposit.mask[:, 0].all()


def test_the_diameter_runs_through_the_middle_along_the_longer_way():
    mask = np.zeros((20, 40), bool)
    mask[5:15, 10:31] = True
    assert Deposit(mask, None, 256.0).diameter() == ((2560, 2432 + 256), (7936, 2432 + 256))
    assert Deposit(mask.T, None, 256.0).diameter() == ((2688, 2560), (2688, 7936))
    assert Deposit(np.zeros((3, 3), bool), None, 256.0).diameter() is None


def test_what_lets_too_little_light_pass_is_thick():
    """Glass of 240; half of it darkened to just below and just above the limit."""
    image = np.full((64, 64, 3), 240, np.uint8)
    limit = 241 * 10**-THICK - 1
    image[:32] = int(limit)
    image[32:48] = int(limit) + 2
    assert thick_squares(image, 240.0, 8.0).mean(axis=1).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    red = image.copy()
    red[..., 0] = 240  # eosin's red lets red light pass: cells in it can be seen
    assert not thick_squares(red, 240.0, 8.0).any()


def test_the_share_is_of_the_deposit_alone():
    mask = np.zeros((10, 10), bool)
    mask[:5] = True
    thick = np.zeros((10, 10), bool)
    thick[4:] = True
    assert Deposit(mask, thick, 256.0).thick_share == pytest.approx(0.2)
