"""The pictures: widths are bytes, heights are documents. Coordinates are worked out by hand."""

import itertools
import re
from xml.etree import ElementTree

import pytest
from made_refinery import step

from gemmule.refine.page.flow_picture import NARROW, THINNEST, WIDE, flow_narrow, flow_wide
from gemmule.refine.page.lengths_picture import lengths
from gemmule.refine.page.record import Record


def paths(picture: str, style: str) -> list[list[float]]:
    """Of each path of a class all numbers."""
    found = (each.get("d") or "" for each in ElementTree.fromstring(picture).iter("path") if each.get("class") == style)
    return [[float(number) for number in re.findall(r"-?[\d.]+", d)] for d in found]


def texts(picture: str) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(picture).iter("text")]


RECORD = Record.of(
    {
        "steps": [
            step("repair", (100, 100), (8_000, 8_000)),
            step("quality", (100, 60), (8_000, 6_000)),
            step("near_duplicates", (60, 59), (6_000, 5_999)),
            step("personal_data", (59, 59), (5_999, 7_999), changed=3),
        ]
    }
)


@pytest.mark.parametrize(("draw", "at"), [(flow_wide, WIDE), (flow_narrow, NARROW)])
def test_the_width_is_bytes(draw, at):
    """8,000 bytes are the widest, so 2,000 are a quarter of it; a byte is seen too."""
    _, quality, near, personal = paths(draw(RECORD), "kept")
    assert [quality[2] - quality[0], near[2] - near[0]] == pytest.approx(
        [0.75 * at.widest, 5_999 / 8_000 * at.widest], abs=0.2
    )
    grown = 7_999 / 8_000 * at.widest
    assert personal[2] - personal[0] == pytest.approx(5_999 / 8_000 * at.widest, abs=0.2)  # at its top
    assert personal[7] - personal[0] == pytest.approx(grown, abs=0.2)  # at its bottom
    leaving = paths(draw(RECORD), "left")
    widths = [numbers[8] - numbers[6] for numbers in leaving]  # from its inner to its outer side
    assert widths == pytest.approx([0.25 * at.widest, THINNEST], abs=0.2)


def test_steps_that_dropped_nothing_are_thin_and_all_are_told():
    tops = [numbers[1] for numbers in paths(flow_wide(RECORD), "kept")]
    assert [after - before for before, after in itertools.pairwise(tops)] == [WIDE.thin, WIDE.row, WIDE.row]
    shown = texts(flow_wide(RECORD))
    assert shown[shown.index("Quality rules") :][:4] == ["Quality rules", "40", "2\u00a0kB", "25.0%"]
    assert shown[shown.index("Near duplicates") :][:4] == ["Near duplicates", "1", "1\u00a0B", "<0.1%"]
    assert shown[shown.index("Personal data") :][:3] == ["Personal data", "–", "3"]
    assert "59 documents, 8\u00a0kB, >99.9%" in shown
    narrow = texts(flow_narrow(RECORD))
    assert narrow[narrow.index("Quality rules") + 1] == "40 dropped, 2\u00a0kB, 25.0%"
    assert narrow[narrow.index("Repair") + 1] == "nothing dropped"
    assert narrow[narrow.index("Personal data") + 1] == "3 changed"


def test_lengths_are_bars_over_powers_of_two_without_gaps():
    record = Record.of({"steps": [], "lengths": {"raw": [[64, 4], [512, 8]], "refined": [[512, 2]]}})
    picture = lengths(record, width=400, height=240)
    assert picture is not None
    bars = list(ElementTree.fromstring(picture).iter("rect"))
    raw = [float(each.get("height")) for each in bars if each.get("class") == "raw"]
    refined = [float(each.get("height")) for each in bars if each.get("class") == "refined"]
    assert raw == pytest.approx([94, 0, 0, 188], abs=0.1)  # 240 less 12 above and 40 below, at 8 documents
    assert refined == pytest.approx([0, 0, 0, 47], abs=0.1)
    titles = ["".join(each.itertext()) for each in bars if each.get("class") == "raw"]
    assert titles[-1] == "from 512\u00a0B: 8 before, 2 after"
    assert lengths(Record.of({"steps": []}), width=400, height=240) is None
