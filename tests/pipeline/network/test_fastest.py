"""The fastest precision is found out once, and stays what it was."""

import errno
import os
import time

import pytest
from filelock import Timeout
from lively import lively

from models.card import GraphFacts
from pipeline.network import fastest, kept
from pipeline.network.fastest import choose, find_fastest, kept_seconds, known_fastest
from pipeline.network.precision import candidates


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOLIBRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def card():
    return lively().card.model_copy(update={"sha256": "1"})


def pace(**seconds):
    """Networks that take so long; a list of what was made ready comes along."""
    prepared = []

    def prepare(precision):
        prepared.append(precision)
        return lambda pixels: time.sleep(seconds[precision])

    return prepare, prepared


def test_the_fastest_is_timed_once_and_kept(card):
    prepare, prepared = pace(fp32=0.02, int8=0.004)
    assert known_fastest(card, ["fp32", "int8"]) is None
    assert find_fastest(card, ["fp32", "int8"], prepare) == "int8"
    slower, unused = pace(fp32=0.001, int8=0.02)
    assert find_fastest(card, ["fp32", "int8"], slower) == "int8"
    assert (prepared, unused) == (["fp32", "int8"], [])
    assert known_fastest(card, ["fp32", "int8"]) == "int8"
    assert 0.004 <= kept_seconds(card)["int8"] < kept_seconds(card)["fp32"]


def test_a_candidate_more_is_a_reason_to_time_again(card):
    find_fastest(card, ["fp32", "int8"], pace(fp32=0.01, int8=0.002)[0])
    among = ["fp32", "bf16", "int8"]
    assert known_fastest(card, among) is None
    assert find_fastest(card, among, pace(fp32=0.02, bf16=0.002, int8=0.01)[0]) == "bf16"
    assert known_fastest(card, ["fp32", "int8"]) == "int8"


def test_other_weights_are_timed_by_themselves(card):
    find_fastest(card, ["fp32", "int8"], pace(fp32=0.01, int8=0.002)[0])
    other = card.model_copy(update={"sha256": "2"})
    assert known_fastest(other, ["fp32", "int8"]) is None


def test_a_kept_file_that_is_damaged_is_written_anew(card, cache):
    find_fastest(card, ["fp32", "int8"], pace(fp32=0.01, int8=0.002)[0])
    (kept,) = cache.glob("fastest/*.json")
    kept.write_text("{")
    assert find_fastest(card, ["fp32", "int8"], pace(fp32=0.002, int8=0.01)[0]) == "fp32"
    assert known_fastest(card, ["fp32", "int8"]) == "fp32"


def test_where_nothing_can_be_kept_the_choice_never_turns(card, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CYTOLIBRA_CACHE", str(tmp_path / "file"))
    prepare, prepared = pace(fp32=0.02, int8=0.001)
    assert find_fastest(card, ["fp32", "int8"], prepare) == "fp32"
    assert known_fastest(card, ["fp32", "int8"]) == "fp32"
    assert prepared == []


def test_a_disk_that_is_full_all_of_a_sudden_is_none_either(card, tmp_path, monkeypatch):
    places = iter([tmp_path, None])
    monkeypatch.setattr(fastest, "cache_folder", lambda _: next(places))
    prepare, prepared = pace(fp32=0.02, int8=0.001)
    assert find_fastest(card, ["fp32", "int8"], prepare) == "fp32"
    assert prepared == []


@pytest.mark.parametrize("problem", [OSError(errno.ENOLCK, "No locks available"), Timeout("a")])
def test_without_a_lock_the_choice_never_turns(card, monkeypatch, problem):
    prepare, prepared = pace(fp32=0.02, int8=0.001)

    def refuse(*_, **__):
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr("filelock.FileLock.acquire", refuse)
        assert find_fastest(card, ["fp32", "int8"], prepare) == "fp32"
    assert prepared == []
    assert find_fastest(card, ["fp32", "int8"], prepare) == "int8"
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert find_fastest(card, ["fp32", "int8"], prepare) == "int8"  # which needs no lock


@pytest.mark.skipif(os.name != "posix", reason="others may read by other rules")
def test_what_is_kept_is_for_all_who_share_the_folder(card, cache):
    find_fastest(card, ["fp32", "int8"], pace(fp32=0.01, int8=0.002)[0])
    kept, lock = (next(cache.glob(f"fastest/*{suffix}")) for suffix in (".json", ".lock"))
    assert kept.stat().st_mode & 0o044 == 0o044
    assert lock.stat().st_mode & 0o666 == 0o666


def test_a_full_disk_leaves_no_unfinished_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept.os, "replace", full)
    kept.write_kept(tmp_path / "a.json", "{}")
    assert list(tmp_path.iterdir()) == []


def test_a_single_candidate_is_not_timed(card):
    prepare, prepared = pace()
    assert find_fastest(card, ["fp32"], prepare) == "fp32"
    assert prepared == []


def test_near_ties_go_to_the_one_that_is_preferred():
    assert choose({"int8": 1.0, "fp32": 0.97}, ["int8", "fp32"]) == "int8"
    assert choose({"int8": 1.0, "fp32": 0.9}, ["int8", "fp32"]) == "fp32"


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ({"avx2"}, ["fp32", "int8"]),
        ({"avx2", "avx512_vnni"}, ["int8", "fp32"]),
        ({"avx2", "avx512_vnni", "avx512_bf16"}, ["int8", "bf16", "fp32"]),
    ],
)
def test_int8_is_a_candidate_without_its_instructions_too(monkeypatch, instructions, expected):
    from pipeline.network import precision

    monkeypatch.setattr(precision, "cpu_instructions", lambda: frozenset(instructions))
    costs = {"int8": {"ap50/abnormal": 0.001}}
    graphs = {"openvino-int8": GraphFacts(sha256="1")}
    card = lively().card.model_copy(update={"graphs": graphs, "ap_cost": costs})
    assert candidates("cpu", "openvino", card) == expected
    unmeasured = card.model_copy(update={"ap_cost": {}})
    assert "int8" not in candidates("cpu", "openvino", unmeasured)
    assert "int8" not in candidates("cpu", "torch", card)
