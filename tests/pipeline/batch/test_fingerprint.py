import os
from collections import Counter
from pathlib import Path

import pytest
from fakes import MODEL, make_report

from pipeline.batch.batch import BatchPlan, is_done, screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.fingerprint import FileStamp, Fingerprint, Fingerprints, save_fingerprint
from pipeline.reports.report import SlideReport


def make_fingerprint(recipe: str) -> Fingerprint:
    files = (FileStamp(name="a.svs", size=1, mtime_ns=2),)
    return Fingerprint(recipe=recipe, files=files, sha256="0" * 64)


def test_a_fingerprint_is_read_again_where_its_file_is_another(tmp_path: Path) -> None:
    known = Fingerprints()
    assert known.load(tmp_path) is None
    save_fingerprint(make_fingerprint("1"), tmp_path)
    assert known.load(tmp_path) == make_fingerprint("1")
    path = tmp_path / "fingerprint.json"
    before = path.stat()
    save_fingerprint(make_fingerprint("2"), tmp_path)  # as large, and made to look as old
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known.load(tmp_path) == make_fingerprint("2")
    path.write_text("{")
    assert known.load(tmp_path) is None
    path.unlink()
    assert known.load(tmp_path) is None


class Deaf:
    def batch_started(self, slides: int) -> None: ...
    def slide_started(self, job: object) -> None: ...
    def slide_ended(self, job: object, record: object, report: object) -> None: ...


def test_a_resumed_batch_reads_each_fingerprint_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides, out = tmp_path / "slides", tmp_path / "out"
    slides.mkdir()
    for name in "abc":
        (slides / f"{name}.svs").write_bytes(b"x")
    jobs = discover([slides], out, with_images=False).jobs

    def screen(path: Path) -> SlideReport:
        return make_report(path)

    screen_batch(jobs, LocalEngine(screen), BatchPlan(out=out, model=MODEL, settings={}), Deaf())
    read = Counter[str]()
    real = Path.read_bytes

    def count(path: Path) -> bytes:
        read[path.name] += 1
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", count)
    plan = BatchPlan(out=out, model=MODEL, settings={})
    assert is_done(jobs, plan)
    result = screen_batch(jobs, LocalEngine(screen), plan, Deaf())
    assert result.reused == 3
    assert read["fingerprint.json"] == 3
