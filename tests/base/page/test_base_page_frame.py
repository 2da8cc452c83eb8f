"""The frame of all pages: what can't be seen is shown, and text has contrast in light and dark."""

import re
from pathlib import Path

import pytest

import gemmule.base.page
from gemmule.base.page import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x1b[2J\x0cc\td\n", "a␀b␛[2J␌c\td\n"),
        ("\x7f\x9b", "␡[U+009B]"),
        ("evil\u202etxt.exe", "evil[U+202E]txt.exe"),
        ("\u2066a\u2069\u200f\u2028", "[U+2066]a[U+2069][U+200F][U+2028]"),
        ("שלום 日本 👩\u200d🔬", "שלום 日本 👩\u200d🔬"),  # a joiner is part of a sign
    ],
)
def test_what_cannot_be_seen_is_shown(text, shown):
    assert visible(text) == shown


def test_text_reads_on_the_page_in_light_and_dark():
    css = (Path(gemmule.base.page.__file__).parent / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    )
    for palette in (light, dark):
        for paper in ("page", "panel"):
            for ink in ("ink", "quiet", "accent", "c0", "c1", "c2", "c3", "c4", "c5"):
                assert contrast(palette[ink], palette[paper]) >= 4.5, (ink, paper, palette[ink])


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, contrast ratio."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)
