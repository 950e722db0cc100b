"""Faults on the page: told in words, with figures, and drawn where they are."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import make_cells, make_report

from pipeline.geometry import Size
from pipeline.reports.fault_views import squares_path, view_faults
from pipeline.reports.pages import render_report
from pipeline.reports.pictures import Overview, Pictures
from pipeline.reports.quality import Fault, FaultMap, Quality


def drawn_of(path, width, height):
    """The pixels that a path of rectangles covers, and how often."""
    picture = np.zeros((height, width), int)
    for x0, y0, x1, y1, back in re.findall(r"M(\S+) (\S+?)H(\S+?)V(\S+?)H(\S+?)z", path):
        assert back == x0
        picture[int(y0) : int(y1), int(x0) : int(x1)] += 1
    return picture


@pytest.mark.parametrize("seed", range(4))
def test_a_path_covers_each_square_once(seed):
    mask = np.random.default_rng(seed).random((9, 7)) < (0.2, 0.5, 0.9, 1.0)[seed]
    path = squares_path(mask, 3, (20, 27))
    expected = np.kron(mask, np.ones((3, 3), int))[:, :20]
    np.testing.assert_array_equal(drawn_of(path, 20, 27), expected)
    assert squares_path(np.ones((9, 7), bool), 3, (20, 27)) == "M0 0H20V27H0z"
    assert squares_path(np.zeros((9, 7), bool), 3, (20, 27)) == ""


@pytest.fixture
def report():
    """4000 x 3000 px, a third of it blurred; pen was looked for, and there is none."""
    jpeg = b"\xff\xd8"
    pictures = Pictures(Overview(jpeg, Size(1600, 1200), 2.5))
    made = make_report("slide.svs", make_cells(9), pictures=pictures)
    mask = np.zeros((6, 8), bool)
    mask[:, :3] = True
    blurred = Fault(share=0.375, limit=0.1, cells=4, abnormal_cells=2)
    none = Fault(share=0.0, limit=0.05, cells=0, abnormal_cells=0)
    made = made.model_copy(
        update={
            "quality": Quality(measured_mm2=0.75, least_sharp=0.3, out_of_focus=blurred, ink=none),
            "area": made.area.model_copy(update={"out_of_focus_mm2": 0.2949, "ink_mm2": 0.0}),
        }
    )
    nowhere = FaultMap(np.zeros((12, 16), bool), 256.0)
    made._faults = {"out_of_focus": FaultMap(mask, 512.0), "ink": nowhere}
    made._pictures = pictures
    return made


def test_views_have_area_share_and_place(report):
    blurred, ink = view_faults(report)
    assert (blurred.name, blurred.mm2, blurred.facts.share) == ("out_of_focus", 0.2949, 0.375)
    assert blurred.path == "M0 0H614.4V1200H0z"  # 3 squares of 512 px at 2.5 px each
    assert (ink.name, ink.path) == ("ink", "")


def test_the_page_draws_names_and_tells_them(report):
    page = render_report(report)
    assert '<pattern id="fault-out_of_focus"' in page
    assert page.count('fill="url(#fault-out_of_focus)"') == 2  # on the slide, and in the legend
    assert "fault-ink" not in page  # nothing is drawn of it, and nothing in the legend
    assert "abnormal cells; hatched: out of focus 0.29 mm²" in page
    table = page.split('<table class="quality">')[1].split("</table>")[0]
    row = table.split("Out of focus")[1].split("</tr>")[0]
    cells = re.findall(r'<td class="number.*?">(.*?)</td>', row)
    assert cells == ["0.29", "<strong>37.5%</strong>", "10%", "4", "2"]
    assert re.search(r'<tr class="zero"><th scope="row">Under a pen .*?0\.0%', table)
    assert "Sharpness could be measured on 0.75 mm²" in page


def test_a_report_without_any_says_nothing_of_it():
    page = render_report(make_report("slide.svs", make_cells(9)))
    assert "Quality of the picture" not in page
    assert "Hide faults" not in page
    assert view_faults(SimpleNamespace(quality=None, pictures=Pictures(), faults={})) == []
