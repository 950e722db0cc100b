"""The summary while a run goes on, and by the files alone."""

import json
import shutil
from pathlib import Path

import pytest
from fakes import MODEL, make_report

from configs import ConfigError, Doubt
from pipeline.batch import telling
from pipeline.batch.batch import screen_batch
from pipeline.batch.batch_summary import summarise_folder
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.plan import BatchPlan
from pipeline.batch.run_record import Shard
from pipeline.errors import SlideError
from pipeline.reports.report import SlideReport
from pipeline.reports.tables import ReportSettings
from pipeline.slides.unread import NotRead

NAMES = ("a.svs", "b.svs", "c.svs", "sub/d \udcff.svs")


class Deaf:
    def batch_started(self, slides: int) -> None: ...
    def slide_started(self, job: object) -> None: ...
    def slide_ended(self, job: object, record: object, report: object) -> None: ...


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "slides" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "slides"


def screen(path: Path) -> SlideReport:
    if path.stem == "b":
        raise SlideError(f"{path}: truncated")
    return make_report(path, warnings=("Blurred.",) if path.stem == "a" else ())


def run(slides: Path, out: Path, how: object = screen, listener: object = None, **more: object):
    jobs = discover([slides], out, with_images=False).jobs
    plan = BatchPlan(out=out, model=MODEL, settings={"reports": {"csv": "excel-comma"}}, **more)
    return screen_batch(jobs, LocalEngine(how, slots=1), plan, listener or Deaf())


def pages(out: Path) -> tuple[bytes, ...]:
    return tuple((out / name).read_bytes() for name in ("summary.csv", "summary.html"))


def test_by_the_files_alone_it_is_the_one_that_the_run_has_written(
    slides: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    doubt = Doubt(code="files-not-read", text="1 file looks like a slide")
    unread = NotRead(slides / "x.kfb", "KFBIO", "export it")
    for index in (1, 2):
        run(slides, out, shard=Shard(index=index, count=2), doubts=(doubt,), not_read=(unread,))
    written = pages(out)
    assert "d \\udcff.svs" in written[0].decode("utf-8-sig")
    for name in ("summary.csv", "summary.html", ".results.jsonl"):
        (out / name).unlink()
    page, told = summarise_folder(out)
    assert (page, told) == (out / "summary.html", ())
    assert pages(out) == written
    summarise_folder(out)  # and by what is known now
    assert pages(out) == written


def test_a_result_of_other_settings_counts_no_more(slides: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    run(slides, out)
    jobs = discover([slides], other, with_images=False).jobs
    plan = BatchPlan(out=other, model=MODEL, settings={"threshold": 0.9})
    screen_batch(jobs, LocalEngine(screen, slots=1), plan, Deaf())
    shutil.rmtree(out / "a.svs")
    shutil.copytree(other / "a.svs", out / "a.svs")
    summarise_folder(out)
    rows = (out / "summary.csv").read_text("utf-8-sig").splitlines()
    (row,) = (row for row in rows if row.startswith("a.svs;"))
    assert ";pending;" in row
    assert "[mixed-settings]" in row


def test_a_workbook_that_was_asked_for_is_kept_up(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ({"reports": {"xlsx": True, "xlsx_score": 0.7}}, None)
    run(slides, out, reports=ReportSettings(xlsx=True, xlsx_score=0.7), given=given)
    book = (out / "summary.xlsx").read_bytes()
    (out / "summary.xlsx").write_bytes(b"")
    summarise_folder(out)
    assert (out / "summary.xlsx").read_bytes() == book


def test_without_a_batch_or_a_place_to_write_it_is_refused(slides: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        summarise_folder(tmp_path / "none")
    out = tmp_path / "out"
    run(slides, out)
    (out / "summary.html").unlink()
    (out / "summary.html").mkdir()
    with pytest.raises(ConfigError, match="the summary can't be written"):
        summarise_folder(out)


class Looking:
    """Looks at the summary whenever a slide has ended, before the batch goes on."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.seen: list[str | None] = []

    def batch_started(self, slides: int) -> None: ...

    def slide_started(self, job: object) -> None:
        page = self.out / "summary.html"
        self.seen.append(page.read_text("utf-8") if page.exists() else None)

    def slide_ended(self, job: object, record: object, report: object) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The batch's clock: a minute goes by with each look."""
    now = [0.0]

    def look() -> float:
        now[0] += 60.0
        return now[0]

    monkeypatch.setattr(telling.time, "monotonic", look)
    return now


def test_a_long_run_says_now_and_then_how_far_it_is(
    slides: Path, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_SUMMARY_COST", 0)
    out = tmp_path / "out"
    looking = Looking(out)
    run(slides, out, listener=looking, reports=ReportSettings(xlsx=True))
    seen = [page for page in looking.seen if page]
    assert "The run goes on: this is how it stood at 20" in seen[0]
    assert "with 1 of 4 slides done." in seen[0]
    assert "Not reached" in seen[0]
    assert "with 3 of 4 slides done." in seen[-1] or "with 2 of 4 slides done." in seen[-1]
    # At the end it says so no more, and only then the workbook is written.
    assert "The run goes on" not in (out / "summary.html").read_text("utf-8")
    assert (out / "summary.xlsx").exists()
    clean = tmp_path / "clean"
    run(slides, clean, reports=ReportSettings(xlsx=True))
    assert pages(clean) == pages(out)


def test_it_costs_a_fiftieth_of_the_time_at_most(
    slides: Path, tmp_path: Path, clock: list[float]
) -> None:
    """It took a minute: the next one comes no sooner than 50 minutes later."""
    looking = Looking(tmp_path / "out")
    run(slides, tmp_path / "out", listener=looking)
    told = {page for page in looking.seen if page}
    assert len(told) == 1


def test_a_summary_in_between_that_can_t_be_written_is_no_failure(
    slides: Path, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_SUMMARY_COST", 0)
    real, tries = telling.write_summary, []

    def write(*arguments: object, **more: object) -> tuple[Doubt, ...]:
        tries.append(more["as_of"])
        if more["as_of"]:
            raise OSError(28, "No space left on device")
        return real(*arguments, **more)

    monkeypatch.setattr(telling, "write_summary", write)
    result = run(slides, tmp_path / "out")
    assert result.problem is None
    assert len(tries) > 1
    assert tries[-1] == ""


def test_what_the_record_of_an_older_version_lacks_is_taken_by_default(
    slides: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(slides, out)
    written = pages(out)
    record = json.loads((out / "run.json").read_text("utf-8"))
    record["given"] = {"reports": {"unheard-of": 1}}
    (out / "run.json").write_text(json.dumps(record), "utf-8")
    summarise_folder(out)
    assert pages(out) == written
