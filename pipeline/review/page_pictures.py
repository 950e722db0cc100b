"""Pictures that ``report.html`` holds: what can be shown of a slide that is gone."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from pipeline.reports.pictures import CROP_UM
from pipeline.review.guard import read_inside

MOST_PAGE_BYTES = 256 << 20

_OVERVIEW = re.compile(
    rb'<image href="data:image/jpeg;base64,([A-Za-z0-9+/=]+)" width="(\d+)" height="(\d+)"'
)
_CELL = re.compile(
    rb'id="cell-(\d+)"[^>]*>\s*<div class="picture"><img src="data:image/jpeg;base64,'
    rb'([A-Za-z0-9+/=]+)"'
)


@dataclass(frozen=True)
class PagePictures:
    """JPEG bytes of the report's page: the whole slide, and close-ups by number of the cell."""

    overview: bytes | None = None
    crops: dict[int, bytes] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory of it."""
        return len(self.overview or b"") + sum(map(len, self.crops.values())) + 1000


def read_pictures(root: Path, folder: Path) -> PagePictures:
    """Pictures of a result's page; none of a page that is not there or not as we write it."""
    page = read_inside(root, folder / "report.html", MOST_PAGE_BYTES)
    if page is None:
        return PagePictures()
    found = _OVERVIEW.search(page)
    overview = _decoded(found[1]) if found else None
    crops = {int(match[1]): _decoded(match[2]) for match in _CELL.finditer(page)}
    return PagePictures(overview, {n: jpeg for n, jpeg in crops.items() if jpeg is not None})


def close_up(
    jpeg: bytes, box: tuple[float, float, float, float], mpp: float, um: float, pixels: int
) -> bytes | None:
    """A close-up of the report at another scale.

    Args:
        jpeg: the report's picture: a square around the cell.
        box: of the cell, level-0 px, by which the square's side is known.
        mpp: µm per level-0 px.
        um: side of the wanted picture; what lies beyond the report's is grey.
        pixels: likewise, in pixels.

    Returns:
        JPEG; None where the picture can't be read.
    """
    side_um = max(CROP_UM, 1.5 * (box[2] - box[0]) * mpp, 1.5 * (box[3] - box[1]) * mpp)
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.load()
            wanted = round(pixels * side_um / um)
            shown = image.convert("RGB").resize((wanted, wanted), Image.Resampling.BILINEAR)
    except (OSError, ValueError):
        return None
    canvas = Image.new("RGB", (pixels, pixels), (200, 200, 200))
    canvas.paste(shown, ((pixels - wanted) // 2, (pixels - wanted) // 2))
    stream = io.BytesIO()
    canvas.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _decoded(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
