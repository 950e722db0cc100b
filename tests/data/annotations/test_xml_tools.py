"""ImageScope, ASAP and NDP.view: holes, scales, open outlines, what encloses nothing."""

import numpy as np
import pytest
from annotationfiles import (
    HEIGHT,
    NDPI,
    WIDTH,
    corners,
    nanometres,
    region,
    view,
    write_blank,
    write_text,
)

from configs import ConfigError
from data.annotations import AnnotationSettings, ImageInfo, read_fields

NAME = "a.png"
CELL = ("HSIL", 100, 120, 180, 190)
INFO = ImageInfo(WIDTH, HEIGHT, 0.25, NDPI)


@pytest.fixture
def folder(tmp_path):
    write_blank(tmp_path / NAME)
    return tmp_path


def codes(found):
    return [doubt.code for doubt in found.doubts]


class TestImagescope:
    def read(self, folder, regions, name="HSIL", root="", info=INFO, suffix=".xml", **settings):
        layer = f'<Annotation Id="1" Name="{name}"><Regions>{regions}</Regions></Annotation>'
        path = write_text(folder / f"a{suffix}", f"<Annotations {root}>{layer}</Annotations>")
        settings = AnnotationSettings(**settings)
        return read_fields(path, [folder], None, settings, lambda _: info)

    @pytest.mark.parametrize(
        ("stated", "slide", "given", "used", "told"),
        [
            ("0.2521", 0.25, None, 0.25, []),
            ("0.5", 0.25, None, 0.25, ["annotation-mpp"]),
            ("1.000000", 0.25, None, 0.25, ["annotation-mpp"]),
            ("1.000000", None, None, None, ["annotation-mpp"]),
            ("1", None, 0.4, 0.4, ["annotation-mpp"]),
            ("0.5", None, None, 0.5, ["annotation-mpp-used"]),
            ("0,5", None, None, 0.5, ["annotation-mpp-used"]),
            ("90", 0.25, None, 0.25, ["annotation-mpp"]),
            ("0.5", None, 0.4, 0.5, ["annotation-mpp", "annotation-mpp-used"]),
            ("", 0.25, 0.5, 0.25, ["annotation-mpp"]),
            ("0", 0.25, None, 0.25, []),
        ],
    )
    def test_the_slides_scale_holds(self, folder, stated, slide, given, used, told):
        info = ImageInfo(WIDTH, HEIGHT, slide)
        root = f'MicronsPerPixel="{stated}"'
        found = self.read(folder, region(CELL), root=root, info=info, mpp=given)
        assert found.fields[0].mpp == used
        assert codes(found) == told

    @pytest.mark.parametrize("stated", ["many", "0.25 um", "1.234,5"])
    def test_a_scale_of_something_else_is_told(self, folder, stated):
        with pytest.raises(ConfigError, match=r"a\.xml: .*MicronsPerPixel: .* is no number"):
            self.read(folder, region(CELL), root=f'MicronsPerPixel="{stated}"')

    def test_a_negative_region_in_a_cell_is_its_hole(self, folder):
        inner = region(("", 120, 140, 140, 160), negative="1")
        field = self.read(folder, inner + region(CELL)).fields[0]
        assert field.boxes.tolist() == [[100, 120, 180, 190]]
        assert not field.crowd.any()

    def test_a_negative_region_in_a_region_takes_its_part_out(self, folder):
        inner = region(("", 200, 200, 300, 300), negative="1")
        whole = region(("", 0, 0, WIDTH, HEIGHT))
        layers = (
            f'<Annotation Name="Region"><Regions>{whole}{inner}</Regions></Annotation>'
            f'<Annotation Name="HSIL"><Regions>{region(CELL)}</Regions></Annotation>'
        )
        path = write_text(folder / "a.xml", f"<Annotations>{layers}</Annotations>")
        field = read_fields(path, [folder]).fields[0]
        assert field.boxes.tolist() == [[100, 120, 180, 190], [200, 200, 300, 300]]
        assert field.crowd.tolist() == [False, True]

    @pytest.mark.parametrize(
        ("kind", "hole"),
        [("1", "0"), ("1", "1"), ("1", "2"), ("Rectangle", "Ellipse"), ("2", "1"), ("0", "1")],
    )
    def test_a_negative_region_takes_its_part_out_whatever_both_are_drawn_as(
        self, folder, kind, hole
    ):
        """Rectangles and ellipses may be two corners of their box."""
        two = [(0, 0), (WIDTH, HEIGHT)]
        whole = region(("", 0, 0, WIDTH, HEIGHT), kind, points=None if kind == "0" else two)
        inner = region(None, hole, negative="1", points=[(300, 300), (200, 200)])
        field = self.read(folder, whole + inner, name="Region").fields[0]
        middle, corner = np.array([250, 250]), np.array([1, 1])
        inside = (field.boxes[:, :2] <= middle) & (middle <= field.boxes[:, 2:])
        assert inside.all(1).any()
        inside = (field.boxes[:, :2] <= corner) & (corner <= field.boxes[:, 2:])
        assert inside.all(1).any() == (kind == "2")
        assert field.crowd.all()

    @pytest.mark.parametrize("kind", ["1", "2", "rectangle", "ellipse"])
    def test_two_corners_are_the_box_of_a_cell(self, folder, kind):
        found = self.read(folder, region(None, kind, points=[(180, 120), (100, 190)]))
        assert found.fields[0].boxes.tolist() == [[100, 120, 180, 190]]

    def test_arrows_and_rulers_are_told_by_kind(self, folder):
        drawn = [region(None, type_=kind, points=[(0, 0), (90, 90)]) for kind in "3349"]
        found = self.read(folder, region(CELL) + "".join(drawn))
        assert found.class_counts() == [1]
        assert [doubt.text for doubt in found.doubts] == [
            "arrows are no cells, and are left out (2 in a.xml)",
            "rulers are no cells, and are left out (a.xml)",
            "regions of type 9 are no cells, and are left out (a.xml)",
        ]

    def test_a_text_among_regions_without_is_told(self, folder):
        found = self.read(folder, region(CELL) + region(("", 300, 300, 380, 380), text="look"))
        assert sorted(found.classes) == ["HSIL", "look"]
        assert codes(found) == ["text-as-class"]
        all_of_them = region(CELL, text="HSIL") + region(("", 300, 300, 380, 380), text="NILM")
        assert codes(self.read(folder, all_of_them, name="cells")) == []

    def test_a_layers_description_is_its_name_where_it_has_none(self, folder):
        layer = (
            '<Annotation Name=""><Attributes><Attribute Name="Description" Value="LSIL"/>'
            f"</Attributes><Regions>{region(CELL)}</Regions></Annotation>"
        )
        path = write_text(folder / "a.xml", f"<Annotations>{layer}</Annotations>")
        assert read_fields(path, [folder]).classes == ("LSIL",)

    def test_halos_own_ending(self, folder):
        found = self.read(folder, region(CELL), suffix=".annotations")
        assert found.fields[0].boxes.tolist() == [[100, 120, 180, 190]]

    def test_decimal_commas(self, folder):
        points = [("100,5", "120,25"), ("180,5", "120,25"), ("180,5", "190,5")]
        field = self.read(folder, region(None, type_="0", points=points)).fields[0]
        assert field.boxes.tolist() == [[100.5, 120.25, 180.5, 190.5]]

    @pytest.mark.parametrize("number", ["100px", "1,234", "", "nan"])
    def test_a_corner_that_is_no_number_is_told(self, folder, number):
        one = region(None, type_="0", points=[(number, "1"), ("2", "3"), ("4", "5")])
        with pytest.raises(ConfigError, match=r"a\.xml: not as imagescope has it: region 1: "):
            self.read(folder, one)


class TestAsap:
    def read(self, folder, *annotations):
        drawn = f"<Annotations>{''.join(annotations)}</Annotations>"
        path = write_text(folder / "a.xml", f"<ASAP_Annotations>{drawn}</ASAP_Annotations>")
        bounds = (300, 200, WIDTH, HEIGHT)
        info = ImageInfo(WIDTH, HEIGHT, 0.25, bounds=bounds)
        return read_fields(path, [folder], None, None, lambda _: info)

    def annotation(self, kind, points, group="HSIL"):
        places = "".join(
            f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(points)
        )
        return (
            f'<Annotation Name="A 7" Type="{kind}" PartOfGroup="{group}"><Coordinates>{places}'
            "</Coordinates></Annotation>"
        )

    def test_all_of_the_slide_is_the_frame(self, folder):
        found = self.read(folder, self.annotation("polygon", corners(("", 400, 300, 480, 390))))
        assert found.fields[0].boxes.tolist() == [[400, 300, 480, 390]]
        assert codes(found) == []

    def test_measurements_are_told(self, folder):
        cell = self.annotation("Rectangle", corners(("", 400, 300, 480, 390)))
        found = self.read(folder, cell, self.annotation("Measurement", [(0, 0), (9, 9)]))
        assert [doubt.text for doubt in found.doubts] == [
            "annotations of type measurement are no cells, and are left out (a.xml)"
        ]

    def test_commas_and_what_is_no_number(self, folder):
        cell = self.annotation("Polygon", [("400,5", "300,5"), ("480,5", "390,5"), (400, 390)])
        assert self.read(folder, cell).fields[0].boxes.tolist() == [[400, 300.5, 480.5, 390.5]]
        with pytest.raises(ConfigError, match="annotation A 7: 'x' is no number"):
            self.read(folder, self.annotation("Polygon", [("x", 1), (2, 3)]))


class TestNdpa:
    def read(self, folder, *views, info=INFO, **settings):
        text = f"<annotations>{''.join(views)}</annotations>"
        path = write_text(folder / "a.png.ndpa", text)
        return read_fields(path, [folder], None, AnnotationSettings(**settings), lambda _: info)

    def freehand(self, points, closed):
        places = "".join(
            "<point><x>{}</x><y>{}</y></point>".format(*nanometres(x, y)) for x, y in points
        )
        drawn = f'<annotation type="freehand"><closed>{closed}</closed><pointlist>{places}'
        return view("HSIL", f"{drawn}</pointlist></annotation>")

    def arc(self, degrees):
        """A part of a circle of 100 px about (400, 300)."""
        angles = np.radians(np.linspace(0, degrees, 60))
        return np.column_stack([400 + 100 * np.cos(angles), 300 + 100 * np.sin(angles)]).tolist()

    def test_an_open_outline_whose_ends_are_close_is_closed(self, folder):
        found = self.read(folder, self.freehand(self.arc(320), 0))
        assert found.fields[0].boxes.round().tolist() == [[300, 200, 500, 400]]
        assert codes(found) == ["outline-closed"]

    def test_an_open_line_is_none(self, folder):
        cell = self.freehand(corners(CELL), 1)
        found = self.read(folder, cell, self.freehand(self.arc(180), 0))
        assert found.fields[0].boxes.round(1).tolist() == [[100, 120, 180, 190]]
        assert [doubt.text for doubt in found.doubts] == [
            "open lines are no cells, and are left out (a.png.ndpa)"
        ]

    def test_rulers_arrows_and_bare_views_are_told(self, folder):
        drawn = [
            view("HSIL", f'<annotation type="{kind}"><x1>0</x1></annotation>')
            for kind in ("linearmeasure", "pointer", "star")
        ]
        found = self.read(folder, self.freehand(corners(CELL), 1), *drawn, view("HSIL", ""))
        assert [doubt.text.split(" are ")[0] for doubt in found.doubts] == [
            "rulers",
            "arrows",
            "drawings of type star",
            "bare views",
        ]

    @pytest.mark.parametrize(
        ("properties", "message"),
        [
            ({"hamamatsu.XOffsetFromSlideCentre": "far"}, "offset from its centre: 'far'"),
            ({"hamamatsu.XOffsetFromSlideCentre": "nan"}, "offset from its centre: 'nan'"),
        ],
    )
    def test_a_slide_that_misstates_its_place_is_told(self, folder, properties, message):
        info = ImageInfo(WIDTH, HEIGHT, 0.25, NDPI | properties)
        with pytest.raises(ConfigError, match=message):
            self.read(folder, self.freehand(corners(CELL), 1), info=info)

    @pytest.mark.parametrize("mpp", ["0", "nan", "x", "90"])
    def test_scales_of_the_axes_that_make_no_sense_are_not_taken(self, folder, mpp):
        info = ImageInfo(WIDTH, HEIGHT, 0.25, NDPI | {"openslide.mpp-x": mpp})
        found = self.read(folder, self.freehand(corners(CELL), 1), info=info)
        assert found.fields[0].boxes.round(1).tolist() == [[100, 120, 180, 190]]

    def test_another_unit_is_told(self, folder):
        wrong = view("HSIL", "").replace("nanometers", "pixels")
        with pytest.raises(ConfigError, match="coordformat is pixels, not nanometers"):
            self.read(folder, wrong)
