"""Which files are meant, and that a hostile or damaged one does no harm."""

import gzip
import os
from pathlib import Path

import pytest
from annotationfiles import write_text

from configs import ConfigError
from data.annotations.files import find_files, load, own_name
from data.annotations.images import ImageFolder
from data.folders import files_below

BOMB = """<?xml version="1.0"?>
<!DOCTYPE a [<!ENTITY b "{}">{}]>
<annotation><filename>&z;</filename></annotation>"""


@pytest.mark.parametrize(
    "text",
    [
        BOMB.format("x" * 100, "".join(f'<!ENTITY c{i} "&b;&b;&b;">' for i in range(50))),
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1/x">]><annotation>&x;</annotation>',
        "<!DOCTYPE html><annotation/>",
    ],
)
def test_documents_that_could_declare_entities_are_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"a\.xml: XML with a DOCTYPE isn't read"):
        load(write_text(tmp_path / "a.xml", text))


def test_entities_of_xml_itself_are_read(tmp_path):
    root = load(write_text(tmp_path / "a.xml", '<a b="&lt;&#228;&quot;">x &amp; y</a>'))
    assert root.text == "x & y"
    assert root.get("b") == '<ä"'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_xml_is_read_in_its_own_encoding(tmp_path, encoding):
    name = encoding.removesuffix("-sig")
    path = tmp_path / "a.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="{name}"?><a>Präparat</a>'.encode(encoding))
    assert load(path).text == "Präparat"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<a><b></a>", "not valid XML"),
        (b"<a>", "not valid XML"),
        (b'{"a": [1, 2', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"caf\xe9,1,2", "not text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not text in UTF-8"),
        (gzip.compress(b"{}" * 1000, mtime=0)[:-9], "cannot be read"),
        (b"\x1f\x8bno gzip", "cannot be read"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "not valid XML"),
    ],
)
def test_damaged_files_are_told(tmp_path, data, message):
    path = tmp_path / "a b.xml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"a b.xml: {message}"):
        load(path)


def test_files_folders_and_globs(tmp_path):
    for name in ("b.json", "a.json", "c.png", "d/e.JSON", "d/.hidden.json", ".h/f.json"):
        write_text(tmp_path / name, "{}")

    def found(*arguments):
        files = find_files([tmp_path / argument for argument in arguments], [".json"])
        return [(path.relative_to(tmp_path).as_posix(), named) for path, named in files]

    assert found("") == [("a.json", False), ("b.json", False), ("d/e.JSON", False)]
    assert found("*.json") == [("a.json", False), ("b.json", False)]
    assert found("c.png", "c.png") == [("c.png", True)]
    assert found("b.json", "") == [("b.json", True), ("a.json", False), ("d/e.JSON", False)]
    assert found("**/*.JSON") == [("d/e.JSON", False)]


def test_links_to_folders_are_followed_and_each_folder_entered_once(tmp_path):
    for name in ("set/b/1.json", "set/.h/2.json", "elsewhere/3.json", "elsewhere/d/4.json"):
        write_text(tmp_path / name, "{}")
    for link, target in {
        "set/a": "set/b",
        "set/all": "set",
        "set/c": "elsewhere",
        "set/e": "elsewhere/d",
        "elsewhere/up": "set",
        "top": "set",
    }.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    expected = ["b/1.json", "c/3.json", "c/d/4.json"]
    for top in (tmp_path / "set", tmp_path / "top"):
        assert sorted(path.relative_to(top).as_posix() for path in files_below(top)) == expected
    found = find_files([tmp_path / "set"], [".json"])
    assert found == [(tmp_path / "set" / name, False) for name in expected]
    assert ImageFolder([tmp_path / "set"]).find("4.json") is None  # no image
    (tmp_path / "elsewhere" / "x.png").touch()
    assert ImageFolder([tmp_path / "set"]).find("x") == tmp_path / "set" / "c" / "x.png"


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    write_text(tmp_path / "a.json", "{}")
    write_text(tmp_path / "shut" / "b.json", "{}")
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "shut":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    told = "shut: the folder can't be read: Permission denied"
    with pytest.raises(ConfigError, match=told):
        find_files([tmp_path], [".json"])
    with pytest.raises(ConfigError, match=told):
        ImageFolder([tmp_path]).find("x.png")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such file or folder"),
        ("*.none", "no file is called like that"),
        ("", "no annotation files in this folder"),
    ],
)
def test_arguments_that_mean_no_file_are_told(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        find_files([tmp_path / name], [".json"])


def test_a_bracket_in_a_name_is_no_glob(tmp_path):
    path = write_text(tmp_path / "a [1].json", "{}")
    assert find_files([path], [".json"]) == [(path, True)]


@pytest.mark.parametrize(
    ("name", "own"),
    [("a 1.geojson", "a 1"), ("a.svs.geojson.gz", "a.svs"), ("A.GeoJSON", "A"), ("a.txt", "a.txt")],
)
def test_a_file_may_carry_the_images_name(tmp_path, name, own):
    assert own_name(tmp_path / name, (".geojson", ".geojson.gz")) == own


def test_a_small_file_that_unpacks_to_very_much_is_refused(tmp_path):
    path = tmp_path / "a.geojson.gz"
    path.write_bytes(gzip.compress(b'{"type": "' + b" " * 2**26, 9))
    with pytest.raises(ConfigError, match=r"a\.geojson\.gz: unpacks to more than 100 times"):
        load(path)
