"""The text as a river: its width is bytes, and what each step drops leaves it to the right.

A diagram of Sankey's kind (1898), from top to bottom, so that every step has a line for its words: wide, with columns
of figures; narrow, with figures under the step's name. Steps that dropped nothing have less room.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from gemmule.base import units
from gemmule.base.page.svg import element, picture, shorten
from gemmule.refine.page.record import Record, StepRecord
from gemmule.refine.page.told import told

THINNEST = 1.5  # pixels: what is there is seen
HEAD, FOOT = 64, 44  # above and below the rows


@dataclass(frozen=True)
class Layout:
    """Where things stand, in picture coordinates."""

    width: float
    left: float  # of the river
    widest: float  # the river
    aside: float  # how far what is dropped moves
    text: float  # where words begin that stand right of the river
    row: float  # the height of a step that drops something
    thin: float  # of one that does not


WIDE = Layout(width=1040, left=180, widest=420, aside=30, text=690, row=52, thin=28)
NARROW = Layout(width=350, left=2, widest=104, aside=14, text=142, row=54, thin=40)
COLUMNS = {"documents": 760, "bytes": 850, "share": 935, "changed": 1038}  # right ends, of the wide picture


def flow_wide(record: Record) -> Markup:
    return _flow(record, WIDE)


def flow_narrow(record: Record) -> Markup:
    return _flow(record, NARROW)


def _flow(record: Record, at: Layout) -> Markup:
    most = max((max(step.bytes_in, step.bytes_out) for step in record.steps), default=0)
    words = _wide_words if at is WIDE else _narrow_words
    top, rules, parts = float(HEAD), [_rule(at, HEAD)], [_beginning(record, at)]
    for step in record.steps:
        height = at.row if _takes(step) else at.thin
        parts += [_river(step, most, at, top, height), *words(step, record, top, height)]
        top += height
        rules.append(_rule(at, top))
    return picture(at.width, top + FOOT, _spoken(record), *rules, *parts, _end(record, at, top), class_="flow")


def _takes(step: StepRecord) -> bool:
    return step.dropped > 0 or step.lost > 0


def _river(step: StepRecord, most: int, at: Layout, top: float, height: float) -> Markup:
    """The band that goes on, and the one that leaves. Both keep their widths."""
    before, after = (_width(bytes, most, at) for bytes in (step.bytes_in, step.bytes_out))
    left, bottom = at.left, top + height
    start = before if step.lost < 0 else after  # where texts grew, the band does so within the row
    middle = (top + bottom) / 2
    band = element(
        "path",
        d=f"M{left} {top:.1f}H{left + start:.1f}"
        f"C{left + start:.1f} {middle:.1f} {left + after:.1f} {middle:.1f} {left + after:.1f} {bottom:.1f}H{left}Z",
        class_="kept",
    )
    if not _takes(step):
        return band
    thickness = max(before - after, THINNEST)
    inner, outer, end = left + after, left + after + thickness, bottom - 12
    bend, aside = (top + end) / 2, at.aside
    leaving = element(
        "path",
        element("title", f"{told(step).title}: {_said(step)}"),
        d=f"M{inner:.1f} {top:.1f}C{inner:.1f} {bend:.1f} {inner + aside:.1f} {bend:.1f} {inner + aside:.1f} {end:.1f}"
        f"H{outer + aside:.1f}C{outer + aside:.1f} {bend:.1f} {outer:.1f} {bend:.1f} {outer:.1f} {top:.1f}Z",
        class_="left",
    )
    return band + leaving


def _width(bytes: int, most: int, at: Layout) -> float:
    return max(THINNEST, at.widest * bytes / most) if bytes else 0.0


def _wide_words(step: StepRecord, record: Record, top: float, height: float) -> list[Markup]:
    """The name left of the river, figures in columns right of it."""
    y = top + height / 2 + 4.5
    style = "step" if _takes(step) or step.changed else "step idle"
    name = shorten(told(step).title, WIDE.left - 18, 14)
    written = [element("text", name, x=WIDE.left - 14, y=y, text_anchor="end", class_=style)]
    cells = {"documents": f"{step.dropped:,}" if step.dropped else units.DASH}
    cells |= {"bytes": units.size(step.lost), "share": units.share(step.lost, record.bytes_in)} if step.lost > 0 else {}
    cells |= {"changed": f"{step.changed:,}"} if step.changed else {}
    for column, text in cells.items():
        style = "tick" if text == units.DASH else "figure"
        written.append(element("text", text, x=COLUMNS[column], y=y, text_anchor="end", class_=style))
    return written


def _narrow_words(step: StepRecord, record: Record, top: float, height: float) -> list[Markup]:
    """Name and figures right of the river."""
    room = NARROW.width - NARROW.text
    style = "step" if _takes(step) or step.changed else "step idle"
    share, less = units.share(step.lost, record.bytes_in), units.size(step.lost)
    if step.dropped:
        said = f"{units.count(step.dropped)} dropped" + (f", {less}, {share}" if step.lost > 0 else "")
    else:
        changed = f"{units.count(step.changed)} changed"
        said = f"{changed}, {less} less" if step.lost > 0 else changed if step.changed else "nothing dropped"
    y = top + height / 2 - 3
    return [
        element("text", shorten(told(step).title, room, 14), x=NARROW.text, y=y, class_=style),
        element("text", shorten(said, room, 12.5), x=NARROW.text, y=y + 16, class_="tick"),
    ]


def _beginning(record: Record, at: Layout) -> Markup:
    """What comes in, above the river, and above the columns what they are."""
    words = _amount(record.documents_in, record.bytes_in)
    parts = [element("text", "In", x=at.left, y=HEAD - 32, class_="tick")]
    parts += [element("text", words, x=at.left, y=HEAD - 13, class_="amount")]
    if at is WIDE:
        titles = {"documents": "documents", "bytes": "bytes", "share": "of all bytes", "changed": "changed"}
        parts.append(element("text", "Dropped", x=COLUMNS["documents"], y=HEAD - 32, text_anchor="end", class_="tick"))
        parts += [
            element("text", title, x=COLUMNS[column], y=HEAD - 13, text_anchor="end", class_="tick")
            for column, title in titles.items()
        ]
    return Markup("").join(parts)


def _end(record: Record, at: Layout, top: float) -> Markup:
    words = _amount(record.documents_out, record.bytes_out)
    share = units.share(record.bytes_out, record.bytes_in)
    return element("text", f"{words}, {share}", x=at.left, y=top + 20, class_="amount") + element(
        "text", "Out", x=at.left, y=top + 38, class_="tick"
    )


def _rule(at: Layout, y: float) -> Markup:
    return element("line", x1=0, x2=at.width, y1=y, y2=y, class_="grid")


def _amount(documents: int, bytes: int) -> str:
    return f"{documents:,} document{'' if documents == 1 else 's'}, {units.size(bytes)}"


def _said(step: StepRecord) -> str:
    """What a step did, in a few words."""
    dropped = f"{step.dropped:,} document{'' if step.dropped == 1 else 's'} dropped" if step.dropped else ""
    less = f"{units.size(step.lost)} less" if step.lost > 0 else ""
    changed = f"{step.changed:,} changed" if step.changed else ""
    return ", ".join(part for part in (dropped, less, changed) if part) or "nothing dropped"


def _spoken(record: Record) -> str:
    """The picture in words, for who can't see it."""
    steps = "; ".join(f"{told(step).title}: {_said(step)}" for step in record.steps)
    ends = [_amount(record.documents_in, record.bytes_in), _amount(record.documents_out, record.bytes_out)]
    return f"The text through the refinery. In: {ends[0]}. {steps}. Out: {ends[1]}."
