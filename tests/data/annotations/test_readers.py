"""What is particular to each format."""

import json

import numpy as np
import pytest
from annotationfiles import (
    HEIGHT,
    NDPI,
    WIDTH,
    closed,
    corners,
    cric_image,
    feature,
    freehand,
    nanometres,
    region,
    shape,
    view,
    write_blank,
    write_cvat,
    write_json,
    write_labelme,
    write_text,
    write_voc,
    write_yolo,
)

from configs import ConfigError
from data.annotations import AnnotationSettings, ImageInfo, cric, read_fields

NAME = "a.png"
CELL = ("HSIL", 100, 120, 180, 190)


@pytest.fixture
def folder(tmp_path):
    write_blank(tmp_path / NAME)
    return tmp_path


def info_of(path):
    return ImageInfo(WIDTH, HEIGHT, 0.25, NDPI)


def read(path, folder, classes=None, **settings):
    return read_fields(path, [folder], classes, AnnotationSettings(**settings), info_of)


def boxes(path, folder, **settings):
    return read(path, folder, **settings).fields[0].boxes.round(2).tolist()


def write_features(folder, *features):
    return write_json(folder / "a.geojson", {"type": "FeatureCollection", "features": features})


class TestGeojson:
    def test_a_list_of_features_and_a_single_one_are_read_too(self, folder):
        one = feature("HSIL", [closed(corners(CELL))])
        for content in ([one], one):
            path = write_json(folder / "a.geojson", content)
            assert boxes(path, folder) == [[100, 120, 180, 190]]

    def test_derived_classes_are_called_as_qupath_shows_them(self, folder):
        one = feature("HSIL: Positive", [closed(corners(CELL))], style="names")
        path = write_features(folder, one)
        assert read(path, folder).classes == ("HSIL: Positive",)

    def test_points_are_squares_of_the_size_that_is_asked_for(self, folder):
        path = write_features(folder, feature("HSIL", [[50, 60], [400.5, 300]], "MultiPoint"))
        assert boxes(path, folder, point_size=20) == [[10, 20, 90, 100], [360.5, 260, 440.5, 340]]
        with pytest.raises(ConfigError, match="point_size"):
            read(path, folder)

    def test_parts_of_one_object_are_one_box(self, folder):
        parts = [[closed(corners(CELL))], [closed(corners(("", 300, 10, 320, 40)))]]
        path = write_features(folder, feature("HSIL", parts, "MultiPolygon"))
        assert boxes(path, folder) == [[100, 10, 320, 190]]

    def test_lines_are_left_out_and_told(self, folder):
        line = feature("HSIL", [[0, 0], [90, 90]], "LineString")
        found = read(write_features(folder, line, feature("HSIL", [corners(CELL)])), folder)
        assert found.class_counts() == [1]
        assert [doubt.code for doubt in found.doubts] == ["shapes-left-out"]
        assert found.doubts[0].text == "lines are no cells, and are left out (a.geojson)"

    def test_shapes_without_a_class_need_one(self, folder):
        one = feature("HSIL", [closed(corners(CELL))])
        del one["properties"]["classification"]
        path = write_features(folder, one)
        with pytest.raises(ConfigError, match=r"unclassified \(1\) have no class"):
            read(path, folder)
        renamed = read_fields(
            path, [folder], None, AnnotationSettings(classes={"unclassified": "HSIL"}), info_of
        )
        assert renamed.class_counts() == [1]

    def test_outside_of_a_region_and_in_its_hole_nothing_is_background(self, folder):
        whole, hole = ("", 100, 100, 1000, 800), ("", 400, 400, 600, 500)
        roi = feature("Region*", [closed(corners(whole)), closed(corners(hole))])
        found = read(write_features(folder, roi, feature("HSIL", [corners(CELL)])), folder)
        (field,) = found.fields
        assert found.class_counts() == [1]
        assert field.crowd.tolist() == [False] + [True] * 5
        ignored = np.zeros((HEIGHT, WIDTH), bool)
        for left, top, right, bottom in field.boxes[field.crowd].astype(int).tolist():
            ignored[top:bottom, left:right] = True
        expected = np.ones((HEIGHT, WIDTH), bool)
        expected[100:800, 100:1000] = False
        expected[400:500, 400:600] = True
        np.testing.assert_array_equal(ignored, expected)


class TestNdpa:
    def test_the_images_centre_lies_off_the_slides_by_the_offset(self, folder):
        """px = (nm - offset) / (1000 mpp) + size / 2, by hand."""
        nm = (-4183750, 1267500)
        assert nanometres(600, 450) == nm
        pin = "<annotation type='pin'><x>{}</x><y>{}</y></annotation>".format(*nm)
        path = write_text(folder / "a.png.ndpa", f"<annotations>{view('HSIL', pin)}</annotations>")
        field = read(path, folder, point_size=25).fields[0]
        assert field.nuclei.tolist() == [[600, 450]]
        assert field.boxes.tolist() == [[550, 400, 650, 500]]

    def test_axes_have_scales_of_their_own(self, folder):
        def stretched(path):
            return ImageInfo(WIDTH, HEIGHT, 0.25, NDPI | {"openslide.mpp-x": "0.5"})

        text = f"<annotations>{view('HSIL', freehand(corners(CELL)))}</annotations>"
        path = write_text(folder / "a.png.ndpa", text)
        (box,) = read_fields(path, [folder], None, None, stretched).fields[0].boxes.tolist()
        assert box == pytest.approx([600 - 500 / 2, 120, 600 - 420 / 2, 190], abs=0.01)

    def test_circles_are_boxes_and_rulers_are_left_out(self, folder):
        x, y = nanometres(300, 200)
        circle = (
            f"<annotation type='circle'><x>{x}</x><y>{y}</y><radius>10000</radius></annotation>"
        )
        ruler = "<annotation type='linearmeasure'><x1>0</x1><y1>0</y1></annotation>"
        views = view("HSIL", circle) + view("HSIL", ruler)
        path = write_text(folder / "a.png.ndpa", f"<annotations>{views}</annotations>")
        assert boxes(path, folder) == [[260, 160, 340, 240]]

    def test_an_image_that_hides_its_place_is_told(self, folder):
        text = f"<annotations>{view('HSIL', freehand(corners(CELL)))}</annotations>"
        path = write_text(folder / "a.png.ndpa", text)
        with pytest.raises(ConfigError, match=r"has no hamamatsu.XOffsetFromSlideCentre"):
            read_fields(path, [folder])


class TestImagescope:
    def read(self, folder, regions, **settings):
        layer = f'<Annotation Id="1" Name="layer"><Regions>{regions}</Regions></Annotation>'
        path = write_text(folder / "a.xml", f"<Annotations>{layer}</Annotations>")
        return read(path, folder, **settings)

    def test_a_regions_text_goes_before_its_layers_name(self, folder):
        assert self.read(folder, region(CELL, text="HSIL")).classes == ("HSIL",)
        assert self.read(folder, region(CELL)).classes == ("layer",)

    def test_an_ellipse_is_the_box_of_its_two_vertices(self, folder):
        one = region(None, type_="2", points=[(180, 190), (100, 120)])
        assert self.read(folder, one).fields[0].boxes.tolist() == [[100, 120, 180, 190]]

    def test_what_is_cut_out_of_the_analysis_is_ignored_and_arrows_are_left_out(self, folder):
        away = region(("", 0, 0, 50, 60), negative="1")
        arrow = region(None, type_="3", points=[(0, 0), (100, 100)])
        field = self.read(folder, region(CELL) + away + arrow).fields[0]
        assert field.boxes.tolist() == [[100, 120, 180, 190], [0, 0, 50, 60]]
        assert field.crowd.tolist() == [False, True]

    def test_halos_dialect(self, folder):
        one = '<Region Type="Polygon" NegativeROA="0"><Vertices>{}</Vertices></Region>'.format(
            "".join(f'<V X="{x}" Y="{y}" />' for x, y in corners(CELL))
        )
        assert self.read(folder, one).fields[0].boxes.tolist() == [[100, 120, 180, 190]]


class TestAsap:
    def test_dots_and_groups(self, folder):
        dot = (
            '<Annotation Name="A" Type="Dot" PartOfGroup="None"><Coordinates>'
            '<Coordinate Order="0" X="50" Y="60"/></Coordinates></Annotation>'
        )
        text = f"<ASAP_Annotations><Annotations>{dot}</Annotations></ASAP_Annotations>"
        path = write_text(folder / "a.xml", text)
        assert boxes(path, folder, point_size=10, classes={"unclassified": "HSIL"}) == [
            [30, 40, 70, 80]
        ]

    def test_corners_are_taken_in_their_order(self, folder):
        """Which only shows in a region: its outline must not cross itself."""
        roi = '<Annotation Name="A" Type="Polygon" PartOfGroup="region"><Coordinates>{}' + (
            "</Coordinates></Annotation>"
        )
        shuffled = [(2, 1200, 900), (0, 0, 0), (3, 0, 900), (1, 1200, 0)]
        places = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, x, y in shuffled)
        text = roi.format(places)
        path = write_text(
            folder / "a.xml",
            f"<ASAP_Annotations><Annotations>{text}</Annotations></ASAP_Annotations>",
        )
        assert read(path, folder).fields[0].boxes.shape == (0, 4)


class TestLabelme:
    def test_circles_points_and_outlines(self, folder):
        path = write_labelme(folder, NAME)
        content = json.loads(path.read_text())
        content["shapes"] = [
            shape("HSIL", [(300, 200), (300, 240)], "circle"),
            shape("HSIL", [(10, 20), (40, 90), (70, 30)], "polygon"),
            shape("HSIL", [(500, 500)], "point"),
            shape("HSIL", [(0, 0), (9, 9)], "line"),
        ]
        write_json(path, content)
        assert boxes(path, folder, point_size=10) == [
            [260, 160, 340, 240],
            [10, 20, 70, 90],
            [480, 480, 520, 520],
        ]

    def test_an_image_of_another_size_is_told(self, folder):
        write_blank(folder / NAME, (600, 450))
        path = write_labelme(folder, NAME)
        with pytest.raises(ConfigError, match="is 600x450 px, but was annotated as 1200x900"):
            read_fields(path, [folder])


class TestCvat:
    def test_shapes_become_boxes(self, folder):
        more = (
            '<ellipse label="HSIL" cx="300" cy="200" rx="40" ry="20"></ellipse>'
            '<polygon label="HSIL" points="10.5,20;40,90;70,30"></polygon>'
            '<mask label="HSIL" rle="3,4" left="5" top="6" width="30" height="20"></mask>'
            '<polyline label="HSIL" points="1,2;3,4"></polyline>'
            '<tag label="blurred"></tag>'
        )
        found = read(write_cvat(folder, NAME, [], more), folder)
        assert found.fields[0].boxes.round(1).tolist() == [
            [260, 180, 340, 220],
            [10.5, 20, 70, 90],
            [5, 6, 35, 26],
        ]
        told = [str(doubt) for doubt in found.doubts]
        assert told == [
            "masks whose runs don't fill their frame are taken as all of it (annotations.xml) "
            "[mask-frame]",
            "polylines are no cells, and are left out (annotations.xml) [shapes-left-out]",
            "tags of whole images are no cells, and are left out (annotations.xml) "
            "[shapes-left-out]",
        ]

    @pytest.mark.parametrize("degrees", [0, 30, 90, 201.5])
    def test_turned_shapes_are_the_boxes_around_them(self, folder, degrees):
        """Against the formulas of the bounding box of a turned ellipse and rectangle."""
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        more = (
            f'<ellipse label="HSIL" cx="300" cy="200" rx="40" ry="20" rotation="{degrees}"/>'
            f'<box label="HSIL" xtl="560" ytl="380" xbr="640" ybr="420" rotation="{degrees}"/>'
        )
        oval, rectangle = np.array(boxes(write_cvat(folder, NAME, [], more), folder))
        half = np.hypot([40 * cos, 40 * sin], [20 * sin, 20 * cos])
        np.testing.assert_allclose(oval, [300, 200] * 2 + np.concatenate([-half, half]), atol=0.4)
        half = np.abs([40 * cos, 40 * sin]) + np.abs([20 * sin, 20 * cos])
        np.testing.assert_allclose(
            rectangle, [600, 400] * 2 + np.concatenate([-half, half]), atol=0.02
        )

    def test_labels_that_were_not_used_are_classes_too(self, folder):
        path = write_cvat(folder, NAME)
        path.write_text(
            path.read_text().replace("<labels>", "<labels><label><name>SCC</name></label>")
        )
        assert read(path, folder).classes[0] == "SCC"

    def test_videos_are_told(self, folder):
        text = '<annotations><meta/><track id="0" label="HSIL"></track></annotations>'
        with pytest.raises(ConfigError, match="export as 'CVAT for images'"):
            read(write_text(folder / "a.xml", text), folder)


class TestVoc:
    def test_the_first_pixel_is_one_and_the_last_belongs_to_the_box(self, folder):
        path = write_voc(folder, NAME, [("HSIL", 0, 0, WIDTH, HEIGHT)])
        assert "<xmin>1</xmin>" in path.read_text()
        assert boxes(path, folder) == [[0, 0, WIDTH, HEIGHT]]

    def test_difficult_objects_are_ignored(self, folder):
        field = read(write_voc(folder, NAME, [CELL], difficult=1), folder).fields[0]
        assert field.crowd.tolist() == [True]

    def test_a_size_of_zero_is_an_unknown_one(self, folder):
        path = write_voc(folder, NAME, [CELL])
        text = path.read_text().replace(f"<width>{WIDTH}", "<width>0")
        assert boxes(write_text(path, text), folder) == [[100, 120, 180, 190]]


class TestYolo:
    def test_names_come_from_ultralytics_yaml_above(self, folder):
        path = write_yolo(folder / "labels" / "train", NAME, [CELL])
        (path.parent / "classes.txt").unlink()
        for names in ("{0: HSIL, 1: SCC}", "[HSIL, SCC]"):
            write_text(folder / "data.yaml", f"path: .\ntrain: images/train\nnames: {names}\n")
            assert read(path, folder).classes == ("HSIL", "SCC")

    def test_outlines_and_confidences(self, folder):
        text = "0 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3\n1 0.5 0.5 0.1 0.2 0.87\n"
        path = write_text(folder / "a.txt", text)
        assert boxes(path, folder) == [[120, 90, 240, 270], [540, 360, 660, 540]]
        assert read(path, folder).classes == ("0", "1")

    @pytest.mark.parametrize(
        ("text", "message"),
        [("7 0.1 0.1 0.2 0.1", "class 7 has no name"), ("0 100 120 80 90", "not shares")],
    )
    def test_faults_are_told(self, folder, text, message):
        write_yolo(folder, NAME)
        with pytest.raises(ConfigError, match=message):
            read(write_text(folder / "a.txt", text), folder)

    def test_an_empty_file_is_a_field_without_cells(self, folder):
        labels = folder / "labels"
        write_yolo(labels, NAME, [CELL])
        write_text(labels / "b.txt", "")
        write_blank(folder / "b.png")
        found = read(labels, folder)
        assert [len(field.boxes) for field in found.fields] == [1, 0]


class TestCsv:
    @pytest.mark.parametrize(
        "text",
        [
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,1200,900,HSIL,100,120,180,190",
            "label\timage_name\tx\ty\tw\th\nHSIL\ta.png\t100\t120\t80\t70",
            "x1,y1,x2,y2,name,score\n100.0,120.0,180.0,190.0,HSIL,0.9",
        ],
    )
    def test_columns_are_known_by_several_names(self, folder, text):
        found = read(write_text(folder / "a.csv", text), folder)
        assert found.fields[0].boxes.tolist() == [[100, 120, 180, 190]]
        assert found.classes == ("HSIL",)

    def test_points(self, folder):
        path = write_text(folder / "cells.csv", "image;class;x;y\na.png;HSIL;50.5;60\n")
        assert boxes(path, folder, point_size=20.5) == [[9.5, 19, 91.5, 101]]

    def test_images_are_told_apart(self, folder):
        write_blank(folder / "b.png")
        rows = "b.png,HSIL,1,2,30,40\na.png,HSIL,5,6,70,80\nb.png,HSIL,100,2,130,40"
        path = write_text(folder / "cells.csv", f"image,class,xmin,ymin,xmax,ymax\n{rows}")
        found = {field.image.name: len(field.boxes) for field in read(path, folder).fields}
        assert found == {"a.png": 1, "b.png": 2}


class TestCoco:
    def write(self, folder, **annotation):
        record = {"id": 1, "file_name": NAME, "width": WIDTH, "height": HEIGHT}
        base = {"id": 1, "image_id": 1, "category_id": 1}
        content = {
            "images": [record],
            "categories": [{"id": 1, "name": "HSIL"}],
            "annotations": [base | annotation],
        }
        return write_json(folder / "c.json", content)

    def test_an_outline_without_a_box_has_one(self, folder):
        path = self.write(folder, segmentation=[[10, 20, 40, 90, 70, 30], [1, 50, 5, 50, 5, 60]])
        assert boxes(path, folder) == [[1, 20, 70, 90]]

    @pytest.mark.parametrize("flag", [{"iscrowd": 1}, {"ignore": 1}])
    def test_crowds_are_ignored(self, folder, flag):
        field = read(self.write(folder, bbox=[1, 2, 30, 40], **flag), folder).fields[0]
        assert field.crowd.tolist() == [True]

    @pytest.mark.parametrize("box", [[1, 2, float("nan"), 4], [1, 2, 3], "1234", None])
    def test_a_box_of_something_else_is_told(self, folder, box):
        with pytest.raises(ConfigError, match=r"c\.json: not as coco has it"):
            read(self.write(folder, bbox=box), folder)


class TestCric:
    def test_marks_are_squares_in_the_frame_of_the_image(self, tmp_path):
        write_blank(tmp_path / "f0a1.png", (688, 510))
        cells = [("Negative for intraepithelial lesion", 400, 300), ("HSIL", 1370, 1015)]
        path = write_json(tmp_path / "classifications.json", [cric_image("f0a1.png", cells)])
        found = read_fields(path, [tmp_path])
        (field,) = found.fields
        assert found.classes == ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
        assert found.class_counts() == [1, 0, 0, 0, 1, 0]
        assert field.mpp == pytest.approx(0.456)
        half = 20.5 / 0.456 / 2
        expected = [200 - half, 150 - half, 200 + half, 150 + half]
        assert field.boxes[0].tolist() == pytest.approx(expected, abs=1e-4)
        assert field.boxes[1, 2:].tolist() == [688, 510]
        assert field.nuclei[0].tolist() == [200, 150]

    def test_an_unknown_grade_is_told(self, tmp_path):
        write_blank(tmp_path / "a.png", (1376, 1020))
        path = write_json(tmp_path / "c.json", [cric_image("a.png", [("AGC", 40, 30)])])
        with pytest.raises(ConfigError, match=r"AGC \(1\) are not among the classes NILM"):
            read_fields(path, [tmp_path], ["NILM"])

    def test_the_published_form_of_the_real_fields_gives_their_boxes(self, shared, tmp_path):
        folder = shared / "cric"
        content = json.loads((folder / "val.json").read_text())
        published = {name: key for key, name in cric.CLASSES.items()}
        names = {c["id"]: published[c["name"]] for c in content["categories"]}
        records = []
        for image in content["images"]:
            scale = np.array(cric.FRAME) / [image["width"], image["height"]]
            cells = [
                (names[a["category_id"]], *np.round(np.array(a["nucleus"]) * scale).tolist())
                for a in content["annotations"]
                if a["image_id"] == image["id"]
            ]
            records.append(cric_image(image["file_name"], cells))
        path = write_json(tmp_path / "classifications.json", records)
        found = read_fields(path, [folder / "val"])
        truth = read_fields(folder / "val.json", [folder / "val"])
        assert found.classes == truth.classes
        for one, other in zip(found.fields, truth.fields, strict=True):
            assert one.image == other.image
            assert one.labels.tolist() == other.labels.tolist()
            assert one.mpp == pytest.approx(other.mpp, rel=1e-3)
            np.testing.assert_allclose(one.boxes, other.boxes, atol=0.75)
