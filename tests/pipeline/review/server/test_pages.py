"""Pages of reports that the reading room serves."""

from pathlib import Path


def test_a_report_that_is_served_leads_to_its_slide_here(browser, folder: Path):
    page = browser.get(f"{browser.slide}/report.html").text
    slide = browser.slide.rsplit("/", 1)[-1]
    assert f'<a href="/#/slide/{slide}" target="_blank" rel="noopener">Read this slide here' in page
    # The file itself names no server: it is opened where none runs, too.
    for path in (folder / "reports").rglob("report.html"):
        kept = path.read_text(encoding="utf-8")
        assert "#/slide/" not in kept
        assert "<code>cytolibra view</code>" in kept
