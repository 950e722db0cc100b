"""Folders that are slides: what tells one from what it was, and keys that stay in it."""

import os
import zipfile

import pytest

from pipeline.errors import SlideError
from pipeline.slides.readers.zarr_files import (
    FolderFiles,
    ZipFiles,
    files_of,
    folder_state,
    is_safe,
)


def make(folder):
    for name in ("a", "0/1", "0/c/2"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_folder_is_known_by_all_of_its_files(tmp_path):
    folder = make(tmp_path / "x")
    state = folder_state(folder)
    assert state.size == len("a0/10/c/2")
    assert state == folder_state(folder)
    assert [str(path.relative_to(folder)) for path in files_of(folder)] == ["0/1", "0/c/2", "a"]
    os.utime(folder / "0/c/2", ns=(5, 2**62))
    later = folder_state(folder)
    assert (later.size, later.names) == (state.size, state.names)
    assert later.mtime_ns == 2**62
    (folder / "0/1").rename(folder / "0/3")
    assert folder_state(folder).names != state.names
    (folder / "0/3").rename(folder / "0/1")
    (folder / "0/1").write_bytes(b"longer")
    assert folder_state(folder).names != state.names


@pytest.mark.parametrize("key", ["0", "a/b", "a b", "é", "..."])
def test_keys_below_a_folder_are_safe(key):
    assert is_safe(key)


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../a", "a/../b", "/a", "a/", "a//b", "a\\b", "c:", "a\0b", "a\nb", "*"]
)
def test_keys_that_may_lead_elsewhere_are_not(key):
    assert not is_safe(key)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(OSError, match="is no file"):
        FolderFiles(tmp_path).size("x")


def test_a_link_to_a_folder_is_told_and_not_followed(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0/1").symlink_to(tmp_path / "0")
    with pytest.raises(OSError, match="1 is a link to a folder"):
        list(FolderFiles(tmp_path).below("0", 4))


def test_a_zip_of_a_version_that_is_not_known_is_refused_in_a_line(tmp_path):
    path = tmp_path / "a.ozx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zarr.json", "{}")
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\x01\x02") + 6] = 64  # version needed, of the central directory
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"is a ZIP archive that can't be read .*6\.4") as caught:
        ZipFiles(path)
    assert len(caught.value.text.splitlines()) == 1
