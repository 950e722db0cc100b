import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from configs import ConfigError
from pipeline.cloud.scratch import DEFAULT, GB, Scratch, show_size
from pipeline.cloud.settings import CloudSettings


def go_on() -> bool:
    return False


def test_a_run_has_a_folder_of_its_own_which_is_gone_afterwards(tmp_path):
    settings = CloudSettings(scratch=tmp_path / "scratch")
    with Scratch(settings, tmp_path) as one, Scratch(settings, tmp_path) as other:
        assert one.folder != other.folder
        (one.folder / "a.svs").write_bytes(b"x")
        assert one.folder.is_dir()
        assert other.folder.is_dir()
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == [".gate.lock"]


def test_by_default_it_lies_in_out_and_nothing_stays_there(tmp_path):
    with Scratch(CloudSettings(), tmp_path / "out") as scratch:
        assert scratch.folder.parent == tmp_path / "out" / DEFAULT
        assert 0 < scratch.bound <= 200 * GB
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cant_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"cloud\.scratch .*file/x: can't be written"),
        Scratch(CloudSettings(scratch=tmp_path / "file" / "x"), tmp_path),
    ):
        pass


def test_what_a_killed_run_left_is_swept_and_what_a_live_one_has_is_not(tmp_path):
    code = """
        import sys, time
        from pathlib import Path
        from pipeline.cloud.scratch import Scratch
        from pipeline.cloud.settings import CloudSettings
        with Scratch(CloudSettings(scratch=Path(sys.argv[1])), Path()) as scratch:
            (scratch.folder / "a.svs").write_bytes(b"x" * 1000)
            print(scratch.folder, flush=True)
            time.sleep(60)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as live:
        assert live.stdout is not None
        held = live.stdout.readline().strip()
        mine = tmp_path / "cytolibra-notes"  # a folder of somebody's own
        mine.mkdir()
        try:
            with Scratch(CloudSettings(scratch=tmp_path), tmp_path):
                assert os.listdir(held) == ["a.svs"]
        finally:
            os.kill(live.pid, signal.SIGKILL)
    assert os.path.exists(held)
    with Scratch(CloudSettings(scratch=tmp_path), tmp_path):
        assert not os.path.exists(held)
        assert not os.path.exists(f"{held}.lock")
        assert mine.is_dir()


def test_room_is_waited_for(tmp_path):
    settings = CloudSettings(scratch=tmp_path, scratch_gb=10 / GB)
    with Scratch(settings, tmp_path) as scratch:
        assert scratch.bound == 10
        assert scratch.take(8, go_on)
        threading.Timer(0.1, scratch.give_back, (8,)).start()
        began = time.monotonic()
        assert scratch.take(3, go_on)
        assert time.monotonic() - began >= 0.08
        assert not scratch.take(8, lambda: True)


def test_who_finds_the_disk_full_waits_for_the_others_if_there_are_any(tmp_path):
    with Scratch(CloudSettings(scratch=tmp_path), tmp_path) as scratch:
        assert not scratch.wait_for_less(0, go_on)
        scratch.take(5, go_on)
        threading.Timer(0.1, scratch.give_back, (5,)).start()
        assert scratch.wait_for_less(0, go_on)
        assert scratch.wait_for_less(0, go_on)  # it was given back just before
        assert not scratch.wait_for_less(1, go_on)
        scratch.take(5, go_on)
        assert not scratch.wait_for_less(1, lambda: True)


def test_sizes_are_told_in_units_that_fit():
    assert show_size(1_234_000_000) == "1.23 GB"
    assert show_size(5_670_000) == "5.67 MB"
