"""Writes annotation files as the tools write them, from one list of cells.

A cell is its class and its box: (name, x0, y0, x1, y1), in whole pixels.
"""

from __future__ import annotations

import gzip
import io
import json
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from PIL import Image

WIDTH, HEIGHT, MPP = 1200, 900, 0.25
CELLS = [
    ("HSIL", 100, 120, 180, 190),
    ("NILM", 300, 40, 382, 122),
    ("HSIL", 700, 600, 777, 690),
    ("ASC-US – fraglich", 1100, 810, 1200, 900),
]
NDPI = {
    "hamamatsu.XOffsetFromSlideCentre": "-4183750",
    "hamamatsu.YOffsetFromSlideCentre": "1267500",
    "openslide.mpp-x": "0.25",
    "openslide.mpp-y": "0.25",
}
"""What OpenSlide tells of a slide scanned by Hamamatsu."""


def write_blank(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), color="black") -> Path:
    """An image of one colour, for tests that need its size; each kind is encoded once."""
    path.write_bytes(_encoded(path.suffix, size, color))
    return path


@cache
def _encoded(suffix, size, color):
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, Image.registered_extensions()[suffix])
    return stream.getvalue()


def corners(cell):
    _, left, top, right, bottom = cell
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def write_coco(folder: Path, image: str, cells=CELLS) -> Path:
    names = sorted({cell[0] for cell in cells})
    content = {
        "info": {"description": "cells", "year": 2026},
        "licenses": [],
        "images": [{"id": 7, "file_name": image, "width": WIDTH, "height": HEIGHT, "mpp": MPP}],
        "categories": [{"id": 3 + i, "name": n, "supercategory": ""} for i, n in enumerate(names)],
        "annotations": [
            {
                "id": i,
                "image_id": 7,
                "category_id": 3 + names.index(name),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "segmentation": [],
                "iscrowd": 0,
            }
            for i, (name, x0, y0, x1, y1) in enumerate(cells, 1)
        ],
    }
    return write_json(folder / "instances.json", content)


def feature(name, coordinates, kind="Polygon", style="name"):
    classification = {"name": name, "color": [200, 0, 0]}
    if style == "names":
        classification = {"names": name.split(": "), "color": [200, 0, 0]}
    return {
        "type": "Feature",
        "id": "3c8a1c3c-8f4d-4f9b-9f0e-0c7a3f3f7a11",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"objectType": "annotation", "classification": classification},
    }


def closed(points):
    return [list(point) for point in [*points, points[0]]]


def write_geojson(folder: Path, image: str, cells=CELLS, style="name") -> Path:
    features = [feature(cell[0], [closed(corners(cell))], style=style) for cell in cells]
    content = {"type": "FeatureCollection", "features": features}
    return write_json(folder / f"{Path(image).stem}.geojson", content)


def write_geojson_gz(folder: Path, image: str, cells=CELLS) -> Path:
    plain = write_geojson(folder, image, cells, "names")
    path = folder / f"{image}.geojson.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return path


def write_asap(folder: Path, image: str, cells=CELLS) -> Path:
    rows, groups = [], sorted({cell[0] for cell in cells})
    for number, cell in enumerate(cells):
        places = "".join(
            f'\n\t\t\t\t<Coordinate Order="{i}" X="{x}.0" Y="{y}.0" />'
            for i, (x, y) in enumerate(corners(cell))
        )
        rows.append(
            f'\n\t\t<Annotation Name="Annotation {number}" Type="Polygon" '
            f'PartOfGroup={quoteattr(cell[0])} Color="#F4FA58">'
            f"\n\t\t\t<Coordinates>{places}\n\t\t\t</Coordinates>\n\t\t</Annotation>"
        )
    listed = "".join(
        f'\n\t\t<Group Name={quoteattr(g)} PartOfGroup="None" Color="#64FE2E"><Attributes/></Group>'
        for g in groups
    )
    text = (
        f'<?xml version="1.0"?>\n<ASAP_Annotations>\n\t<Annotations>{"".join(rows)}'
        f"\n\t</Annotations>\n\t<AnnotationGroups>{listed}\n\t</AnnotationGroups>\n"
        "</ASAP_Annotations>\n"
    )
    return write_text(folder / f"{Path(image).stem}.xml", text)


def write_imagescope(folder: Path, image: str, cells=CELLS) -> Path:
    layers = []
    for number, name in enumerate(sorted({cell[0] for cell in cells}), 1):
        regions = "".join(region(cell) for cell in cells if cell[0] == name)
        layers.append(
            f'<Annotation Id="{number}" Name={quoteattr(name)} ReadOnly="0" LineColor="65280" '
            f'Visible="1" Selected="0"><Attributes><Attribute Name="Description" Id="0" Value=""/>'
            f"</Attributes><Regions><RegionAttributeHeaders/>{regions}</Regions><Plots/>"
            "</Annotation>"
        )
    text = f'<Annotations MicronsPerPixel="{MPP}">{"".join(layers)}</Annotations>'
    return write_text(folder / f"{Path(image).stem}.xml", text)


def region(cell, type_="1", text="", negative="0", points=None):
    places = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points or corners(cell))
    return (
        f'<Region Id="1" Type="{type_}" Zoom="0.5" ImageLocation="" Length="80" Area="400" '
        f'Text={quoteattr(text)} NegativeROA="{negative}" Analyze="1" DisplayId="1">'
        f"<Attributes/><Vertices>{places}</Vertices></Region>"
    )


def nanometres(x, y):
    """By hand, for `NDPI`: 0.25 µm a pixel, the image's centre lies at px 600, 450."""
    return round((x - 600) * 250 - 4183750), round((y - 450) * 250 + 1267500)


def view(name, annotation, number=1):
    return (
        f'<ndpviewstate id="{number}"><title>{escape(name)}</title><details/>'
        "<coordformat>nanometers</coordformat><lens>20.0</lens><x>-100</x><y>99</y><z>0</z>"
        f"<showtitle>0</showtitle>{annotation}</ndpviewstate>"
    )


def freehand(points):
    places = "".join(
        "<point><x>{}</x><y>{}</y></point>".format(*nanometres(*point)) for point in points
    )
    return (
        '<annotation type="freehand" displayname="AnnotateRectangle" color="#000000">'
        f"<measuretype>0</measuretype><closed>1</closed><pointlist>{places}</pointlist>"
        "<specialtype>rectangle</specialtype></annotation>"
    )


def write_ndpa(folder: Path, image: str, cells=CELLS) -> Path:
    views = [view(cell[0], freehand(corners(cell)), i) for i, cell in enumerate(cells, 1)]
    text = f'<?xml version="1.0" encoding="utf-8"?><annotations>{"".join(views)}</annotations>'
    return write_text(folder / f"{image}.ndpa", text)


def shape(label, points, kind="rectangle"):
    return {
        "label": label,
        "points": [[float(x), float(y)] for x, y in points],
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


def write_labelme(folder: Path, image: str, cells=CELLS) -> Path:
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [shape(cell[0], corners(cell)[2::-2]) for cell in cells],  # from below right
        "imagePath": f"..\\images\\{image}",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    return write_json(folder / f"{Path(image).stem}.json", content)


def write_via(folder: Path, image: str, cells=CELLS) -> Path:
    regions = [
        {
            "shape_attributes": {
                "name": "rect",
                "x": x0,
                "y": y0,
                "width": x1 - x0,
                "height": y1 - y0,
            },
            "region_attributes": {"class": name},
        }
        for name, x0, y0, x1, y1 in cells
    ]
    record = {"filename": image, "size": -1, "regions": regions, "file_attributes": {}}
    return write_json(folder / "via_region_data.json", {f"{image}-1": record})


def write_cvat(folder: Path, image: str, cells=CELLS, more="") -> Path:
    boxes = "".join(
        f'<box label={quoteattr(name)} source="manual" occluded="0" xtl="{x0}.00" ytl="{y0}.00" '
        f'xbr="{x1}.00" ybr="{y1}.00" z_order="0"></box>'
        for name, x0, y0, x1, y1 in cells
    )
    labels = "".join(
        f"<label><name>{escape(name)}</name><color>#ff0000</color><attributes></attributes></label>"
        for name in sorted({cell[0] for cell in cells})
    )
    text = (
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
        f"<meta><task><id>1</id><labels>{labels}</labels></task></meta>"
        f'<image id="0" name={quoteattr(image)} width="{WIDTH}" height="{HEIGHT}">'
        f"{boxes}{more}</image></annotations>"
    )
    return write_text(folder / "annotations.xml", text)


def write_voc(folder: Path, image: str, cells=CELLS, difficult=0) -> Path:
    objects = "".join(
        f"<object><name>{escape(name)}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{difficult}</difficult><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in cells
    )
    text = (
        f"<annotation><folder>images</folder><filename>{escape(image)}</filename>"
        f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        f"<segmented>0</segmented>{objects}</annotation>"
    )
    return write_text(folder / f"{Path(image).stem}.xml", text)


def write_yolo(folder: Path, image: str, cells=CELLS) -> Path:
    names = sorted({cell[0] for cell in cells})
    write_text(folder / "classes.txt", "\n".join(names) + "\n")
    lines = [
        f"{names.index(name)} {(x0 + x1) / 2 / WIDTH:.8f} {(y0 + y1) / 2 / HEIGHT:.8f} "
        f"{(x1 - x0) / WIDTH:.8f} {(y1 - y0) / HEIGHT:.8f}"
        for name, x0, y0, x1, y1 in cells
    ]
    return write_text(folder / f"{Path(image).stem}.txt", "\n".join(lines) + "\n")


def write_csv(folder: Path, image: str, cells=CELLS) -> Path:
    lines = ["Image;Class;X_min;Y_min;X_max;Y_max"]
    lines += [f'"{image}";"{n}";{x0};{y0};{x1};{y1}' for n, x0, y0, x1, y1 in cells]
    return write_text(folder / "cells.csv", "\ufeff" + "\r\n".join(lines) + "\r\n")


def cric_image(name, cells):
    return {
        "image_id": 1,
        "image_doi": "10.6084/m9.figshare.12230006",
        "image_name": name,
        "classifications": [
            {"cell_id": i, "bethesda_system": label, "nucleus_x": x, "nucleus_y": y}
            for i, (label, x, y) in enumerate(cells)
        ],
    }


def write_json(path: Path, content) -> Path:
    return write_text(path, json.dumps(content, ensure_ascii=False))


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


WRITERS = {
    "coco": write_coco,
    "geojson": write_geojson,
    "geojson.gz": write_geojson_gz,
    "asap": write_asap,
    "imagescope": write_imagescope,
    "ndpa": write_ndpa,
    "labelme": write_labelme,
    "via": write_via,
    "cvat": write_cvat,
    "voc": write_voc,
    "csv": write_csv,
    "yolo": write_yolo,
}
"""By format: writes cells of an image into a folder, and returns the file."""
