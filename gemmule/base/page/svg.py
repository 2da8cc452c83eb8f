"""Small pieces of SVG, escaped, and what all pictures of a page share: styles of lines, ticks, text widths.

Pictures name their colours by CSS classes (`line-0` to `line-5`), so that one picture serves light, dark and paper.
A model has the same colour and the same dashes everywhere; 6 colours against 5 kinds of dash make 30 styles, told apart
without colour by dash alone among any 5 neighbours. The colours are Okabe and Ito's (2008), darkened or lightened until
text in them reads on the page.
"""

from __future__ import annotations

import math
import unicodedata

from markupsafe import Markup

COLOURS = 6
DASHES = ("", "7 3", "2 3", "9 3 2 3", "14 4")


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """`<tag attributes>children</tag>`, all escaped; `class_` and `stroke_width` are class and stroke-width."""
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _attribute(value))
        for name, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), written, content)


def picture(width: float, height: float, label: str, *children: str, class_: str) -> Markup:
    """An `<svg>` that keeps its natural size where it fits and shrinks where not; screen readers say `label`."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_attribute(width)} {_attribute(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
        class_=class_,
    )


def line_class(index: int) -> str:
    """The class that gives the model at `index` its colour."""
    return f"line-{index % COLOURS}"


def dashes(index: int) -> str | None:
    return DASHES[index % len(DASHES)] or None


def swatch(index: int) -> Markup:
    """A short piece of a model's line, for legends and tables."""
    line = element("line", x1=1, x2=31, y1=5, y2=5, stroke_dasharray=dashes(index), class_=f"curve {line_class(index)}")
    return element("svg", line, viewBox="0 0 32 10", width=32, height=10, aria_hidden="true", class_="swatch")


def path_through(points: list[tuple[float, float]]) -> str:
    """A path's `d` through points in picture coordinates, to a tenth of a pixel."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten apart) within [low, high], about `wanted` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def text_width(text: str, font_size: float) -> float:
    """About how wide `text` is in a sans-serif face: there is no browser to ask. Rather too wide than too narrow."""
    ems = sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else _EMS.get(letter, 0.59) for letter in text)
    return ems * font_size


def shorten(text: str, width: float, font_size: float) -> str:
    """`text`, its middle left out where it would be wider than `width`: names of a family differ at either end."""
    if text_width(text, font_size) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if text_width(short, font_size) <= width:
            return short
    return "…"


_EMS = dict.fromkeys("iljtfrI.,:;'|!()[] ", 0.36) | dict.fromkeys("mwMW@%", 0.9) | dict.fromkeys("ABCDEGHKNOQRU", 0.7)


def _attribute(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
