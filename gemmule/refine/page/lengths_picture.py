"""How long documents are, before and after: bars over powers of 2, the refined in front of the raw."""

from __future__ import annotations

from markupsafe import Markup

from gemmule.base import units
from gemmule.base.page.svg import element, nice_ticks, picture
from gemmule.refine.page.record import Bins, Record

LEFT, TOP, BOTTOM = 54, 12, 40  # room for ticks
LABEL = 52  # pixels that a label below a bar needs


def lengths(record: Record, *, width: float, height: float) -> Markup | None:
    """None where no lengths are known."""
    raw, refined = dict(record.raw_lengths), dict(record.refined_lengths)
    if not raw and not refined:
        return None
    bins = _bins([*raw, *refined])
    most = max([1, *raw.values(), *refined.values()])
    floor, room = height - BOTTOM, (width - LEFT - 2) / len(bins)

    def y(documents: float) -> float:
        return floor - (floor - TOP) * documents / most

    parts = []
    for tick in nice_ticks(0, most, 4):
        if tick == int(tick):
            parts.append(element("line", x1=LEFT, x2=width, y1=y(tick), y2=y(tick), class_="grid"))
            parts.append(_label(units.count(int(tick)), LEFT - 8, y(tick) + 4, "end"))
    every = -int(-LABEL // room)
    for number, low in enumerate(bins):
        left = LEFT + number * room
        counts = raw.get(low, 0), refined.get(low, 0)
        title = element("title", f"from {units.size(low)}: {counts[0]:,} before, {counts[1]:,} after")
        for documents, margin, style in ((counts[0], 0.08, "raw"), (counts[1], 0.24, "refined")):
            place = {"x": left + margin * room, "y": y(documents), "width": room * (1 - 2 * margin)}
            parts.append(element("rect", title, **place, height=floor - y(documents), class_=style))
        if number % every == 0:
            parts.append(_label(units.size(low), left + room / 2, floor + 18, "middle"))
    parts.append(element("line", x1=LEFT, x2=width, y1=floor, y2=floor, class_="axis"))
    spoken = "Documents by length, before and after: " + _spoken(record.raw_lengths, refined)
    return picture(width, height, spoken, *parts, class_="lengths")


def _label(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_="tick")


def _bins(lows: list[int]) -> list[int]:
    """Where the bars begin, in order: none is left out between the first and the last."""
    powers = [low.bit_length() - 1 for low in lows if low > 0] or [0]
    return sorted({*lows, *(2**power for power in range(min(powers), max(powers) + 1))})


def _spoken(raw: Bins, refined: dict[int, int]) -> str:
    return "; ".join(f"from {units.size(low)} {documents:,} and {refined.get(low, 0):,}" for low, documents in raw)
