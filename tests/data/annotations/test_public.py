"""Public sets, drawn by the tests in the layouts that are documented for them."""

import re
from pathlib import Path

import pytest
from annotationfiles import write_blank, write_coco, write_text

import configs
from configs import ConfigError, validate
from data.annotations import AnnotationSettings, read_fields
from data.annotations.public import TABLES

BETHESDA = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
RIVA = "image_filename,x,y,width,height,class_name,class\n"
DOCS = Path(configs.__file__).parent.parent / "docs" / "how-to" / "public-sets.md"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("LSIL_45_3.png", "b.png"):
        write_blank(folder / name, (1200, 900), "white")
    return folder


def read(place, images, **settings):
    return read_fields(place, [images], BETHESDA, validate(settings, AnnotationSettings, "s"))


def names_of(fields):
    return [[BETHESDA[label] for label in f.labels[~f.crowd]] for f in fields.fields]


def test_a_box_of_riva_lies_about_its_middle(tmp_path, images):
    rows = "LSIL_45_3.png,1000.5,526,100,80,LSIL,4\nLSIL_45_3.png,20,30,100,100,ASCUS,3\n"
    rows += "b.png,600,450,100,100,ENDO,1\nb.png,300,450,100,100,INFL,2\n"
    path = write_text(tmp_path / "train.csv", RIVA + rows)
    fields = read(path, images, classes="riva", mpp=0.25)
    assert names_of(fields) == [["LSIL", "ASC-US"], ["NILM"]]
    assert fields.fields[0].boxes.tolist() == [[950.5, 486, 1050.5, 566], [0, 0, 70, 80]]
    assert fields.fields[0].nuclei.tolist() == [[1000.5, 526], [20, 30]]
    assert fields.fields[1].boxes[1].tolist() == [250, 400, 350, 500]
    assert fields.fields[1].crowd.tolist() == [False, True]
    assert not [doubt for doubt in fields.doubts if doubt.code == "corner-assumed"]


def test_names_that_are_not_there_are_told_of_ones_own_table_only(tmp_path, images):
    row = "b.png,600,450,100,100,LSIL,1\n"
    path = write_text(tmp_path / "train.csv", RIVA + row)
    own = {"LSlL": "ignore", "LSIL": "LSIL"}
    for table, told in (("riva", ""), (own, "LSlL"), (dict(TABLES["riva"]) | own, "LSlL")):
        for classes in (BETHESDA, None):
            settings = validate({"classes": table}, AnnotationSettings, "s")
            found = [
                d
                for d in read_fields(path, [images], classes, settings).doubts
                if d.code == "classes-unused"
            ]
            assert [told in doubt.text for doubt in found] == [True] * bool(told)
            assert not found or "ASCUS" not in found[0].text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.png,x,1,100,100,LSIL,4", r"train.csv: not as riva has it: line 2: x: "),
        ("b.png,1,1,0,100,LSIL,4", r"line 2: a box of 0 x 100 px"),
        ("b.png,1,1,100,100,LSlL,4", r"LSlL \(1\) are not among the classes"),
        ("b.png,1,1", r"line 2: width: "),
    ],
)
def test_what_is_wrong_in_riva_is_named(tmp_path, images, row, message):
    path = write_text(tmp_path / "train.csv", f"{RIVA}{row}\n")
    with pytest.raises(ConfigError, match=message):
        read(path, images, classes="riva", mpp=0.25)


def corners(*points):
    return "\n".join(f"{x},{y}" for x, y in points) + "\n"


@pytest.fixture
def sipakmed(tmp_path):
    """One image of two classes each, with two cells, under the same name; and a crop."""
    root = tmp_path / "SIPaKMeD"
    for name in ("im_Koilocytotic", "im_Parabasal"):
        folder = root / name / name
        (folder / "CROPPED").mkdir(parents=True)
        write_blank(folder / "001.bmp", (400, 300), "white")
        for cell in (1, 2):
            left = 100 * cell
            square = [(left, 50), (left + 60, 50), (left + 60, 110), (left, 110)]
            small = [(left + 20, 60), (left + 40, 60), (left + 40, 90)]
            write_text(folder / f"001_cyt0{cell}.dat", corners(*square))
            write_text(folder / f"001_nuc0{cell}.dat", corners(*small))
        write_blank(folder / "CROPPED" / "001_01.bmp", (60, 60), "white")
        write_text(folder / "CROPPED" / "001_01_cyt.dat", corners((0, 0), (60, 0), (60, 60)))
    return root


def test_outlines_of_sipakmed_are_cells_of_their_folders_class(sipakmed):
    fields = read(sipakmed, sipakmed, classes="sipakmed", mpp=0.2)
    assert names_of(fields) == [["LSIL", "LSIL"], ["NILM", "NILM"]]
    assert [f.image.parent.name for f in fields.fields] == ["im_Koilocytotic", "im_Parabasal"]
    assert fields.fields[0].boxes.tolist() == [[100, 50, 160, 110], [200, 50, 260, 110]]
    assert fields.fields[0].nuclei.tolist() == [[130, 75], [230, 75]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("001_cyt01.dat", "1,2\n3\n4,5\n", "001_cyt01.dat: line 2: '3' is no corner x,y"),
        ("001_cyt01.dat", "1,2\n3,4\n", "001_cyt01.dat: an outline of 2 corners"),
        ("001_nuc03.dat", "1,2\n3,4\n5,6\n", "001_nuc03.dat is a nucleus without a cytoplasm"),
        ("001_cyt1.dat", "1,2\n3,4\n5,6\n", "001_cyt01.dat and 001_cyt1.dat are of one cell"),
    ],
)
def test_what_is_wrong_in_sipakmed_is_named(sipakmed, name, content, message):
    write_text(sipakmed / "im_Parabasal" / "im_Parabasal" / name, content)
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(sipakmed, sipakmed, classes="sipakmed", mpp=0.2)


def test_crops_are_cells_as_large_as_their_image(tmp_path, images):
    path = write_text(
        tmp_path / "train.csv", "image_name,class_id,class_name\nb.png,1,ASC-US\n"
        "LSIL_45_3.png,2,AGC-FN\n"
    )  # fmt: skip
    with pytest.raises(ConfigError, match="no annotations of a format that is known"):
        read(path, images, classes="hicervix", mpp=0.2)
    fields = read(path, images, classes="hicervix", mpp=0.2, format="crops")
    assert names_of(fields) == [["ASC-US"], []]
    assert fields.fields[0].boxes.tolist() == [[0, 0, 1200, 900]]
    assert fields.fields[0].nuclei.tolist() == [[600, 450]]
    assert fields.fields[1].crowd.tolist() == [True]
    labelled = write_text(tmp_path / "b.csv", "image_name,label\nb.png,healthy\n")
    assert names_of(read(labelled, images, classes="apacc", format="crops", mpp=0.2)) == [["NILM"]]
    levels = write_text(tmp_path / "c.csv", "image_name,level_1,level_2\nb.png,ASC,ASC-US\n")
    with pytest.raises(ConfigError, match="no column for the class: expected class_name or label"):
        read(levels, images, classes="hicervix", format="crops", mpp=0.2)


def test_comparison_detector_is_coco_with_names_of_its_own(tmp_path, images):
    cells = [("ascus", 0, 0, 80, 80), ("herps", 100, 0, 180, 80), ("asch", 300, 0, 380, 90)]
    path = write_coco(tmp_path / "labels", "b.png", cells)
    fields = read(path, images, classes="comparison-detector")
    assert names_of(fields) == [["ASC-US", "ASC-H"]]
    assert fields.fields[0].crowd.tolist() == [False, False, True]


def test_tables_lead_to_bethesda_or_to_nothing():
    for table in TABLES.values():
        assert set(table.values()) <= {*BETHESDA, "ignore"}
    settings = AnnotationSettings(classes="riva")
    assert settings.classes == dict(TABLES["riva"])
    assert AnnotationSettings(**settings.model_dump()) == settings
    with pytest.raises(ConfigError, match=r"no table of classes is called herlev; there are cric"):
        validate({"classes": "herlev"}, AnnotationSettings, "s")


def test_every_table_is_explained():
    text = DOCS.read_text("utf-8")
    for name, table in TABLES.items():
        assert name.replace("-", "") in text.lower().replace("-", ""), name
        assert all(one in text for one in table if name in ("riva", "sipakmed") and one.isupper())
