"""Which results still count, by what the records of the last run say."""

import os

import pytest
from fakes import MODEL

from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import Fingerprint, hash_content, save_fingerprint, stamp_files
from pipeline.batch.last_run import LastRun, verdict_of
from pipeline.batch.run_record import RunRecord, Shard, SlideRecord, save_record

SCREEN, RESCORE = ("cytolibra", "screen", "s"), ("cytolibra", "rescore", "o")


@pytest.fixture
def result(tmp_path):
    """The result of a slide, by the recipe "a"."""
    (tmp_path / "s.svs").write_bytes(b"slide")
    job = SlideJob(tmp_path / "s.svs", "s.svs")
    folder = tmp_path / "out/s.svs"
    folder.mkdir(parents=True)
    known = Fingerprint(recipe="a", files=stamp_files(job), sha256=hash_content(job))
    save_fingerprint(known, folder)
    return folder


def record(result, status, recipe="a", command=SCREEN, started="2", shard=None, **changes):
    """Leaves the record of a run of its slide."""
    slide = SlideRecord(path=str(result.parents[1] / "s.svs"), status=status, **changes)
    run = RunRecord(
        command=command,
        shard=shard,
        started=started,
        software={},
        model=MODEL,
        settings={},
        recipe=recipe,
        slides={"s.svs": slide},
    )
    save_record(run, result.parent)


def verdict(result):
    return verdict_of(result, [LastRun.of(result.parent)])


CASES = {
    "complete": ({"status": "complete"}, "stands"),
    "not reached again": ({"status": "pending"}, "stands"),
    "in work again": ({"status": "running"}, "stands"),
    "not reached by other settings": ({"status": "pending", "recipe": "b"}, "outdated"),
    "failed": ({"status": "failed", "recipe": "b"}, "failed"),
    "another slide's": ({"status": "failed", "recipe": "b", "error": "x [other-slide]"}, "stands"),
    "not rescored": ({"status": "failed", "recipe": "b", "command": RESCORE}, "outdated"),
    "not rescored alike": ({"status": "failed", "command": RESCORE}, "stands"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_result_is_judged_by_how_it_went_with_its_slide(result, case):
    told, expected = CASES[case]
    record(result, **told)
    assert verdict(result) == expected
    assert LastRun.of(result.parent).incomplete == frozenset(
        () if told["status"] == "complete" else ["s.svs"]
    )


@pytest.mark.parametrize("recipe", ["a", "b"])
@pytest.mark.parametrize("content", [b"other", b"slide", None])
def test_what_the_last_run_has_not_done_counts_while_its_file_is_as_it_was(result, recipe, content):
    slide = result.parents[1] / "s.svs"
    if content:
        slide.write_bytes(content)
        os.utime(slide, ns=(7, 7))
    else:
        slide.unlink()
    record(result, "pending", recipe)
    same = "stands" if recipe == "a" else "outdated"
    assert verdict(result) == ("changed" if content == b"other" else same)


def test_another_reader_or_no_fingerprint_is_not_what_the_last_run_makes(result, monkeypatch):
    record(result, "pending")
    monkeypatch.setattr("pipeline.batch.last_run.name_packages", lambda path: "reader 2.0")
    assert verdict(result) == "outdated"
    (result / "fingerprint.json").unlink()
    assert verdict(result) == "outdated"


def test_where_nothing_is_known_of_it_a_result_stands(result, tmp_path):
    assert verdict(result) == "stands"
    record(result, "failed")
    assert verdict_of(tmp_path / "elsewhere/s.svs", [LastRun.of(result.parent)]) == "stands"


def test_a_rescore_that_fails_too_hides_no_failure_of_the_screening(result):
    shard = Shard(index=1, count=1)
    record(result, "failed", started="1", shard=shard, attempts=1, ended="1")
    record(result, "failed", command=RESCORE, attempts=1, ended="2")
    assert verdict(result) == "failed"
    record(result, "complete", command=RESCORE, attempts=1, ended="2")
    assert verdict(result) == "stands"
