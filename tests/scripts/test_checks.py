"""What ``cytolibra doctor`` tries out: a folder for reports, scratch space, the shipped model."""

import json
import os
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from scripts import checks
from scripts.cli import build_app


def doctor(*words):
    result = CliRunner().invoke(build_app("doctor"), ["doctor", "--json", *map(str, words)])
    return result.exit_code, json.loads(result.stdout)


def out_checks(folder):
    return {check.name: check for check in checks.check_out(folder)}


def test_a_sound_folder_passes_and_keeps_nothing(tmp_path):
    code, told = doctor("--quick", "--out", tmp_path)
    assert (code, told["ok"]) == (0, True)
    tried = {check["name"]: check for check in told["checks"]["reports' folder"]}
    assert list(tried) == ["folder", "write", "rename", "lock", "clock"]
    assert all(check["ok"] and not check["mend"] for check in tried.values())
    assert tried["lock"]["found"] == "keeps another process out"
    assert list(tmp_path.iterdir()) == []
    assert "openslide" in told["facts"]["readers"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    found = out_checks(tmp_path / "a" / "b")
    assert found["folder"].found.startswith(str(tmp_path))
    assert all(check.ok for check in found.values())
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a").touch()
    code, told = doctor("--quick", "--out", tmp_path / "a")
    (only,) = told["checks"]["reports' folder"]
    assert (code, told["ok"], only["ok"]) == (1, False, False)
    assert only["mend"] == "name a folder, or one that can be made"


def test_a_folder_that_cannot_be_looked_at_says_why(tmp_path, monkeypatch):
    code, told = doctor("--quick", "--out", tmp_path / ("x" * 300))
    (only,) = told["checks"]["reports' folder"]
    assert (code, only["ok"]) == (1, False)
    assert only["found"].endswith("File name too long")
    assert only["mend"].startswith("name another folder")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(checks.Path, "stat", refuse)
        found = out_checks(tmp_path)["folder"].found
    assert found == f"{tmp_path}: Permission denied"


def test_a_lock_that_hangs_is_told_and_the_rest_is_tried(tmp_path, monkeypatch):
    def hang(call, **_):
        raise subprocess.TimeoutExpired(call, 60)

    monkeypatch.setattr(checks.subprocess, "run", hang)
    found = out_checks(tmp_path)
    assert found["lock"].found == "another process that asks for the lock hangs"
    assert {name for name, check in found.items() if not check.ok} == {"lock"}
    assert list(found)[-1] == "clock"


def test_no_folder_for_temporary_files_is_a_check_not_the_end(monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(checks.tempfile, "gettempdir", none)
    code, told = doctor("--quick")
    (only,) = told["checks"]["checks"]
    assert (code, only["ok"]) == (1, False)
    assert only["found"].startswith("No usable temporary directory")
    assert told["facts"]["free disk"]["temporary"] == f"unknown: {only['found']}"


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps folders that are worked in")
def test_a_working_folder_that_is_gone_is_told(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = CliRunner().invoke(build_app("doctor"), ["doctor", "--quick"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the working folder can't be used")


def test_no_right_to_write_says_what_to_do(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checks.tempfile, "mkdtemp", refuse)
    found = out_checks(tmp_path)
    assert found["write"].found == "Permission denied"
    assert found["write"].mend.startswith("give this user the right to write there")


def test_a_file_system_without_rename_or_with_locks_that_keep_nobody_out(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(checks.os, "rename", refuse)
    monkeypatch.setattr(checks, "_TRY_LOCK", "")
    found = out_checks(tmp_path)
    assert found["rename"].found == "Operation not supported"
    assert found["lock"].found == "another process is not kept out"
    assert {name for name, check in found.items() if not check.ok} == {"rename", "lock"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ahead", "word"), [(-3600, "behind"), (3600, "ahead of"), (-5, "")])
def test_the_clock_of_the_folder(tmp_path, monkeypatch, ahead, word):
    real = time.time
    monkeypatch.setattr(checks.time, "time", lambda: real() - ahead)
    clock = out_checks(tmp_path)["clock"]
    assert clock.ok == (not word)
    assert word in clock.found
    assert not word or "3600 s" in clock.found


def test_little_scratch_space_is_told(monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    check = checks.check_scratch()
    assert check.found.startswith("0.5 GiB free")
    assert check.mend == "free space there, or set TMPDIR to a folder with more"


@pytest.mark.slow
def test_the_shipped_model_finds_the_drawn_cells():
    check = checks.check_model()
    assert check.ok, check.found
    assert " of 55 drawn cells found" in check.found


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), np.array([[0.0, 0, 2048, 2048]])])
def test_a_model_that_finds_nothing_or_all_is_broken(monkeypatch, boxes):
    report = SimpleNamespace(cells=SimpleNamespace(boxes=boxes))
    monkeypatch.setattr("pipeline.screen_slide", lambda *_: report)
    code, told = doctor()
    check = told["checks"]["checks"][1]
    assert (code, told["ok"], check["name"], check["ok"]) == (1, False, "self-test", False)
    assert check["found"].startswith("0 of 55 drawn cells found")
    assert f"{len(boxes)} of {len(boxes)} finds are none" in check["found"]
    assert check["mend"].startswith("install cytolibra again")


def test_a_runtime_that_breaks_is_told(monkeypatch):
    def broken(*_):
        raise RuntimeError("Exception from src/inference/src/core.cpp:\nno such device")

    monkeypatch.setattr("pipeline.screen_slide", broken)
    code, told = doctor()
    check = told["checks"]["checks"][1]
    assert (code, check["name"], check["ok"]) == (1, "self-test", False)
    assert check["found"] == (
        "RuntimeError: Exception from src/inference/src/core.cpp: no such device"
    )


def test_a_driver_that_breaks_is_told_beside_all_else(monkeypatch):
    def broken(_):
        raise RuntimeError("CUDA driver error: unknown error")

    monkeypatch.setattr("pipeline.network.devices.find_device", broken)
    code, told = doctor("--quick")
    check = told["checks"]["checks"][-1]
    assert (code, check["name"], check["ok"]) == (1, "devices", False)
    assert check["found"] == "RuntimeError: CUDA driver error: unknown error"
    assert told["facts"]["models"]


def test_what_is_broken_says_in_its_line_what_to_do(monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    result = CliRunner().invoke(build_app("doctor"), ["doctor", "--quick"])
    assert result.exit_code == 1
    assert "scratch space     BROKEN: 0.5 GiB free" in result.stdout
    assert "; free space there, or set TMPDIR to a folder with more" in result.stdout
