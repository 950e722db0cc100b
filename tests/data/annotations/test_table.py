"""Tables: what columns mean by their names, and what can't be told is refused by its line."""

import pytest
from annotationfiles import HEIGHT, WIDTH, write_blank, write_json, write_text

from configs import ConfigError
from data.annotations import AnnotationSettings, ImageInfo, read_fields
from data.annotations.columns import names_places, understand

NAME = "a.png"
BOX = [100, 120, 180, 190]


@pytest.fixture
def folder(tmp_path):
    write_blank(tmp_path / NAME)
    return tmp_path


def read(folder, text, name="cells.csv", info=None, **settings):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if info is None:
        return read_fields(path, [folder], None, AnnotationSettings(**settings))
    return read_fields(path, [folder], None, AnnotationSettings(**settings), lambda _: info)


def boxes(found):
    return found.fields[0].boxes.round(3).tolist()


def codes(found):
    return [doubt.code for doubt in found.doubts]


class TestColumns:
    @pytest.mark.parametrize(
        ("header", "values", "told"),
        [
            ("xmin,ymin,xmax,ymax", BOX, []),
            ("X Min,Y Min,X Max,Y Max", BOX, []),
            ("ymax,xmax,ymin,xmin", [190, 180, 120, 100], []),
            ("x1,y1,x2,y2", BOX, []),
            ("x0,y0,x1,y1", BOX, []),
            ("left,top,right,bottom", BOX, []),
            ("xtl,ytl,xbr,ybr", BOX, []),
            ("left,top,width,height", [100, 120, 80, 70], []),
            ("x_center,y_center,width,height", [140, 155, 80, 70], []),
            ("cx,cy,w,h", [140, 155, 80, 70], []),
            ("Centroid X px,Centroid Y px,Width px,Height px", [140, 155, 80, 70], []),
            ("Centroid X µm,Centroid Y µm,Width µm,Height µm", [70, 77.5, 40, 35], []),
            ("x_um,y_um,w_um,h_um", [50, 60, 40, 35], ["corner-assumed"]),
            ("x,y,width,height", [100, 120, 80, 70], ["corner-assumed"]),
            ("x_max,x_min,y_min,y_max", [100, 180, 190, 120], ["corners-swapped"]),
            ("xmin,ymin,xmax,ymax,x_center,y_center", [*BOX, 140, 155], []),
        ],
    )
    def test_places_are_told_by_names(self, folder, header, values, told):
        text = f"image,class,{header}\na.png,HSIL,{','.join(map(str, values))}\n"
        found = read(folder, text, mpp=0.5)
        assert boxes(found) == [BOX]
        assert codes(found) == told

    def test_a_centre_alone_is_a_point(self, folder):
        for header in ("x,y", "Centroid X,Centroid Y", "nucleus_x,nucleus_y", "X (px),Y (px)"):
            found = read(
                folder, f"image,class,{header}\na.png,HSIL,140,155\n", point_size=10, mpp=0.5
            )
            assert boxes(found) == [[130, 145, 150, 165]]
            assert codes(found) == []

    @pytest.mark.parametrize("header", ["x,y,radius", "diameter,Y,X", "cx,cy,r", "x_um,y_um,r_um"])
    def test_a_point_with_a_radius_is_a_box(self, folder, header):
        numbers = {"diameter,Y,X": "50,155,140", "x_um,y_um,r_um": "70,77.5,12.5"}
        row = numbers.get(header, "140,155,25")
        found = read(folder, f"image,class,{header}\na.png,HSIL,{row}\n", mpp=0.5)
        assert boxes(found) == [[115, 130, 165, 180]]

    def test_a_centre_that_is_not_the_middle_of_its_box_is_refused(self, folder):
        for header, box in [
            ("xmin,ymin,xmax,ymax", "100,120,180,190"),
            ("left,top,w,h", "1,2,8,6"),
        ]:
            text = f"image,class,{header},x_center,y_center\na.png,HSIL,{box},130,155\n"
            with pytest.raises(ConfigError, match="line 2: x_center, y_center are not the middle"):
                read(folder, text)

    def test_pixels_go_before_micrometres(self, folder):
        text = "image,class,x_um,y_um,x,y\na.png,HSIL,1,2,140,155\n"
        assert boxes(read(folder, text, point_size=10, mpp=0.5)) == [[130, 145, 150, 165]]

    def test_micrometres_need_a_scale_and_take_the_scanners_of_each_axis(self, folder):
        text = "image,class,x_um,y_um\na.png,HSIL,70,77.5\n"
        with pytest.raises(ConfigError, match=r"cells\.csv: a\.png: .*the image's mpp is needed"):
            read(folder, text, point_size=10)
        own = {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.51"}
        found = read(folder, text, info=ImageInfo(WIDTH, HEIGHT, 0.5, own), point_size=10)
        left, top, right, bottom = boxes(found)[0]
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(
            (140, 77.5 / 0.51), abs=0.01
        )

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ("xmin,ymin,xmax,note", r"the columns image, class, xmin.* don't tell where a cell is"),
            ("x,note,width,height", "don't tell where a cell is"),
            ("x_um,y,w,h", "don't tell where a cell is"),
            ("x,y,width_um,height_um", "that don't belong to it"),
            ("x,y,width,note", "width that don't belong to it"),
            ("x1,y1,x2,y2,x3,y3,x4,y4", "outlines of more than two corners"),
        ],
    )
    def test_places_that_are_not_whole_are_told_by_their_columns(self, folder, header, message):
        with pytest.raises(ConfigError, match=message):
            read(folder, f"image,class,{header}\na.png,HSIL,1,2,3,4\n")

    @pytest.mark.parametrize(
        ("header", "is_one"),
        [
            ("image,slide,patient", False),
            ("slide,label", False),
            ("epoch,loss,x", False),
            ("filename,region_shape_attributes,x,y", False),
            ("image,xmin", True),
            ("100,120,180,190", False),
            ("maximum,album,num", False),
        ],
    )
    def test_other_tables_are_no_tables_of_cells(self, header, is_one):
        assert names_places(header.split(",")) == is_one

    def test_a_table_without_a_header_is_told(self, folder):
        with pytest.raises(ConfigError, match=r"its first line is 'a\.png,100,120,180,190,HSIL'"):
            read(folder, "a.png,100,120,180,190,HSIL\n")

    def test_the_class_has_an_order_of_names(self, folder):
        text = "image,name,classification,x1,y1,x2,y2\na.png,cell 7,HSIL,100,120,180,190\n"
        found = read(folder, text)
        assert found.classes == ("HSIL",)
        assert codes(found) == ["columns-several"]
        assert "from the column classification, not from name" in found.doubts[0].text

    def test_one_name_twice_is_refused_where_they_differ(self, folder):
        rows = "image,x_min,y_min,x_max,y_max,class,Class\na.png,100,120,180,190,HSIL,HSIL\n"
        assert read(folder, rows).classes == ("HSIL",)
        with pytest.raises(ConfigError, match=r"line 3: has the column class twice, with 'LSIL' "):
            read(folder, rows + "a.png,300,320,380,390,LSIL,NILM\n")

    @pytest.mark.parametrize("header", ["left,top,right,bottom", "x_center,y_center,radius"])
    def test_nuclei_beside_boxes_are_kept(self, folder, header):
        one, other = ("100,120,180,190", "300,320,380,390")
        if "radius" in header:
            one, other = ("140,155,40", "340,355,40")
        text = f"image,class,{header},nucleus_x,nucleus_y\na.png,HSIL,{one},110.5,150\n"
        found = read(folder, f"{text}a.png,HSIL,{other},,\n")
        assert found.fields[0].nuclei.tolist() == [[110.5, 150], [340, 355]]
        with pytest.raises(ConfigError, match="line 3: nucleus_y is missing"):
            read(folder, f"{text}a.png,HSIL,{other},340,\n")

    def test_two_columns_of_one_place_must_agree(self, folder):
        text = "image,class,left,xmin,top,right,bottom\na.png,HSIL,{},100,120,180,190\n"
        assert boxes(read(folder, text.format(100))) == [BOX]
        with pytest.raises(ConfigError, match="line 2: xmin and left should be the same"):
            read(folder, text.format(101))

    def test_slide_and_patient_are_known(self, folder):
        text = "image,slide,patient,class,x1,y1,x2,y2\na.png,S 1,P 1,HSIL,100,120,180,190\n"
        (field,) = read(folder, text).fields
        assert (field.slide, field.patient) == ("S 1", "P 1")
        other = "a.png,S 1,P 2,HSIL,500,120,580,190\n"
        with pytest.raises(ConfigError, match="line 3: patient differs"):
            read(folder, text + other)

    def test_all_kinds_are_understood(self):
        assert understand(["bbox"]).kind == "text"
        assert understand(["Centroid X µm", "Centroid Y µm"]).in_um


class TestSizes:
    def test_beside_corners_width_and_height_are_the_images(self, folder):
        text = "image,width,height,class,xmin,ymin,xmax,ymax\na.png,{},HSIL,100,120,180,190\n"
        assert boxes(read(folder, text.format("1200,900"))) == [BOX]
        with pytest.raises(ConfigError, match="was annotated as 1000x900"):
            read(folder, text.format("1000,900"))

    def test_beside_corners_they_may_be_the_boxs_own(self, folder):
        text = "image,width,height,class,xmin,ymin,xmax,ymax\na.png,80,70,HSIL,100,120,180,190\n"
        assert boxes(read(folder, text)) == [BOX]

    @pytest.mark.parametrize("kind", ["x_center,y_center", "x,y"])
    def test_an_images_size_in_the_place_of_a_boxs_is_told(self, folder, kind):
        rows = "".join(f"a.png,HSIL,{x},300,1200,900\n" for x in (100, 300, 500))
        with pytest.raises(ConfigError, match="seem to be the image's"):
            read(folder, f"image,class,{kind},width,height\n{rows}")

    def test_boxes_of_one_size_all_over_the_image_are_boxes(self, folder):
        rows = "".join(f"a.png,HSIL,{x},300,80,80\n" for x in (100, 300, 500))
        found = read(folder, f"image,class,x_center,y_center,width,height\n{rows}")
        assert boxes(found)[0] == [60, 260, 140, 340]

    @pytest.mark.parametrize("box", ["[100, 120, 80, 70]", "100 120 80 70", "(100.0,120,80,70)"])
    def test_kaggles_text_of_a_box(self, folder, box):
        found = read(folder, f'image_id,width,height,bbox,class\na,1200,900,"{box}",HSIL\n')
        assert boxes(found) == [BOX]
        assert codes(found) == ["corner-assumed"]

    def test_corners_in_the_text_are_told_by_the_image(self, folder):
        rows = 'a,1200,900,"[100, 120, 180, 190]",HSIL\na,1200,900,"[1000, 700, 1100, 800]",HSIL\n'
        with pytest.raises(ConfigError, match=r"line 3: bbox .* reaches beyond the image"):
            read(folder, f"image_id,width,height,bbox,class\n{rows}")

    @pytest.mark.parametrize("box", ["[1, 2, 3]", "[[1,2,3,4],[5,6,7,8]]", "[a, 2, 3, 4]"])
    def test_a_text_of_something_else_is_told(self, folder, box):
        with pytest.raises(ConfigError, match=r"line 2: "):
            read(folder, f'image_id,bbox,class\na,"{box}",HSIL\n')

    def test_shares_are_refused(self, folder):
        with pytest.raises(ConfigError, match="are they shares"):
            read(folder, "image,class,x_center,y_center\na.png,HSIL,0.5,0.25\n", point_size=20)
        with pytest.raises(ConfigError, match="seem to be shares of the image"):
            read(folder, "image,class,x_center,y_center,w,h\na.png,HSIL,0.5,0.5,0.1,0.2\n")

    def test_a_negative_size_is_refused(self, folder):
        text = (
            "image,class,left,top,width,height\na.png,HSIL,1,2,30,40\na.png,HSIL,100,120,-80,70\n"
        )
        with pytest.raises(ConfigError, match="line 3: a size is negative"):
            read(folder, text)


class TestRows:
    HEAD = "image;class;xmin;ymin;xmax;ymax\n"

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("a.png;HSIL;1.234,5;20;50;60", "line 3: .*'1.234,5' is no number; .*thousands"),
            ("a.png;HSIL;1,234;20;50;60", "line 3: 1,234 may be a thousand or a fraction"),
            ("a.png;HSIL;10;20;50", "line 3: is cut short"),
            ("a.png;HSIL;10;20;50;", "line 3: ymax is empty"),
            ("a.png;HSIL;10;20;50;6o", "line 3: ymax: '6o' is no number"),
            ("a.png;HSIL;10;20;50;60;70", "line 3: 7 cells, where the header has 6"),
            (";HSIL;10;20;50;60", "line 3: no image is named"),
            ("a.png;HSIL;10;20;50;1e999", "not a finite number"),
        ],
    )
    def test_a_row_that_cannot_be_read_is_named_by_its_line(self, folder, row, message):
        with pytest.raises(ConfigError, match=message):
            read(folder, f"{self.HEAD}a.png;HSIL;10;20;50;60\n{row}\n")

    def test_decimal_commas(self, folder):
        found = read(folder, self.HEAD + "a.png;HSIL;10,5;20,25;50,125;60\n")
        assert boxes(found) == [[10.5, 20.25, 50.125, 60]]

    def test_as_excel_writes_it_in_europe(self, folder):
        text = (
            "sep=;\r\nBild;image;class;xmin;ymin;xmax;ymax\r\n1;a.png;Épithélium;10,5;2;30;40\r\n"
        )
        found = read(folder, text.encode("cp1252"))
        assert found.classes == ("Épithélium",)
        assert boxes(found) == [[10.5, 2, 30, 40]]
        assert codes(found) == ["encoding-assumed"]

    def test_an_image_without_cells_has_a_row_without_a_place(self, folder):
        write_blank(folder / "b.png")
        found = read(folder, self.HEAD + "a.png;HSIL;10;20;50;60\nb.png;;;;;\n")
        assert {f.image.name: len(f.boxes) for f in found.fields} == {"a.png": 1, "b.png": 0}
        assert codes(found) == ["rows-without-cells"]

    def test_text_that_was_defused_is_itself_again(self, folder):
        found = read(folder, self.HEAD + "a.png;'-HSIL;10;20;50;60\n")
        assert found.classes == ("-HSIL",)


class TestQupath:
    HEAD = "Image\tObject ID\tObject type\tName\tClassification\tParent\tROI\t"
    PLACES = "Centroid X µm\tCentroid Y µm\n"

    def row(self, x, y, kind="Detection", roi="Polygon", name="HSIL"):
        return f"a.png\t3f\t{kind}\t\t{name}\tRoot object\t{roi}\t{x}\t{y}\n"

    def test_places_are_micrometres_from_the_corner_of_the_bounds(self, folder):
        bounds = (20000, 31000, 20000 + WIDTH, 31000 + HEIGHT)
        info = ImageInfo(90000, 200000, 0.25, bounds=bounds)
        text = self.HEAD + self.PLACES + self.row(30, 40)
        found = read(folder, text, "a.tsv", info, point_size=10)
        assert boxes(found) == [[20100, 31140, 20140, 31180]]
        assert codes(found) == ["frame-qupath"]

    def test_tiles_and_lines_are_no_cells(self, folder):
        rows = [
            self.row(30, 40),
            self.row(90, 90, "Tile"),
            self.row(90, 90, "Annotation", "Line"),
            self.row("", "", "Root object (Image)", "", ""),
        ]
        text = self.HEAD + self.PLACES + "".join(rows)
        found = read(folder, text, "a.tsv", mpp=0.25, point_size=10)
        assert boxes(found) == [[100, 140, 140, 180]]
        assert sorted(codes(found)) == [
            "rows-without-cells",
            "shapes-left-out",
            "tiles-left-out",
            "tiles-left-out",
        ]

    def test_a_region_is_more_than_its_middle(self, folder):
        text = self.HEAD + self.PLACES + self.row(30, 40) + self.row(90, 90, name="Region*")
        with pytest.raises(ConfigError, match="a region is only a point"):
            read(folder, text, "a.tsv", mpp=0.25, point_size=10)


def test_our_own_cells_are_of_the_slide_that_the_report_names(folder):
    text = (
        "id,class,abnormal,score,x_min,y_min,x_max,y_max,x_center,y_center,x_um,y_um\n"
        "1,HSIL,true,0.9000,100.00,120.00,180.00,190.00,140.00,155.00,35.00,38.75\n"
    )
    result = folder / "out" / "x"
    write_json(result / "report.json", {"slide": {"path": "/elsewhere/a.png"}})
    write_text(result / "cells.csv", text)
    found = read_fields(result / "cells.csv", [folder])
    assert found.fields[0].image == folder / NAME
    assert boxes(found) == [BOX]
    assert codes(found) == ["detections-read"]
    excel = "\ufeff" + text.replace(".", ",").replace("1,HSIL,true,", "1;HSIL;true;")
    rows = excel.splitlines()
    cells = ";".join(rows[1].split(";")[:3]) + ";0,9000;100,00;120,00;180,00;190,00;140,00;155,00;"
    write_text(result / "cells.csv", rows[0].replace(",", ";") + f"\r\n{cells}35,00;38,75\r\n")
    assert boxes(read_fields(result / "cells.csv", [folder])) == [BOX]
