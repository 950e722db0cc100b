"""Arrays of Zarr: which chunks are there, in files and in shards; damage shows where it is read."""

import numpy as np
import pytest
from zarrfiles import edited

from pipeline.errors import ReadError, SlideError
from pipeline.slides.readers.zarr_array import ZarrArray
from pipeline.slides.readers.zarr_files import FolderFiles, ZipFiles

zarr = pytest.importorskip("zarr", reason="the tests write Zarr by the zarr package")

DATA = np.random.default_rng(0).integers(1, 255, (50, 70), np.uint8)


def write(path, **options):
    group = zarr.open_group(path, mode="w", zarr_format=options.pop("zarr_format", 3))
    data = options.pop("data", DATA)
    array = group.create_array("0", shape=data.shape, dtype="uint8", chunks=(16, 16), **options)
    array[...] = data
    return path


def put_together(array):
    """The whole array, of its chunks."""
    whole = np.full(array.shape, array.fill, np.uint8)
    for at in np.ndindex(array.present.shape):
        chunk = array.read(at)
        y, x = at[0] * 16, at[1] * 16
        part = whole[y : y + 16, x : x + 16]
        if chunk is not None:
            part[:] = chunk[: part.shape[0], : part.shape[1]]
    return whole


def sharded(path, **options):
    return write(path, shards=(32, 48), **options)


@pytest.mark.parametrize("make", [write, sharded])
def test_chunks_are_there_or_not(tmp_path, make):
    data = DATA.copy()
    data[16:32, 48:64] = 7
    options = {"data": data, "fill_value": 7, "config": {"write_empty_chunks": False}}
    array = ZarrArray(FolderFiles(make(tmp_path / "a", **options)), "0")
    assert array.present.shape == (4, 5)
    assert list(np.argwhere(~array.present)[0]) == [1, 3]
    assert np.count_nonzero(~array.present) == 1
    assert array.read((1, 3)) is None
    np.testing.assert_array_equal(put_together(array), data)


def test_an_index_at_the_start_is_found(tmp_path):
    path = tmp_path / "a"
    codec = zarr.codecs.ShardingCodec(chunk_shape=(16, 16), index_location="start")
    group = zarr.open_group(path, mode="w", zarr_format=3)
    array = group.create_array("0", shape=DATA.shape, dtype="uint8", chunks=(32, 48),
                               serializer=codec, compressors=None)  # fmt: skip
    array[...] = DATA
    np.testing.assert_array_equal(put_together(ZarrArray(FolderFiles(path), "0")), DATA)


@pytest.mark.parametrize("how", ["cut", "sum", "far"])
def test_a_damaged_shard_can_not_be_read_and_counts_as_there(tmp_path, how):
    path = sharded(tmp_path / "a")
    shard = path / "0/c/0/0"
    data = bytearray(shard.read_bytes())
    if how == "cut":
        data = data[:50]
    if how == "sum":
        data[-1] ^= 1
    if how == "far":
        data[-100:-4] = bytes(96)  # with a checksum that denies it
    shard.write_bytes(data)
    array = ZarrArray(FolderFiles(path), "0")
    assert array.present[0, 0]
    with pytest.raises(ReadError, match=r"the chunk \(0, 0\) in 0/c/0/0 "):
        array.read((0, 0))
    assert array.read((0, 3)) is not None  # of the next shard


def test_a_chunk_that_goes_after_opening_is_no_fill_value(tmp_path):
    path = write(tmp_path / "a", zarr_format=2)
    array = ZarrArray(FolderFiles(path), "0")
    (path / "0/1.1").unlink()
    with pytest.raises(ReadError, match="is gone"):
        array.read((1, 1))


def test_what_lies_at_a_chunks_place_and_is_none_can_not_be_read(tmp_path):
    path = write(tmp_path / "a", zarr_format=2)
    (path / "0/1.1").unlink()
    (path / "0/1.1").symlink_to("nowhere")
    (path / "0/0.0").write_bytes(b"")
    (path / "0/01.2").write_bytes(b"x")  # no key of a chunk
    (path / "0/9.9").write_bytes(b"x")
    array = ZarrArray(FolderFiles(path), "0")
    assert array.present.all()
    for at in ((1, 1), (0, 0)):
        with pytest.raises(ReadError):
            array.read(at)


SHARDS = {
    "uneven": {"chunk_shape": [15, 16]},
    "index": {"index_codecs": [{"name": "bytes"}, {"name": "zstd"}]},
    "endian": {"index_codecs": [{"name": "bytes", "configuration": {"endian": "big"}}]},
    "no codec": {"index_codecs": ["bytes"]},
    "no settings": {"index_codecs": [{"name": "bytes", "configuration": 5}, 1]},
    "place": {"index_location": "middle"},
    "codecs": {"codecs": None},
    "nested": {"codecs": [{"name": "sharding_indexed"}]},
}


@pytest.mark.parametrize("how", SHARDS)
def test_shards_of_other_kinds_are_refused(tmp_path, how):
    path = sharded(tmp_path / "a")
    array = zarr.open_array(path / "0").metadata.to_dict()
    (codec,) = array["codecs"]
    settings = {**codec["configuration"], **SHARDS[how]}
    edited(path, "0/zarr.json", codecs=[{"name": "sharding_indexed", "configuration": settings}])
    with pytest.raises(SlideError, match=r"^its array 0: "):
        ZarrArray(FolderFiles(path), "0")


def test_a_zip_reads_as_the_folder_does(tmp_path):
    from zarrfiles import packed

    with_zip = ZipFiles(packed(sharded(tmp_path / "a.zarr")))
    np.testing.assert_array_equal(put_together(ZarrArray(with_zip, "0")), DATA)
    with_zip.close()
