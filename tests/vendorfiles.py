"""Writes small slides as scanners write them, as far as OpenSlide and we look at them."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from slidefiles import MPP, cut, encode_tile, halved

TILE = 64


def encode_jpeg(image: NDArray[np.uint8], restart: int = 0) -> bytes:
    """A JPEG, with restart markers after so many blocks of 8 px."""
    out = io.BytesIO()
    keys = {"restart_marker_blocks": restart} if restart else {}
    Image.fromarray(image).save(out, "JPEG", quality=90, subsampling=0, **keys)
    return out.getvalue()


def parts_of(jpeg: bytes) -> list[int]:
    """Where the parts between restart markers begin."""
    scan = jpeg.index(b"\xff\xda")
    first = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
    marks = [at + 2 for at in range(first, len(jpeg) - 1) if _is_restart(jpeg, at)]
    return [first, *marks]


def _is_restart(jpeg: bytes, at: int) -> bool:
    return jpeg[at] == 0xFF and 0xD0 <= jpeg[at + 1] <= 0xD7


def write_ndpi(
    path: Path,
    planes: Mapping[int, NDArray[np.uint8]],
    *,
    restart: int | Mapping[int, int] = 0,
    lists: bool = False,
    make: bool = True,
    levels: int = 2,
) -> Path:
    """An NDPI: for each lens a page a plane, by its z in nm; ``lists`` says where restarts are."""
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            for z, image in planes.items():
                interval = restart[z] if isinstance(restart, dict) else restart
                jpeg = encode_jpeg(halved(image, 2 * level), 0 if level else interval)
                shape = halved(image, 2 * level).shape
                tags = _ndpi_tags(40 / 4**level, z)
                if make:
                    tags.append((271, 2, 10, "Hamamatsu", True))
                if lists and not level:
                    starts = parts_of(jpeg)
                    tags.append((65426, 4, len(starts), starts, True))
                write_ndpi_page(writer, jpeg, shape, 40 / 4**level, tags)
        macro = np.full((64, 128, 3), 200, np.uint8)
        write_ndpi_page(writer, encode_jpeg(macro), macro.shape, 1, _ndpi_tags(-1.0, 0))
    return path


def _ndpi_tags(lens, z):
    return [
        (65420, 4, 1, 1, True),
        (65421, 11, 1, float(lens), True),
        (65422, 9, 1, 0, True),
        (65423, 9, 1, 0, True),
        (65424, 9, 1, z, True),
    ]


def write_ndpi_page(writer, jpeg, shape, lens, tags):
    writer.write(
        iter([jpeg]),
        shape=shape,
        dtype=np.uint8,
        photometric="ycbcr",
        subsampling=(1, 1),
        compression="jpeg",
        rowsperstrip=shape[0],
        metadata=None,
        software=False,
        resolution=(1e4 / MPP * lens / 40,) * 2,
        resolutionunit="CENTIMETER",
        extratags=sorted(tags),
    )


def _attribute(name, kind, value):
    tags = 'Group="0x0028" Element="0x0030"'
    return f'<Attribute Name="{name}" {tags} PMSVR="{kind}">{value}</Attribute>'


def _objects(name, kind, *contents):
    objects = "".join(f'<DataObject ObjectType="{kind}">{part}</DataObject>' for part in contents)
    return _attribute(name, "IDataObjectArray", f"<Array>{objects}</Array>")


def _philips_description():
    levels = [
        _attribute("DICOM_PIXEL_SPACING", "IDoubleArray", f"&quot;{mm}&quot; &quot;{mm}&quot;")
        + _attribute("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", "IUInt16", level)
        for level, mm in enumerate((0.00025, 0.0005, 0.001))
    ]
    sequence = "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"
    image = _attribute("PIM_DP_IMAGE_TYPE", "IString", "WSI")
    image += _objects(sequence, "PixelDataRepresentation", *levels)
    scanned = _objects("PIM_DP_SCANNED_IMAGES", "DPScannedImage", image)
    return f'<?xml version="1.0"?><DataObject ObjectType="DPUfsImport">{scanned}</DataObject>'


def write_philips(
    path: Path, image: NDArray[np.uint8], missing: Mapping[int, Sequence[int]] | None = None
) -> Path:
    """Writes a slide as Philips exports it, as far as OpenSlide looks at it."""
    with tifffile.TiffWriter(path) as writer:
        for level in range(3):
            shown = halved(image, level)
            left_out = (missing or {}).get(level, ())
            tiles = [
                b"" if index in left_out else encode_tile(tile, "jpeg", "ycbcr", {})
                for index, tile in enumerate(cut(shown, 64))
            ]
            writer.write(
                iter(tiles),
                shape=shown.shape,
                dtype=np.uint8,
                tile=(64, 64),
                photometric="ycbcr",
                compression="jpeg",
                description=_philips_description() if level == 0 else f"level={level}",
                software="Philips DP v1.0",
                subfiletype=int(level > 0),
                metadata=None,
            )
    return path


def write_trestle(path: Path, image: NDArray[np.uint8]) -> Path:
    """A Trestle slide: a tiled pyramid whose description is fields behind each other."""
    with tifffile.TiffWriter(path) as writer:
        for level in range(3):
            writer.write(
                halved(image, level),
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95, "outcolorspace": "RGB"},
                description="Background Color=FFFFFF;White Balance=FFFFFF;Objective Power=40;"
                "JPEG Quality=95;OverlapsXY=0 0 0 0 0 0 ",
                software="MedScan 1.0",
                resolution=(MPP, MPP),  # µm per pixel, whatever TIFF says of it
                resolutionunit="NONE",
                metadata=None,
            )
    return path


def write_vms(path: Path, image: NDArray[np.uint8]) -> Path:
    """A Hamamatsu VMS slide: a file of keys, the pixels as JPEG with restarts, a map of them.

    The image is cut to whole parts between restarts.
    """
    image = image[: image.shape[0] // TILE * TILE, : image.shape[1] // TILE * TILE]
    height, width = image.shape[:2]
    path.with_suffix(".image.jpg").write_bytes(encode_jpeg(image, 8))
    path.with_suffix(".map.jpg").write_bytes(encode_jpeg(image[:TILE, :TILE], 8))
    path.write_text(
        "[Virtual Microscope Specimen]\n"
        "NoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\n"
        f"ImageFile={path.with_suffix('.image.jpg').name}\n"
        f"MapFile={path.with_suffix('.map.jpg').name}\n"
        f"PhysicalWidth={round(width * MPP * 1000)}\nPhysicalHeight={round(height * MPP * 1000)}\n"
        "XOffsetFromSlideCentre=0\nYOffsetFromSlideCentre=0\nSourceLens=40\n",
        encoding="ascii",
    )
    return path


def write_mirax(path: Path, image: NDArray[np.uint8], levels: int = 2) -> Path:
    """A MIRAX slide: a preview, and beside it a folder with keys, an index and the data.

    The image is cut to whole tiles.
    """
    rows, columns = image.shape[0] // TILE // 2 * 2, image.shape[1] // TILE // 2 * 2
    whole = image[: rows * TILE, : columns * TILE]
    path.write_bytes(encode_jpeg(halved(whole, 3)))
    folder = path.with_suffix("")
    folder.mkdir()
    name = "0123456789ABCDEF0123456789ABCDEF"
    data = bytearray(f"01.02{name}".encode() + bytes(256))
    pages: list[list[tuple[int, int, int, int]]] = []
    for level in range(levels):
        step = 1 << level
        pages.append([])
        for number, tile in enumerate(cut(halved(whole, level), TILE)):
            row, column = divmod(number, columns // step)
            jpeg = imagecodecs.jpeg8_encode(tile, level=95, colorspace="rgb", subsampling="444")
            pages[-1].append((row * step * columns + column * step, len(data), len(jpeg), 0))
            data += jpeg
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_mirax_index(name, pages))
    (folder / "Slidedat.ini").write_text(_mirax_keys(name, columns, rows, levels), "utf-8-sig")
    return path


def _mirax_index(name: str, pages: Sequence[Sequence[tuple[int, int, int, int]]]) -> bytes:
    """Where each level's tiles lie: two roots, a list of levels, and for each a page of places."""
    head = f"01.02{name}".encode()
    root = len(head) + 8
    lists = root + 4 * len(pages)
    first = lists + 8 * len(pages)
    table, heads, bodies, at = b"", b"", b"", first
    for number, page in enumerate(pages):
        table += struct.pack("<i", lists + 8 * number)
        heads += struct.pack("<2i", 0, at)
        # A page that holds nothing may come first; ours begins at once and is the last.
        bodies += struct.pack("<2i", len(page), 0)
        bodies += b"".join(struct.pack("<4i", *entry) for entry in page)
        at = first + len(bodies)
    return head + struct.pack("<2i", root, 0) + table + heads + bodies


def _mirax_keys(name: str, columns: int, rows: int, levels: int) -> str:
    lines = [
        "[GENERAL]",
        "SLIDE_VERSION=01.02",
        f"SLIDE_ID={name}",
        f"IMAGENUMBER_X={columns}",
        f"IMAGENUMBER_Y={rows}",
        "OBJECTIVE_MAGNIFICATION=40",
        "[HIERARCHICAL]",
        "HIER_COUNT=1",
        "NONHIER_COUNT=0",
        "INDEXFILE=Index.dat",
        "HIER_0_NAME=Slide zoom level",
        f"HIER_0_COUNT={levels}",
        *(f"HIER_0_VAL_{level}_SECTION=LEVEL_{level}" for level in range(levels)),
        "[DATAFILE]",
        "FILE_COUNT=1",
        "FILE_0=Data0000.dat",
    ]
    for level in range(levels):
        lines += [
            f"[LEVEL_{level}]",
            "OVERLAP_X=0",
            "OVERLAP_Y=0",
            f"MICROMETER_PER_PIXEL_X={MPP * 2**level}",
            f"MICROMETER_PER_PIXEL_Y={MPP * 2**level}",
            "IMAGE_FILL_COLOR_BGR=16777215",
            f"DIGITIZER_WIDTH={TILE}",
            f"DIGITIZER_HEIGHT={TILE}",
            f"IMAGE_CONCAT_FACTOR={int(level > 0)}",
            "IMAGE_FORMAT=JPEG",
        ]
    return "\r\n".join(lines) + "\r\n"
