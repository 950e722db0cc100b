"""Captures that show the same place: neighbours, crops, copies in other colours or at other scales.

No comparison of files sees them, and a split that tears them apart judges by what was learned.
Local features (ORB: Rublee et al., ICCV 2011) are matched between all pairs of images, by Lowe's
ratio (IJCV 2004) and one to one; a shift with rotation and scale is fitted to the matches (RANSAC);
and where enough of them agree, the pixels have to. What all pictures of a microscope share, such as
a scale bar or dirt on the camera, agrees too, but not the cells around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages, ImageError, Opener, no_slides
from data.fields.splits import same_contents

SHOWN = 5
"""Images or pairs that are named."""

Gray: TypeAlias = NDArray[np.uint8]
"""(H, W)."""

SIDE = 640
"""Longest side, in px, at which the largest image of a set is compared. The others are shrunk as
much as it, for crops to keep its scale, but to no less than half of this."""

FEATURES = 700
"""Local features of an image, at most."""

RATIO = 0.75
"""Lowe's: distance of the nearest over that of the second nearest."""

SHIFT = 6.0
"""Pixels by which a match may miss the fit."""

AGREEING = 8
"""Matches that have to agree in one fit; the pixels have to agree as well."""

LARGEST_SCALE = 4.0

ALIKE = 0.7
"""Correlation of the pixels where one image lies on the other."""

FEWEST_PIXELS = 6000
"""Of the smaller image, below which a correlation says nothing."""


@dataclass(frozen=True)
class Overlap:
    """Two images of a set that show one place.

    Attributes:
        one, other: indices of their fields.
        agreeing: matches of local features that agree; 0 for files of the same content.
        alike: correlation of their pixels where they overlap.
        mirrored: whether one has to be turned over.
    """

    one: int
    other: int
    agreeing: int
    alike: float
    mirrored: bool = False


@dataclass(frozen=True)
class Compared:
    """What a comparison gave.

    Attributes:
        overlaps: pairs that show one place.
        bare: indices of fields that are slides, show too little to be compared, or can't be read.
    """

    overlaps: tuple[Overlap, ...]
    bare: tuple[int, ...]


@dataclass(frozen=True)
class _Look:
    """An image, small and grey, and its features: (N, 2) places, (N, 32) descriptors."""

    pixels: Gray
    places: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


def find_overlaps(
    fields: FieldSet,
    opener: Opener = no_slides,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Compared:
    """Compares all plain images of a set with one another; of slides only their files.

    Args:
        fields: of which no two have the same image.
        opener: of slides.
        track: goes through the images that are compared, and may show how far it is.
    """
    images = FieldImages(fields.fields, opener)
    longest = max((max(one.width, one.height) for one in fields.fields), default=SIDE)
    looks: dict[int, tuple[_Look, _Look]] = {}
    bare: list[int] = []
    for index in range(len(fields.fields)):
        try:
            if images.is_slide(index):
                bare.append(index)
                continue
            pixels = _small(images, index, fields.fields[index], longest / SIDE)
        except ImageError:  # whoever needs its pixels tells so
            bare.append(index)
            continue
        both = _look(pixels), _look(np.ascontiguousarray(pixels[:, ::-1]))
        if min(len(one.places) for one in both) < AGREEING:
            bare.append(index)
        else:
            looks[index] = both
    found = [Overlap(one, other, 0, 1.0) for one, other in same_contents(fields)]
    known = {(pair.one, pair.other) for pair in found}
    for one in track(list(looks)):
        for other in (i for i in looks if i > one and (one, i) not in known):
            found += _compare(one, other, looks[one][0], looks[other])
    return Compared(tuple(found), tuple(bare))


def overlap_doubts(fields: FieldSet, compared: Compared) -> Iterator[Doubt]:
    """What a comparison gave, for people; at most one doubt of a kind."""

    def name(index: int) -> str:
        return fields.fields[index].image.name

    if pairs := compared.overlaps:
        shown = ", ".join(f"{name(one.one)} and {name(one.other)}" for one in pairs[:SHOWN])
        shown += ", …" if len(pairs) > SHOWN else ""
        count = len({index for pair in pairs for index in (pair.one, pair.other)})
        text = f"{count} images show the same place as others: {shown}; they stay together"
        yield Doubt(code="fields-overlap", text=text)
    if alone := compared.bare:
        shown = ", ".join(map(name, alone[:SHOWN])) + (", …" if len(alone) > SHOWN else "")
        text = f"{len(alone)} images can't be compared with others, but for their files: {shown}"
        yield Doubt(code="fields-not-compared", text=text)


def _small(images: FieldImages, index: int, field: Field, common: float) -> Gray:
    shrink = min(common, max(field.width, field.height) / (SIDE / 2))
    size = (max(1, round(field.width / shrink)), max(1, round(field.height / shrink)))
    pixels = images.whole(index, size)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _look(pixels: Gray) -> _Look:
    # Spread over the image, or a dark clump takes all of them; local contrast makes stains alike.
    even = cv2.createCLAHE(2.0, (8, 8)).apply(pixels)
    orb = cv2.ORB.create(FEATURES, fastThreshold=10)
    points, descriptors = orb.detectAndCompute(even, None)
    if descriptors is None:
        return _Look(pixels, np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8))
    places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    return _Look(pixels, places, np.asarray(descriptors, np.uint8))


def _compare(one: int, other: int, look: _Look, both: tuple[_Look, _Look]) -> Iterator[Overlap]:
    """The overlap of two images, as they are or one turned over; at most one."""
    for mirrored, against in enumerate(both):
        rows, columns = _matches(look.descriptors, against.descriptors)
        if len(rows) < AGREEING:
            continue
        fit = _fit(look.places[rows], against.places[columns])
        if fit is None:
            continue
        matrix, agreeing = fit
        alike = _correlation(look.pixels, against.pixels, matrix)
        if alike >= ALIKE:
            yield Overlap(one, other, agreeing, alike, bool(mirrored))
            return


def _matches(
    one: NDArray[np.uint8], other: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which descriptors belong together, by Lowe's ratio; each of the other ones once."""
    distances, nearest = cv2.batchDistance(one, other, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=2)
    rows = np.flatnonzero(distances[:, 0] < RATIO * distances[:, 1])
    order = rows[np.argsort(distances[rows, 0], kind="stable")]
    columns, first = np.unique(nearest[order, 0], return_index=True)
    return order[first], columns


def _fit(
    places: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[NDArray[np.float64], int] | None:
    """(2, 3) shift, rotation and scale that most matches agree on, and how many do."""
    cv2.setRNGSeed(0)
    matrix, inside = cv2.estimateAffinePartial2D(
        places, others, method=cv2.RANSAC, ransacReprojThreshold=SHIFT
    )
    if matrix is None:
        return None
    scale, agreeing = float(np.hypot(*matrix[:, 0])), int(inside.sum())
    if agreeing < AGREEING or not 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE:
        return None
    return np.asarray(matrix, np.float64), agreeing


def _correlation(one: Gray, other: Gray, matrix: NDArray[np.float64]) -> float:
    """How alike two images are where one, moved, lies on the other; 0 where that is hardly any."""
    height, width = other.shape
    moved = cv2.warpAffine(one, matrix, (width, height), flags=cv2.INTER_AREA)
    covered = cv2.warpAffine(np.full_like(one, 255), matrix, (width, height)) == 255
    if covered.sum() < FEWEST_PIXELS:
        return 0.0
    # A fit is good to some pixels; edges that miss one another must not count.
    values = np.stack([cv2.GaussianBlur(image, (0, 0), 3)[covered] for image in (moved, other)])
    if (values.std(axis=1) == 0).any():
        return 0.0
    return float(np.corrcoef(values)[0, 1])
