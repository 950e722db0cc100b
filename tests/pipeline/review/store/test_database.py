"""The file: made whole, checked when it is opened, never written over; trouble in one line."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from reviewcases import OTHER, SLIDE, Hand, key

from pipeline.review.store import FILE, ReviewStore, StoreError, database

REPO = Path(__file__).resolve().parents[4]


@pytest.fixture
def written(tmp_path):
    """A folder with reviews, closed."""
    with ReviewStore.open(tmp_path) as store:
        hand = Hand(store, "Anna")
        for place in range(50):
            hand.cell(place)
    return tmp_path


def refused(folder, code, **options):
    """The text of the error by which a folder's reviews are not opened; the file is as it was."""
    path = folder / FILE
    before = path.read_bytes()
    with pytest.raises(StoreError) as error:
        ReviewStore.open(folder, **options)
    assert error.value.code == code
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    return str(error.value)


def test_a_new_file_is_ours_and_nothing_is_left_beside_it(tmp_path):
    ReviewStore.open(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone()[0] == 0x43794C62
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 2
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    mode = (tmp_path / FILE).stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    assert mode == 0o666 & ~mask


def test_entries_slides_and_readers_can_be_neither_changed_nor_deleted(written):
    with closing(sqlite3.connect(written / FILE, isolation_level=None)) as connection:
        for wish in (
            "UPDATE entries SET body = '{}'",
            "DELETE FROM entries WHERE id = 1",
            "UPDATE slides SET sha256 = ''",
            "DELETE FROM slides",
            "UPDATE readers SET name = 'Ben'",
            "DELETE FROM readers",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(wish)
        assert connection.execute("SELECT count(*) FROM entries").fetchone()[0] == 50


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "damaged"),
        (b"not a database at all" * 100, "damaged"),
        (b"SQLite format 3\x00" + b"\x07" * 4000, "damaged"),
    ],
    ids=["empty", "text", "header alone"],
)
def test_what_is_no_database_is_told_and_left(tmp_path, content, code):
    (tmp_path / FILE).write_bytes(content)
    refused(tmp_path, code)
    refused(tmp_path, code, read_only=True)


def test_a_damaged_file_is_told_and_left(written):
    content = bytearray((written / FILE).read_bytes())
    assert len(content) > 20_000
    content[8192:16384] = os.urandom(8192)
    (written / FILE).write_bytes(content)
    assert "it is damaged; it is left as it is" in refused(written, "damaged")


def test_damage_that_sqlite_quotes_in_no_letters_is_told_and_left(written):
    content = (written / FILE).read_bytes()
    assert b"CREATE TABLE" in content
    (written / FILE).write_bytes(content.replace(b"CREATE TABLE", b"CREATE \xf4ABLE"))
    refused(written, "damaged")
    refused(written, "damaged", read_only=True)


def test_half_a_file_is_told_and_left(written):
    content = (written / FILE).read_bytes()
    (written / FILE).write_bytes(content[: len(content) // 2])
    refused(written, "damaged")


def test_a_damage_that_shows_while_it_is_read_is_told(written):
    with ReviewStore.open(written) as store:
        store._connection.execute("DROP TRIGGER entries_stay")
        store._connection.execute("UPDATE entries SET body = '{}' WHERE version = 7")
        with pytest.raises(
            StoreError, match=r"the entries of slide-1 by Anna don't follow"
        ) as error:
            Hand(store, "Anna").reading()
    assert error.value.code == "damaged"


def test_another_programs_file_is_told_and_left(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    assert "another program's" in refused(tmp_path, "foreign")


def test_a_newer_file_is_told_and_left(written):
    with closing(sqlite3.connect(written / FILE)) as connection:
        connection.execute("PRAGMA user_version = 9")
    assert "its version is 9, this one knows 2" in refused(written, "newer")


def test_an_older_file_is_brought_up_to_date_and_keeps_all(written, monkeypatch):
    more = "CREATE TABLE more (x) STRICT;\n-- a remark; with a semicolon\nDROP TABLE more;"
    more = more.replace("(x)", "(x INTEGER)")
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, more))
    assert "an older CytoLibra" in refused(written, "read-only", read_only=True)
    with ReviewStore.open(written) as store:
        assert store._connection.execute("PRAGMA user_version").fetchone()[0] == 3
        assert Hand(store, "Anna").reading().version == 50


def test_a_file_of_the_first_version_takes_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
    database.create(tmp_path / FILE)
    monkeypatch.undo()
    with ReviewStore.open(tmp_path) as store:
        store.look(SLIDE, store.reader("Anna"))
        assert store.has_looked(SLIDE, store.reader("Anna"))
        for wish in ("UPDATE looks SET at = ''", "DELETE FROM looks"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                store._connection.execute(wish)


def test_a_migration_that_fails_leaves_the_version_before(written, monkeypatch):
    broken = "CREATE TABLE more (x INTEGER) STRICT;\nSELECT * FROM nowhere;"
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, broken))
    with pytest.raises(StoreError, match="nowhere"):
        ReviewStore.open(written)
    monkeypatch.undo()
    with ReviewStore.open(written) as store:
        assert Hand(store, "Anna").reading().version == 50


def test_many_that_make_the_file_at_once_share_one(tmp_path):
    stores, errors = [], []

    def begin():
        try:
            stores.append(ReviewStore.open(tmp_path))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    ids = {store.reader("Anna").id for store in stores}
    assert ids == {1}
    for store in stores:
        store.close()


def test_where_there_is_none_it_is_made_or_told_or_empty(tmp_path):
    with pytest.raises(StoreError, match="nothing was reviewed here") as error:
        ReviewStore.open(tmp_path, create=False)
    assert error.value.code == "missing"
    with ReviewStore.open(tmp_path, read_only=True) as store:
        assert store.slides() == []
        with pytest.raises(StoreError, match="for reading alone"):
            store.reader("Anna")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="there is no such folder"):
        ReviewStore.open(tmp_path / "gone")


def test_a_reader_sees_what_is_written_meanwhile_and_writes_nothing(written):
    with ReviewStore.open(written) as writer, ReviewStore.open(written, read_only=True) as reader:
        hand = Hand(writer, "Anna")
        assert reader.reading(SLIDE, hand.reader).version == 50
        hand.cell(1, "reject")
        assert reader.reading(SLIDE, hand.reader).cells[key(1)].verdict == "reject"
        with pytest.raises(StoreError, match="for reading alone"):
            Hand(reader, "Anna").cell(1)


def test_who_waits_too_long_for_another_process_is_told_and_nothing_is_kept(written, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    with (
        ReviewStore.open(written) as store,
        closing(sqlite3.connect(written / FILE, isolation_level=None)) as other,
    ):
        hand = Hand(store, "Anna")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process has been writing") as error:
            hand.cell(1, "reject")
        assert error.value.code == "locked"
        other.execute("ROLLBACK")
        assert hand.reading().version == 50
        assert hand.cell(1, "reject").version == 51


def test_a_full_disk_is_told_and_it_goes_on_when_there_is_room(written):
    with ReviewStore.open(written) as store:
        hand = Hand(store, "Anna")
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        kept, error = 50, None
        while error is None and kept < 1000:
            try:
                hand.cell(1, "reject", note="n" * 1500)
                kept += 1
            except StoreError as found:
                error = found
        assert error is not None
        assert error.code == "full"
        assert "the disk is full: this was not saved" in str(error)
        assert hand.reading().version == kept
        store._connection.execute("PRAGMA max_page_count = 1000000")
        assert hand.cell(1, "agree").version == kept + 1
    with ReviewStore.open(written) as store:
        assert Hand(store, "Anna").reading().version == kept + 1


def test_what_is_moved_away_while_it_is_open_takes_no_more(written):
    with ReviewStore.open(written) as store:
        hand = Hand(store, "Anna")
        (written / FILE).rename(written / "elsewhere")
        for _ in range(2):
            with pytest.raises(StoreError, match="moved, deleted or replaced") as error:
                hand.cell(1, "reject")
            (written / FILE).write_bytes((written / "elsewhere").read_bytes())
        assert error.value.code == "missing"
        (written / "elsewhere").replace(written / FILE)
        assert hand.cell(1, "reject").version == 51


@pytest.mark.parametrize("what", ["folder", "dangling"])
def test_what_is_no_file_is_told(tmp_path, what):
    if what == "folder":
        (tmp_path / FILE).mkdir()
    else:
        (tmp_path / FILE).symlink_to(tmp_path / "gone")
    with pytest.raises(StoreError, match=FILE) as error:
        ReviewStore.open(tmp_path)
    assert "\n" not in str(error.value)


_AS_NOBODY = """
import os, sys
from pathlib import Path
from pipeline.review.store import ReviewStore, SlideKey, StoreError, Reader
os.setuid(65534)
folder = Path(sys.argv[1])
try:
    with ReviewStore.open(folder) as store:
        store.reader("Ben")
except StoreError as error:
    print(error.code)
with ReviewStore.open(folder, read_only=True) as store:
    print(store.reading(SlideKey("5" * 64, "slide-1"), Reader(1, "Anna")).version)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="takes another user")
def test_in_a_folder_that_cant_be_written_it_is_read(written):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(written / FILE, folder / FILE)
        (folder / FILE).chmod(0o644)
        folder.chmod(0o755)
        found = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(folder)],
            cwd=REPO, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert found.stdout.split() == ["read-only", "50"], found.stderr
        assert [path.name for path in folder.iterdir()] == [FILE]
        log = folder / f"{FILE}-wal"
        log.write_bytes(b"what can't be read")
        found = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(folder)],
            cwd=REPO, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert "its last changes can't be read where nothing can be written" in found.stderr


def test_without_a_log_beside_it_reviews_are_kept_too(tmp_path, monkeypatch):
    real = database.use_wal

    def refuse(connection):
        connection.execute("PRAGMA journal_mode = DELETE")
        return False

    monkeypatch.setattr("pipeline.review.store.store.use_wal", refuse)
    with ReviewStore.open(tmp_path) as store:
        assert "can't keep a log beside it" in store.doubts[0]
        Hand(store, "Anna").cell(1)
        Hand(store, "Ben", OTHER).cell(2)
        assert not (tmp_path / f"{FILE}-wal").exists()
    monkeypatch.setattr("pipeline.review.store.store.use_wal", real)
    with ReviewStore.open(tmp_path) as store:
        assert store.doubts == ()
        assert store.slides() == [SLIDE, OTHER]
