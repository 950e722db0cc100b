import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dicomseries import write_image
from numpy.typing import NDArray

from configs import ConfigError
from pipeline.batch.discovery import Discovery, SlideJob, discover
from pipeline.batch.series import DIRECTORY
from pipeline.slides.mpp_table import load_mpp_table


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def gray(shade: int = 0) -> NDArray[np.uint8]:
    """The pixels of a small picture."""
    return np.full((64, 64, 3), 100 + shade, np.uint8)


def find(*arguments: Path, out: Path | None = None, with_images: bool = False) -> Discovery:
    return discover(arguments, out or Path("somewhere-else"), with_images=with_images)


def names(*arguments: Path, out: Path | None = None, with_images: bool = False) -> list[str]:
    return [job.name for job in find(*arguments, out=out, with_images=with_images).jobs]


def test_folders_are_searched_recursively_and_files_taken_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "s/b.svs", tmp_path / "s/a/b.SVS", tmp_path / "s/a/notes.txt")
    touch(tmp_path / "one.ndpi")
    assert names(tmp_path / "s", tmp_path / "one.ndpi") == ["a/b.SVS", "b.svs", "one.ndpi"]


def test_two_slides_with_one_stem_are_two(tmp_path: Path) -> None:
    touch(tmp_path / "b.svs", tmp_path / "b.tif")
    assert names(tmp_path) == ["b.svs", "b.tif"]


@pytest.mark.parametrize(
    "name", ["with space.svs", "two\nlines.svs", "😀.svs", "-rf.svs", "#%.svs"]
)
def test_any_name_is_a_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name)
    assert names(tmp_path) == [name]


def test_hidden_files_and_folders_are_left_out_unless_named(tmp_path: Path) -> None:
    touch(
        tmp_path / "._a.svs", tmp_path / ".DS_Store", tmp_path / ".trash/b.svs", tmp_path / "c.svs"
    )
    assert names(tmp_path) == ["c.svs"]
    assert names(tmp_path / "._a.svs") == ["._a.svs"]


def test_the_output_folder_is_not_searched(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs", tmp_path / "out/a.svs/copy.svs")
    assert names(tmp_path, out=tmp_path / "out") == ["a.svs"]


def test_output_that_is_the_slide_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    with pytest.raises(ConfigError, match="among the slides"):
        find(tmp_path, out=tmp_path / "." / "")


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    touch(tmp_path / "a/b.svs")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(tmp_path / "a/self")
    assert names(tmp_path) == ["a/b.svs"]


def test_a_linked_folder_is_searched_and_a_linked_slide_taken_once(tmp_path: Path) -> None:
    touch(tmp_path / "store/x.svs", tmp_path / "study/y.svs")
    (tmp_path / "study/linked").symlink_to(tmp_path / "store")
    (tmp_path / "study/again.svs").symlink_to(tmp_path / "study/y.svs")
    assert names(tmp_path / "study") == ["linked/x.svs", "y.svs"]


def test_a_link_to_nothing_is_found_so_that_it_is_reported(tmp_path: Path) -> None:
    (tmp_path / "gone.svs").symlink_to(tmp_path / "nowhere.svs")
    assert names(tmp_path) == ["gone.svs"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    os.mkfifo(tmp_path / "pipe.svs")
    assert names(tmp_path) == ["a.svs"]
    with pytest.raises(ConfigError, match="no file or folder"):
        find(tmp_path / "pipe.svs")


def test_a_slide_that_is_named_twice_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path / "s/a.svs")
    assert names(tmp_path / "s", tmp_path / "s/a.svs", tmp_path / "s") == ["a.svs"]


def test_results_in_each_other_s_way_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "one/x.svs", tmp_path / "two/x.svs", tmp_path / "three/x.svs/y.svs")
    with pytest.raises(ConfigError, match=r"one.x\.svs and .*two.x\.svs would both be written"):
        find(tmp_path / "one", tmp_path / "two")
    with pytest.raises(ConfigError, match="would both be written"):
        find(tmp_path / "one", tmp_path / "three")
    assert names(tmp_path) == ["one/x.svs", "three/x.svs/y.svs", "two/x.svs"]


def test_plain_images_in_folders_need_an_mpp_but_named_ones_are_taken(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs", tmp_path / "b.png", tmp_path / "c.JPG")
    found = find(tmp_path)
    assert [job.name for job in found.jobs] == ["a.svs"]
    assert found.images_left_out == 2
    assert names(tmp_path, with_images=True) == ["a.svs", "b.png", "c.JPG"]
    assert names(tmp_path / "b.png") == ["b.png"]


def test_parts_of_a_mirax_slide_are_its_companions(tmp_path: Path) -> None:
    touch(tmp_path / "m.mrxs", tmp_path / "m/Data0000.dat", tmp_path / "m/Slidedat.ini")
    touch(tmp_path / "m/preview.png")
    (job,) = find(tmp_path, with_images=True).jobs
    assert job.name == "m.mrxs"
    assert [p.name for p in job.companions] == ["Data0000.dat", "Slidedat.ini", "preview.png"]


def test_images_of_a_vms_slide_are_its_companions(tmp_path: Path) -> None:
    touch(tmp_path / "v-1.jpg", tmp_path / "v-2.jpg", tmp_path / "other.jpg")
    (tmp_path / "v.vms").write_text(
        "[Virtual Microscope Specimen]\nNoLayers=1\nImageFile=v-1.jpg\nImageFile(1,0)=v-2.jpg\n"
        "MapFile=missing.jpg\nComment=\n"
    )
    jobs = find(tmp_path, with_images=True).jobs
    assert [job.name for job in jobs] == ["other.jpg", "v.vms"]
    assert [p.name for p in jobs[1].companions] == ["v-1.jpg", "v-2.jpg"]


def test_dicom_files_of_one_series_are_one_slide(tmp_path: Path, shared: Path) -> None:
    for name in ("b0.dcm", "b1.dcm", "c.dcm"):
        shutil.copy(shared / "slides/boxes_0.dcm", tmp_path / name)
    data = (tmp_path / "c.dcm").read_bytes()
    uid = b"1747645553.419656796.1689669825649.4.0"
    assert uid in data
    (tmp_path / "c.dcm").write_bytes(data.replace(uid, uid[:-1] + b"9"))
    touch(tmp_path / "broken.dcm")
    jobs = {job.name: job for job in find(tmp_path).jobs}
    series = f"series-1.3.6.1.4.1.5962.99.1.{uid.decode()}"
    assert set(jobs) == {series, "broken.dcm", "c.dcm"}
    assert [p.name for p in (jobs[series].path, *jobs[series].companions)] == ["b0.dcm", "b1.dcm"]
    assert names(*sorted(tmp_path.glob("b?.dcm"))) == [series]


def test_a_series_below_a_folder_is_called_by_folder_and_series(tmp_path: Path) -> None:
    for number, name in enumerate(["IM02", "IM10", "1.2.840.10008.77"]):
        write_image(tmp_path / "study/p1" / name, gray(number), 0.25, "1.2.840.1")
    write_image(tmp_path / "study/p1/alone", gray(), 0.25, "1.2.840.2")
    write_image(tmp_path / "study/DICOMDIR", gray(), 0.25, "1.2", sop_class=DIRECTORY)
    write_image(
        tmp_path / "study/p1/ct", gray(), 0.25, "1.3", sop_class="1.2.840.10008.5.1.4.1.1.2"
    )
    found = find(tmp_path / "study")
    assert [job.name for job in found.jobs] == ["p1/alone", "p1/series-1.2.840.1"]
    slide = found.jobs[1]
    assert [p.name for p in (slide.path, *slide.companions)] == ["1.2.840.10008.77", "IM02", "IM10"]
    assert [file.path.name for file in found.not_read] == ["ct"]
    named = [tmp_path / "study/p1/IM10", tmp_path / "study/p1/IM02"]
    assert names(*named) == ["series-1.2.840.1"]
    assert names(tmp_path / "study/p1/alone") == ["alone"]


def test_a_series_that_lacks_a_part_is_not_screened_without_it(tmp_path: Path) -> None:
    """OpenSlide passes over a file whose header breaks off, were it the finest level."""
    for name in ("a", "b"):
        write_image(tmp_path / name, gray(), 0.25, "1.2.840.1")
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00")])
    (job,) = find(tmp_path).jobs
    assert job.problem is not None
    assert job.problem.startswith(f"{tmp_path / 'a'}: broken off")


def test_a_folder_that_cannot_be_read_is_a_problem_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "a.svs", tmp_path / "locked/b.svs")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    slide, locked = find(tmp_path).jobs
    assert slide.name == "a.svs"
    assert locked == SlideJob(
        tmp_path / "locked",
        "locked",
        problem=f"{tmp_path / 'locked'}: the folder can't be read: Permission denied",
    )
    with pytest.raises(ConfigError, match="Permission denied"):
        find(tmp_path / "locked")


@pytest.mark.parametrize(
    ("files", "message"),
    [([], "no slide found; slides end in .*.svs"), (["a.png"], "1 plain images; these need --mpp")],
)
def test_nothing_found_is_a_wrong_call(tmp_path: Path, files: list[str], message: str) -> None:
    touch(*(tmp_path / name for name in files))
    with pytest.raises(ConfigError, match=message):
        find(tmp_path)


def test_a_missing_path_is_a_wrong_call(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    with pytest.raises(ConfigError, match="no such file or folder"):
        find(tmp_path, tmp_path / "missing")


def test_what_looks_like_a_slide_and_is_not_read_is_known(tmp_path: Path) -> None:
    touch(
        tmp_path / "a.svs", tmp_path / "b.sdpc", tmp_path / "sub/c.svs.gz", tmp_path / "notes.txt"
    )
    touch(tmp_path / "d.lif", tmp_path / "e.zarr/0/0")
    found = find(tmp_path)
    assert [job.name for job in found.jobs] == ["a.svs"]
    named = sorted(file.path.relative_to(tmp_path).as_posix() for file in found.not_read)
    assert named == ["b.sdpc", "d.lif", "e.zarr", "sub/c.svs.gz"]
    (doubt,) = found.doubts
    assert doubt.code == "files-not-read"
    assert doubt.text.startswith("4 files look like slides and are not read")


def test_a_folder_of_nothing_that_is_read_names_it(tmp_path: Path) -> None:
    touch(tmp_path / "b.sdpc")
    with pytest.raises(ConfigError, match=r"no slide that is read; 1 file .*b\.sdpc \(SQRAY"):
        find(tmp_path)


def test_a_table_gives_slides_their_scale_and_makes_images_slides(tmp_path: Path) -> None:
    touch(tmp_path / "s/a.svs", tmp_path / "s/b.svs", tmp_path / "s/c.png", tmp_path / "s/d.png")
    (tmp_path / "mpp.csv").write_text("slide,mpp\na.svs,0.25\nc.png,0.5\ngone.svs,1\n")
    table = load_mpp_table(tmp_path / "mpp.csv")
    found = discover([tmp_path / "s"], tmp_path / "out", with_images=False, table=table)
    assert {job.name: job.mpp for job in found.jobs} == {"a.svs": 0.25, "b.svs": None, "c.png": 0.5}
    assert [doubt.code for doubt in found.doubts] == ["images-left-out", "mpp-table-unused"]
    assert "1 of 3 rows name none of the slides: gone.svs" in found.doubts[1].text


def test_the_scans_of_a_vsi_slide_and_the_tiles_beside_a_tmap_belong_to_it(tmp_path: Path) -> None:
    pytest.importorskip("fastslide", reason="needs cytolibra[fastslide]")
    pytest.importorskip("tmapslide", reason="needs cytolibra[tmap]")
    scan = tmp_path / "_v_/stack10001/frame_t.ets"
    touch(tmp_path / "v.vsi", scan)
    touch(*(tmp_path / name for name in ("t.TMAP", "t.DT1", "t.dt2", "t.DT4", "u.tmap")))
    found = find(tmp_path)
    assert {job.name: job.companions for job in found.jobs} == {
        "v.vsi": (scan,),
        "t.TMAP": (tmp_path / "t.DT1", tmp_path / "t.dt2"),
        "u.tmap": (),
    }
    assert not found.not_read
