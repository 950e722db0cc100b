"""A process that is killed in the midst of writing: what it acknowledged is there, whole."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from reviewcases import SLIDE

from pipeline.review.store import FILE, ReviewStore

REPO = Path(__file__).resolve().parents[4]

_WRITER = """
import itertools, sys, uuid
from pathlib import Path
sys.path.insert(0, "tests")
from reviewcases import SLIDE, key, said
from pipeline.review.store import ReviewStore, parse_change
with ReviewStore.open(Path(sys.argv[1])) as store:
    reader = store.reader("Anna")
    version = store.reading(SLIDE, reader).version
    for place in itertools.count(version):
        change = {"kind": "cell", "id": uuid.uuid4().hex, "version": place, "key": key(place)}
        change |= {"verdict": "agree", "said": said(place), "note": "n" * (place * 37 % 1500)}
        store.apply(SLIDE, reader, parse_change(change))
        print(change["id"], flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_what_was_acknowledged_outlasts_kill_9(tmp_path):
    draw = random.Random(0)
    acknowledged = []
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            text=True,
        )
        acknowledged.append(writer.stdout.readline().strip())
        time.sleep(draw.uniform(0.02, 0.2))
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate(timeout=60)
        # The last line may have been cut: the kill came within it.
        acknowledged += [line for line in rest.split("\n") if len(line) == 32]
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with ReviewStore.open(tmp_path) as store:
        kept = [entry.request for entry in store.history()]
        assert len(acknowledged) > 20
        assert set(acknowledged) <= set(kept)
        # At most one a kill was written and not answered for any more.
        assert len(kept) <= len(acknowledged) + 4
        reading = store.reading(SLIDE, store.reader("Anna"))
        assert reading.version == len(reading.cells) == len(kept)
        assert store.states()[SLIDE].heads[0].version == len(kept)
