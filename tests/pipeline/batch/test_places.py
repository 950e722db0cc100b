"""Where results lie below a folder."""

import pytest

from configs import ConfigError
from pipeline.batch.places import find_places, look_below


def result(folder):
    folder.mkdir(parents=True)
    (folder / "report.json").write_text("{}")


@pytest.fixture
def run(tmp_path):
    """The output of a run, with what is none of its results."""
    for name in ("b.svs", "day 1/ä.svs"):
        result(tmp_path / "run" / name)
    result(tmp_path / "run" / ".partial-host-1-abc")
    result(tmp_path / "run/b.svs/copy")
    (tmp_path / "run/run.json").write_text("{}")
    (tmp_path / "run/empty").mkdir()
    return tmp_path / "run"


def test_results_are_those_of_the_run_by_name(run):
    places = find_places(run)
    assert [places.name_of(one) for one in places.results] == ["b.svs", "day 1/ä.svs"]
    assert places.doubts == ()
    assert not places.several


@pytest.mark.parametrize("record", ["run.json", "run.shard-1-of-2.json"])
def test_the_output_of_another_run_below_is_left_out_and_told(run, record):
    result(run / "other/a.svs")
    (run / "other" / record).write_text("{}")
    places = find_places(run)
    assert [places.name_of(one) for one in places.results] == ["b.svs", "day 1/ä.svs"]
    assert [doubt.code for doubt in places.doubts] == ["outputs-left-out"]
    assert str(run / "other") in str(places.doubts[0])
    assert [find_places(run / "other").results[0].name] == ["a.svs"]


def test_of_a_folder_of_several_outputs_all_are_taken(run):
    result(run / "other/a.svs")
    (run / "other/run.json").write_text("{}")
    places = find_places(run.parent)
    names = ["run/b.svs", "run/day 1/ä.svs", "run/other/a.svs"]
    assert [places.name_of(one) for one in places.results] == names
    assert places.doubts == ()
    assert places.several


def test_links_to_folders_are_not_followed(run, tmp_path):
    result(tmp_path / "elsewhere/c.svs")
    (run / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(find_places(run).results) == 2


def test_a_folder_without_results_is_refused(run):
    with pytest.raises(ConfigError, match="no such folder of reports"):
        find_places(run / "gone")
    with pytest.raises(ConfigError, match="is the report of one slide; name the folder above it"):
        find_places(run / "b.svs")
    with pytest.raises(ConfigError, match="has no reports of cytolibra screen"):
        find_places(run / "empty")
    assert look_below(run / "gone").results == ()
