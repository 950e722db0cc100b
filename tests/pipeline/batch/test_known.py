"""What is known of results without reading them: right or not there, whatever its file holds."""

import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import MODEL, make_cells, make_report

from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import SlideJob, discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.fingerprint import (
    FileStamp,
    Fingerprint,
    save_fingerprint,
    slide_of,
    stamp_files,
)
from pipeline.batch.known import FILE, KnownResults
from pipeline.batch.plan import BatchPlan, is_done
from pipeline.reports.report import SlideReport, encodable
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.writers import to_json

RECIPE = "r" * 64


class Deaf:
    def batch_started(self, slides: int) -> None: ...
    def slide_started(self, job: object) -> None: ...
    def slide_ended(self, job: object, record: object, report: object) -> None: ...


@pytest.fixture
def jobs(tmp_path: Path) -> tuple[SlideJob, ...]:
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("a.svs", "b.svs", "ü\udcff.svs"):
        (slides / name).write_bytes(b"x")
    return discover([slides], tmp_path / "out", with_images=False).jobs


@pytest.fixture
def out(tmp_path: Path, jobs: tuple[SlideJob, ...]) -> Path:
    """A folder with a result of each slide, of which nothing is known yet."""
    for seed, job in enumerate(jobs):
        put(tmp_path / "out", job, seed)
    return tmp_path / "out"


def report_of(job: SlideJob, seed: int) -> SlideReport:
    return make_report(job.path, make_cells(20 + seed, seed), warnings=("odd",) * (seed % 2))


def put(out: Path, job: SlideJob, seed: int = 0, recipe: str = RECIPE) -> None:
    place = out / job.name
    place.mkdir(parents=True, exist_ok=True)
    text = to_json(report_of(job, seed).model_dump(mode="json"))
    (place / "report.json").write_text(text, encoding="utf-8", errors="backslashreplace")
    made = Fingerprint(recipe=recipe, files=stamp_files(job), sha256="0" * 64, mpp=job.mpp)
    save_fingerprint(made, place)


def kept(out: Path, jobs: tuple[SlideJob, ...]) -> Path:
    """The file of what is known, of all of them."""
    known = KnownResults(out)
    for job in jobs:
        known.summary(job.name)
    known.save()
    return out / FILE


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often files of each name are read whole."""
    times = Counter[str]()
    real = Path.read_bytes

    def count(path: Path) -> bytes:
        times[path.name] += 1
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", count)
    return times


def test_what_is_kept_is_what_the_reports_say_and_is_not_read_again(
    out: Path, jobs: tuple[SlideJob, ...], read: Counter[str]
) -> None:
    kept(out, jobs)
    read.clear()
    known = KnownResults(out)
    told = [known.summary(job.name) for job in jobs]
    assert [known.is_current(job, RECIPE) for job in jobs] == [True] * 3
    assert not read
    assert told == [SlideSummary.of(report_of(job, seed)) for seed, job in enumerate(jobs)]
    assert [one.codes for one in told if one] == [(), ("uncoded",), ()]
    assert [one.cells for one in told if one] == [20, 21, 22]
    # What they have in common is held once.
    assert len({id(one.common) for one in told if one}) == 1


def test_a_recipe_is_told_without_reading_a_report(
    out: Path, jobs: tuple[SlideJob, ...], read: Counter[str]
) -> None:
    put(out, jobs[1], recipe="another")
    (out / "c.svs").mkdir()
    (out / "c.svs/fingerprint.json").write_bytes((out / "a.svs/fingerprint.json").read_bytes())
    read.clear()
    names = [*(job.name for job in jobs), "c.svs", "none"]
    told = [RECIPE, "another", RECIPE, None, None]
    assert [*map(KnownResults(out).recipe, names)] == told
    assert read == {"fingerprint.json": 3}
    kept(out, jobs)
    read.clear()
    assert [*map(KnownResults(out).recipe, names)] == told
    assert not read


def test_a_result_that_is_another_one_is_read_again_even_if_it_looks_as_old(
    out: Path, jobs: tuple[SlideJob, ...]
) -> None:
    kept(out, jobs)
    report = out / "a.svs" / "report.json"
    before = report.stat()
    other = report.with_name("other")
    other.write_bytes((out / "b.svs" / "report.json").read_bytes())
    os.replace(other, report)
    with report.open("r+b") as stream:
        stream.truncate(max(before.st_size, report.stat().st_size))
    os.utime(report, ns=(before.st_atime_ns, before.st_mtime_ns))
    known = KnownResults(out)
    assert known.summary("b.svs") == SlideSummary.of(report_of(jobs[1], 1))
    assert known.summary("a.svs") != SlideSummary.of(report_of(jobs[0], 0))


def test_a_fingerprint_alone_that_is_another_one_counts(
    out: Path, jobs: tuple[SlideJob, ...]
) -> None:
    kept(out, jobs)
    known = KnownResults(out)
    assert known.is_current(jobs[0], RECIPE)
    place = out / jobs[0].name
    before = (place / "fingerprint.json").stat()
    other = Fingerprint(recipe="s" * 64, files=stamp_files(jobs[0]), sha256="0" * 64)
    save_fingerprint(other, place)  # as large, and made to look as old
    os.utime(place / "fingerprint.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not known.is_current(jobs[0], RECIPE)
    assert known.is_current(jobs[0], "s" * 64)
    (place / "fingerprint.json").unlink()
    assert not known.is_current(jobs[0], "s" * 64)


def test_a_slide_that_is_another_one_has_no_current_result(
    out: Path, jobs: tuple[SlideJob, ...]
) -> None:
    kept(out, jobs)
    known = KnownResults(out)
    jobs[0].path.write_bytes(b"yy")
    jobs[1].path.unlink()
    assert [known.is_current(job, RECIPE) for job in jobs] == [False, False, True]
    assert known.is_current(replace(jobs[1], gone=True), RECIPE)
    assert not known.is_current(replace(jobs[2], mpp=0.3), RECIPE)


def test_where_only_a_time_differs_the_content_is_compared_once(
    out: Path, jobs: tuple[SlideJob, ...], read: Counter[str]
) -> None:
    from pipeline.batch.fingerprint import hash_content

    made = Fingerprint(recipe=RECIPE, files=stamp_files(jobs[0]), sha256=hash_content(jobs[0]))
    save_fingerprint(made, out / "a.svs")
    kept(out, jobs)
    os.utime(jobs[0].path, ns=(1, 1))
    known = KnownResults(out)
    assert known.is_current(jobs[0], RECIPE)
    known.summary("a.svs")
    known.save()
    read.clear()
    again = KnownResults(out)
    assert again.is_current(jobs[0], RECIPE)
    assert not read


def cut(text: str) -> str:
    return text[: len(text) // 2]


def change(old: str, new: str) -> Callable[[str], str]:
    def make(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return make


def sealed(text: str) -> str:
    """Lines whose checksums are right whatever they say."""
    lines = [line.partition(" ")[2] for line in text.splitlines()]
    return "".join(f"{zlib.crc32(line.encode()):08x} {line}\n" for line in lines)


@pytest.mark.parametrize("seal", [str, sealed])
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda text: "",
        lambda text: "\0" * 99,
        lambda text: "[" * 100_000,
        change('["cytolibra results", 2', '["cytolibra results", 3'),
        change('"best"]]', '"best", "worst"]]'),
        change('{"0"', '{"1"'),
        change('{"0"', '{"x"'),
        change('"abnormal": true', '"abnormal": "yes"'),
        change(", 0, null, ", ", 7, null, "),
        change(", 0, null, ", ", -1, null, "),
        change(", 0, null, ", ', 0, "x", '),
        change("[[", "["),
        lambda text: text + '["a.svs"]\n',
        lambda text: text + "x" * 3_000_000,
    ],
)
def test_a_damaged_newer_or_foreign_file_costs_time_alone(
    out: Path,
    jobs: tuple[SlideJob, ...],
    damage: Callable[[str], str],
    seal: Callable[[str], str],
    read: Counter[str],
) -> None:
    path = kept(out, jobs)
    path.write_text(seal(damage(path.read_text("ascii"))), "ascii")
    known = KnownResults(out)
    told = [known.summary(job.name) for job in jobs]
    assert told == [SlideSummary.of(report_of(job, seed)) for seed, job in enumerate(jobs)]
    known.save()
    read.clear()
    assert [KnownResults(out).summary(job.name) for job in jobs] == told
    assert not read


def test_a_bit_that_has_flipped_costs_its_line_and_is_never_believed(
    out: Path, jobs: tuple[SlideJob, ...], read: Counter[str]
) -> None:
    path = kept(out, jobs)
    whole = path.read_bytes()
    head, made, *lines = whole.splitlines(keepends=True)
    told = [SlideSummary.of(report_of(job, seed)) for seed, job in enumerate(jobs)]
    # A count is another: a line as sound as any other, but for its checksum.
    (counts,) = re.findall(rb"\[\d+(?:, \d+)+\]", lines[1])
    flipped = lines[1].replace(counts, counts.replace(b"[", b"[1"))
    path.write_bytes(b"".join([head, made, lines[0], flipped, lines[2]]))
    read.clear()
    known = KnownResults(out)
    assert [known.summary(job.name) for job in jobs] == told
    assert read["report.json"] == 1
    # Any bit at all, those of line breaks and of what others refer to among them.
    for at in range(0, 8 * len(whole), 97):
        broken = bytearray(whole)
        broken[at // 8] ^= 1 << at % 8
        path.write_bytes(broken)
        known = KnownResults(out)
        assert [known.summary(job.name) for job in jobs] == told, at


def test_two_that_save_at_once_leave_what_both_know(out: Path, jobs: tuple[SlideJob, ...]) -> None:
    one, two = KnownResults(out), KnownResults(out)
    one.summary(jobs[0].name)
    two.summary(jobs[1].name)
    one.save()
    two.save()
    _, *lines = (json.loads(line[9:]) for line in (out / FILE).read_text("ascii").splitlines())
    names = [line[0] for line in lines if isinstance(line, list)]
    assert sorted(names) == [jobs[0].name, jobs[1].name]


def test_results_that_are_gone_are_forgotten(out: Path, jobs: tuple[SlideJob, ...]) -> None:
    path = kept(out, jobs)
    for name in ("report.json", "fingerprint.json"):
        (out / "b.svs" / name).unlink()
    put(out, jobs[0], 7)
    known = KnownResults(out)
    known.summary(jobs[0].name)
    known.save()
    assert '"b.svs"' not in path.read_text("ascii")
    assert '"a.svs"' in path.read_text("ascii")


def test_a_file_that_can_t_be_written_stops_nothing(out: Path, jobs: tuple[SlideJob, ...]) -> None:
    (out / FILE).mkdir()
    (out / FILE / "x").touch()
    known = KnownResults(out)
    assert known.is_current(jobs[0], RECIPE)
    known.save()
    assert not list(out.glob(".partial-*"))


def test_a_resumed_batch_reads_no_result_again_and_one_of_a_lost_file_each_once(
    tmp_path: Path, read: Counter[str], jobs: tuple[SlideJob, ...]
) -> None:
    out = tmp_path / "out"

    def screen(path: Path) -> SlideReport:
        return make_report(path)

    screen_batch(jobs, LocalEngine(screen), BatchPlan(out=out, model=MODEL, settings={}), Deaf())
    pages = (out / "summary.csv").read_bytes(), (out / "summary.html").read_bytes()
    for times in (0, 3):
        read.clear()
        plan = BatchPlan(out=out, model=MODEL, settings={})
        assert is_done(jobs, plan)
        result = screen_batch(jobs, LocalEngine(screen), plan, Deaf())
        assert result.reused == 3
        assert read["fingerprint.json"] == read["report.json"] == times
        assert ((out / "summary.csv").read_bytes(), (out / "summary.html").read_bytes()) == pages
        (out / FILE).unlink()


def test_a_slide_is_found_again_by_what_its_report_says(jobs: tuple[SlideJob, ...]) -> None:
    for job in jobs:  # of one of which the name is no text
        found = slide_of(encodable(job.where), job.name, None)
        assert (found.path, found.gone) == (job.path, False)
    folder, name = jobs[0].path.parent, "\udcff.dat"
    (folder / name).touch()
    stamps = tuple(FileStamp(name=encodable(n), size=0, mtime_ns=0) for n in ("a.svs", name))
    made = Fingerprint(recipe=RECIPE, files=stamps, sha256="")
    found = slide_of(encodable(jobs[0].where), "a.svs", made)
    assert (found.companions, found.gone) == ((folder / name,), False)
    (folder / name).unlink()
    assert slide_of(encodable(jobs[0].where), "a.svs", made).gone
