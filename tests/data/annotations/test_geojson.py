"""QuPath's GeoJSON, and that of other tools: heights, collections, planes, tiles, frames."""

import numpy as np
import pytest
from annotationfiles import (
    HEIGHT,
    WIDTH,
    closed,
    corners,
    feature,
    write_blank,
    write_json,
    write_text,
)

from configs import ConfigError
from data.annotations import AnnotationSettings, ImageInfo, read_fields
from data.annotations.doubles import overlapping, repeated

NAME = "a.png"
CELL = ("HSIL", 100, 120, 180, 190)
RING = closed(corners(CELL))


@pytest.fixture
def folder(tmp_path):
    write_blank(tmp_path / NAME)
    return tmp_path


def write(folder, *features, **more):
    content = {"type": "FeatureCollection", "features": list(features)} | more
    return write_json(folder / "a.geojson", content)


def read(folder, *features, **settings):
    path = write(folder, *features)
    return read_fields(path, [folder], None, AnnotationSettings(**settings))


def boxes(found):
    return found.fields[0].boxes.round(2).tolist()


def codes(found):
    return [doubt.code for doubt in found.doubts]


def shifted(dx):
    return [[x + dx, y] for x, y in RING]


def on_plane(z, dx=0, name="HSIL"):
    one = feature(name, [shifted(dx)])
    one["geometry"]["plane"] = {"c": -1, "z": z, "t": 0}
    return one


class TestPositions:
    @pytest.mark.parametrize("heights", [[0] * 6, [7] * 6, [0, 1, 2, 3, 4, 0]])
    def test_a_third_number_is_left_out(self, folder, heights):
        """Six corners of three numbers would also make nine of two."""
        ring = [[100, 100], [120, 90], [140, 100], [140, 120], [120, 130], [100, 100]]
        deep = feature("HSIL", [[[*p, z] for p, z in zip(ring, heights, strict=True)]])
        found = read(folder, feature("LSIL", [RING]), deep)
        assert boxes(found) == [[100, 120, 180, 190], [100, 90, 140, 130]]
        assert codes(found) == (["z-left-out"] if len(set(heights)) > 1 else [])

    def test_corners_of_two_and_three_numbers_may_be_mixed(self, folder):
        ring = [[*p, 5] if i % 2 else p for i, p in enumerate(RING)]
        assert boxes(read(folder, feature("HSIL", [ring]))) == [[100, 120, 180, 190]]

    def test_points_and_parts_have_heights_too(self, folder):
        parts = [[[[x, y, 3] for x, y in ring]] for ring in (RING, shifted(100))]
        many = feature("HSIL", parts, "MultiPolygon")
        point = feature("HSIL", [300, 400, 9], "Point")
        found = read(folder, many, point, mpp=0.5, point_size=20)
        assert boxes(found) == [[100, 120, 280, 190], [280, 380, 320, 420]]

    def test_a_part_of_two_corners_goes_before_the_others(self, folder):
        parts = [[[[100, 120], [105, 125]]], [[[x, y] for x, y in shifted(100)]]]
        found = read(folder, feature("HSIL", parts, "MultiPolygon"))
        assert boxes(found) == [[100, 120, 280, 190]]

    @pytest.mark.parametrize(
        "coordinates",
        [
            [100, 120, 180, 190],
            [[100, 120], [180, 190]],
            [[[100], [180]]],
            [[["100", "120"], ["180", "190"]]],
            [[[True, False], [True, True]]],
            [[[100, 120], [180, None]]],
            [[[100, 120], [1e999, 190], [0, 0]]],
            [[[10**400, 120], [180, 190], [0, 0]]],
            "100 120",
            {"x": 1},
            None,
        ],
    )
    def test_what_is_no_position_is_told(self, folder, coordinates):
        with pytest.raises(ConfigError, match=r"a\.geojson: not as geojson has it: "):
            read(folder, feature("HSIL", [RING]), feature("HSIL", coordinates))


class TestShapes:
    def collection(self, *parts):
        one = feature("HSIL", [])
        one["geometry"] = {"type": "GeometryCollection", "geometries": list(parts)}
        return one

    def test_the_polygons_of_a_collection_are_one_cell_and_its_lines_are_told(self, folder):
        far = {"type": "Polygon", "coordinates": [shifted(100)]}
        line = {"type": "LineString", "coordinates": [[0, 0], [90, 90]]}
        near = {"type": "Polygon", "coordinates": [RING]}
        inner = {"type": "GeometryCollection", "geometries": [far, line]}
        found = read(folder, self.collection(near, inner, line))
        assert boxes(found) == [[100, 120, 280, 190]]
        assert codes(found) == ["shapes-left-out"]
        assert found.doubts[0].text.startswith("lines are no cells")

    def test_the_points_of_a_collection_without_polygons_are_marks(self, folder):
        point = {"type": "Point", "coordinates": [300, 400]}
        found = read(folder, self.collection(point), mpp=0.5, point_size=20)
        assert boxes(found) == [[280, 380, 320, 420]]

    def test_a_feature_without_a_geometry_is_told(self, folder):
        none = feature("HSIL", []) | {"geometry": None}
        found = read(folder, none, self.collection(), feature("HSIL", [RING]))
        assert found.class_counts() == [1]
        assert [d.text for d in found.doubts] == [
            "features without a geometry are no cells, and are left out (2 in a.geojson)"
        ]

    def test_collections_of_features_may_lie_in_each_other(self, folder):
        inner = {"type": "FeatureCollection", "features": [feature("HSIL", [RING])]}
        found = read(folder, inner, feature("NILM", [shifted(300)]))
        assert found.class_counts() == [1, 1]

    def test_collections_without_end_are_told(self, folder):
        deep = feature("HSIL", [RING])
        for _ in range(200):
            deep = {"type": "FeatureCollection", "features": [deep]}
        with pytest.raises(ConfigError, match="collections lie too deep in each other"):
            read(folder, deep)

    @pytest.mark.parametrize("kind", ["Circle", "polygon", "", None, 3, "Topology"])
    def test_an_unknown_geometry_is_told_by_its_feature(self, folder, kind):
        wrong = feature("HSIL", [RING], kind)
        with pytest.raises(ConfigError, match=r"feature 2: a geometry of type"):
            read(folder, feature("HSIL", [RING]), wrong)

    @pytest.mark.parametrize(
        "crs",
        [
            {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
            {"type": "name", "properties": {"name": "EPSG:3857"}},
            "EPSG:4326",
        ],
    )
    def test_places_on_the_earth_are_refused(self, folder, crs):
        path = write(folder, feature("HSIL", [RING]), crs=crs)
        with pytest.raises(ConfigError, match=r"a\.geojson: states .*\[geographic-crs\]"):
            read_fields(path, [folder])

    def test_no_reference_system_is_fine(self, folder):
        path = write(folder, feature("HSIL", [RING]), crs=None)
        assert boxes(read_fields(path, [folder])) == [[100, 120, 180, 190]]


class TestQupath:
    @pytest.mark.parametrize("key", ["objectType", "object_type"])
    @pytest.mark.parametrize("kind", ["tile", "tma_core", "root"])
    def test_objects_that_are_no_cells_are_left_out_and_told(self, folder, key, kind):
        tile = feature("NILM", [shifted(300)])
        tile["properties"] = {key: kind, "classification": {"name": "NILM"}}
        found = read(folder, feature("HSIL", [RING]), tile, tile)
        assert found.classes == ("HSIL",)
        assert [d.text for d in found.doubts] == [
            f"objects of type {kind} are no cells, and are left out (2 in a.geojson)"
        ]
        assert codes(found) == ["tiles-left-out"]

    def test_older_versions_say_what_an_object_is_by_its_id(self, folder):
        objects = [feature("HSIL", [shifted(100 * i)]) for i in range(4)]
        for one, kind in zip(objects, ("Tile", "Detection", "Cell", "TMACore"), strict=True):
            del one["properties"]["objectType"]
            one["id"] = f"Path{kind}Object"
        found = read(folder, *objects)
        assert boxes(found) == [[200, 120, 280, 190], [300, 120, 380, 190]]
        assert codes(found) == ["tiles-left-out", "tiles-left-out"]

    def test_a_cell_has_its_own_outline_and_the_middle_of_its_nucleus(self, folder):
        cell = feature("LSIL", [RING])
        nucleus = [[150, 160], [158, 160], [158, 166], [150, 166], [150, 160]]
        cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [nucleus]}
        found = read(folder, cell)
        assert boxes(found) == [[100, 120, 180, 190]]
        assert found.fields[0].nuclei.tolist() == [[154, 163]]

    def test_a_cell_on_several_planes_is_one(self, folder):
        others = [
            on_plane(1, 2),
            on_plane(2, 4),
            on_plane(1, 60),
            on_plane(1, 1, "LSIL"),
        ]
        found = read(folder, on_plane(0), *others)
        assert found.class_counts() == [2, 1]
        assert boxes(found)[0] == [100, 120, 180, 190]
        assert boxes(found)[1] == [160, 120, 240, 190]
        assert "(2 in a.geojson)" in found.doubts[0].text
        assert codes(found) == ["planes-merged"]

    def test_cells_of_one_plane_that_overlap_are_two(self, folder):
        found = read(folder, on_plane(1), on_plane(1, 4), on_plane(2, 500))
        assert found.class_counts() == [3]
        assert codes(found) == []

    @pytest.mark.parametrize(
        ("classification", "name"),
        [
            ("HSIL", "HSIL"),
            ({"name": "HSIL"}, "HSIL"),
            ({"name": "HSIL", "colorRGB": -3140401}, "HSIL"),
            ({"names": ["HSIL"], "name": "other"}, "HSIL"),
            (None, "unclassified"),
            ({}, "unclassified"),
        ],
    )
    def test_classifications_of_all_versions(self, folder, classification, name):
        one = feature("", [RING])
        one["properties"] |= {"classification": classification, "isLocked": True}
        one["properties"]["measurements"] = [{"name": "probability", "value": 0.4}]
        assert read(folder, one, classes={name: "x"}).class_counts() == [1]

    @pytest.mark.parametrize("key", ["class", "label", "category"])
    def test_other_tools_have_the_class_among_the_properties(self, folder, key):
        one = feature("", [RING]) | {"properties": {"id": 7, key: "HSIL"}}
        assert read(folder, one).classes == ("HSIL",)

    @pytest.mark.parametrize("z", ["a", None, 1e999, []])
    def test_a_plane_that_is_no_number_is_told(self, folder, z):
        with pytest.raises(ConfigError, match="feature 1: plane is"):
            read(folder, on_plane(z))

    @pytest.mark.parametrize("classification", [["HSIL"], 3, {"names": [1]}, {"name": 7}])
    def test_a_classification_that_is_no_name_is_told(self, folder, classification):
        one = feature("", [RING])
        one["properties"]["classification"] = classification
        with pytest.raises(ConfigError, match=r"feature 1: classification"):
            read(folder, one)


class TestFrame:
    BOUNDS = (20000, 31000, 20000 + WIDTH, 31000 + HEIGHT)

    def read(self, folder, path=None, **settings):
        def info(_):
            return ImageInfo(90000, 200000, 0.25, bounds=self.BOUNDS)

        path = path or write(folder, feature("HSIL", [RING]), feature("NILM", [shifted(300)]))
        return read_fields(path, [folder], None, AnnotationSettings(**settings), info)

    def test_qupath_counts_from_the_corner_of_the_bounds(self, folder):
        found = self.read(folder)
        assert boxes(found) == [[20100, 31120, 20180, 31190], [20400, 31120, 20480, 31190]]
        assert codes(found) == ["frame-qupath"]
        assert "moved by 20000, 31000 px" in found.doubts[0].text

    def test_the_setting_takes_the_slides_corner(self, folder):
        path = write(folder, feature("HSIL", [[[x + 20000, y + 31000] for x, y in RING]]))
        found = self.read(folder, path, frame="slide")
        assert boxes(found) == [[20100, 31120, 20180, 31190]]
        assert codes(found) == []

    def test_the_wrong_frame_is_refused_with_a_hint(self, folder):
        rings = [[[x + 20000 + 100 * i, y + 31000] for x, y in RING] for i in range(3)]
        path = write(folder, *(feature("HSIL", [ring]) for ring in rings))
        with pytest.raises(ConfigError, match=r"3 of 3 .*frame=slide it would be 0;.*elsewhere"):
            self.read(folder, path)

    def test_other_formats_count_from_the_slides_corner(self, folder):
        """Unless they are said to come from the bounds."""
        rows = "image,class,xmin,ymin,xmax,ymax\na.png,HSIL,{},{},{},{}\n"
        inside = rows.format(20100, 31120, 20180, 31190)
        found = self.read(folder, write_text(folder / "cells.csv", inside))
        assert boxes(found) == [[20100, 31120, 20180, 31190]]
        path = write_text(folder / "cells.csv", rows.format(100, 120, 180, 190))
        assert boxes(self.read(folder, path, frame="bounds")) == [[20100, 31120, 20180, 31190]]

    def test_what_screen_wrote_is_of_the_slide_that_the_report_names(self, folder):
        result = folder / "out" / "a.png"
        path = write_json(result / "cells.geojson", [feature("HSIL", [RING])])
        with pytest.raises(ConfigError, match=r"cells: no such file"):
            self.read(folder, path)
        write_json(result / "report.json", {"slide": {"path": "C:\\slides\\a.png"}})
        found = self.read(folder, path)
        assert boxes(found) == [[20100, 31120, 20180, 31190]]
        assert codes(found) == ["detections-read", "frame-qupath"]

    @pytest.mark.parametrize(
        "report", ["", "[]", '{"slide": 3}', '{"slide": {"path": 3}}', "nul\0"]
    )
    def test_a_broken_report_beside_it_does_no_harm(self, folder, report):
        path = write_json(folder / "cells.geojson", [feature("HSIL", [RING])])
        write_text(folder / "report.json", report)
        with pytest.raises(ConfigError, match=r"cells: no such file"):
            self.read(folder, path)


class TestDoubles:
    def test_pairs_are_those_of_every_with_every(self):
        rng = np.random.default_rng(3)
        low = rng.uniform(0, 60, (90, 2))
        found = np.hstack([low, low + rng.uniform(5, 30, (90, 2))])
        area = np.prod(found[:, 2:] - found[:, :2], axis=1)
        expected = []
        for i in range(90):
            for j in range(i + 1, 90):
                sides = np.minimum(found[i, 2:], found[j, 2:]) - np.maximum(
                    found[i, :2], found[j, :2]
                )
                shared = sides.clip(0).prod()
                if shared / (area[i] + area[j] - shared) > 0.3:
                    expected.append((i, j))
        assert len(expected) > 10
        assert sorted(map(tuple, overlapping(found, 0.3).tolist())) == expected

    def test_of_things_that_are_the_same_the_first_stays(self):
        pairs = np.array([[1, 4], [2, 4], [3, 5]])
        assert repeated(7, pairs).tolist() == [False, False, True, False, True, True, False]
        assert not repeated(3, np.zeros((0, 2), int)).any()
