"""The family as a picture: a box for each model, a line for each thing that one gave to another.

Wide, generations stand in columns from left to right: layered drawing (Sugiyama, Tagawa and Toda 1981), a generation
being the longest path from a model that got nothing, and a line over several generations getting a passage of its own
through those between. Narrow, the boxes stand below one another and the lines run down the left margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from gemmule.base import units
from gemmule.base.page.svg import dashes, element, line_class, picture, shorten
from gemmule.report.contents import ModelReport

Kind = Literal["teaches", "gives weights", "like"]
BOX_WIDTH, BOX_HEIGHT, LINE_HEIGHT = 212, 80, 19
COLUMN_GAP, ROW_GAP, PASSAGE = 150, 30, 8
NAME, LINE = 16, 12.5  # font sizes, the name's with the width of bold type in it


@dataclass(frozen=True)
class Edge:
    """`giver` teaches `taker`, gives it the weights that it starts from, or is the model that it is like."""

    giver: str
    taker: str
    kind: Kind


@dataclass(frozen=True)
class Box:
    """Where a model stands; `left` and `top` in picture coordinates. A passage is a box without width or content."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2

    @property
    def right(self) -> float:
        return self.left + self.width


def edges_of(models: Mapping[str, ModelReport]) -> list[Edge]:
    """Who gave what to whom. Givers from outside the run are edges too, patterns from outside are not."""
    found = []
    for name, report in models.items():
        if report.learn_from is not None and report.learn_from != name:
            found.append(Edge(report.learn_from, name, "teaches"))
        if report.start_from is not None and report.start_from != name:
            found.append(Edge(report.start_from, name, "gives weights"))
        if report.like is not None and report.like in models and report.like != name:
            found.append(Edge(report.like, name, "like"))
    return found


def generations(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The column of each name, from 0: past all those it got something from, and no earlier than those it is like.

    So a control stands beside its student.
    """

    def column(name: str, seen: frozenset[str]) -> int:
        seen = seen | {name}  # recipes refuse cycles; a picture of one must still end
        mine = [edge for edge in edges if edge.taker == name and edge.giver not in seen]
        return max((column(edge.giver, seen) + (edge.kind != "like") for edge in mine), default=0)

    return {name: column(name, frozenset()) for name in names}


def family_wide(models: Mapping[str, ModelReport]) -> Markup:
    """Generations in columns, lines from left to right."""
    edges = edges_of(models)
    columns = _columns(models, edges)
    boxes = _place(columns)
    height = max(box.top + box.height for box in boxes.values()) + 2
    width = max(box.right for box in boxes.values()) + 44  # room for dotted lines round a box
    lines = [_wide_line(edge, edges, boxes) for edge in edges]
    parts = [line for line, _ in lines] + [label for _, label in lines]  # labels above all lines
    parts += [_box(name, models, boxes[name]) for name in _names(models, edges)]
    return picture(width, height, _spoken(models, edges), *parts, class_="family")


def family_narrow(models: Mapping[str, ModelReport], *, width: float) -> Markup:
    """Boxes below one another, oldest first; everything that a model gives one kind of leaves by one line."""
    edges = edges_of(models)
    names = _names(models, edges)
    column = generations(names, edges)
    names.sort(key=lambda name: column[name])
    givers = list(dict.fromkeys((edge.giver, edge.kind) for edge in edges))
    gutter = min(18.0, 110 / max(len(givers), 1))  # between two lines
    left = gutter * len(givers) + (10 if givers else 1)
    boxes: dict[str, Box] = {}
    top = 2.0
    for name in names:
        height = BOX_HEIGHT + LINE_HEIGHT * sum(edge.taker == name for edge in edges)
        boxes[name] = Box(left, top, width - left - 2, height)
        top += height + 18
    parts = [_margin_line(14 + gutter * lane, giver, kind, edges, boxes) for lane, (giver, kind) in enumerate(givers)]
    for name in names:
        relations = [f"{_SAYS[edge.kind]} {edge.giver}" for edge in edges if edge.taker == name]
        parts.append(_box(name, models, boxes[name], relations))
    return picture(width, top - 16, _spoken(models, edges), *parts, class_="family")


def _names(models: Mapping[str, ModelReport], edges: Sequence[Edge]) -> list[str]:
    """Givers from outside first, then the models."""
    return [*dict.fromkeys(edge.giver for edge in edges if edge.giver not in models), *models]


def _columns(models: Mapping[str, ModelReport], edges: Sequence[Edge]) -> list[list[str | Edge]]:
    """What stands in each column, from top to bottom: names, and edges that pass through.

    The first column is in the order of whom they give to; the others are ordered by where their givers stand (the
    barycentre heuristic), so that few lines cross. A model follows the one that it is like.
    """
    names = _names(models, edges)
    column = generations(names, edges)
    columns: list[list[str | Edge]] = [[] for _ in range(max(column.values()) + 1)]
    for name in names:
        columns[column[name]].append(name)
    for edge in edges:
        if edge.kind != "like":
            for between in range(column[edge.giver] + 1, column[edge.taker]):
                columns[between].append(edge)
    position: dict[str | Edge, float] = {}

    def rank(item: str | Edge) -> float:
        if isinstance(item, Edge):
            return position.get(item.giver, 0.0)
        gifts = [edge for edge in edges if edge.kind != "like" and item in (edge.giver, edge.taker)]
        givers = [position[edge.giver] for edge in gifts if edge.taker == item and edge.giver in position]
        if column[item] > 0 and givers:
            return sum(givers) / len(givers)
        return min((names.index(edge.taker) for edge in gifts if edge.giver == item), default=names.index(item))

    for items in columns:
        items.sort(key=rank)  # stable: the recipe's order otherwise
        for edge in reversed(edges):
            if edge.kind == "like" and edge.giver in items and edge.taker in items:
                items.remove(edge.taker)
                items.insert(items.index(edge.giver) + 1, edge.taker)
        position |= {item: place - (len(items) - 1) / 2 for place, item in enumerate(items)}
    return columns


def _place(columns: Sequence[Sequence[str | Edge]]) -> dict[str | tuple[Edge, int], Box]:
    """Boxes of names and of passages (edge, column), every column centred on the same height."""

    def height_of(item: str | Edge) -> float:
        return BOX_HEIGHT if isinstance(item, str) else PASSAGE

    heights = [sum(height_of(item) for item in items) + ROW_GAP * (len(items) - 1) for items in columns]
    boxes: dict[str | tuple[Edge, int], Box] = {}
    for number, items in enumerate(columns):
        left = 2 + number * (BOX_WIDTH + COLUMN_GAP)
        top = 2 + (max(heights) - heights[number]) / 2
        for item in items:
            key = item if isinstance(item, str) else (item, number)
            boxes[key] = Box(left, top, BOX_WIDTH, height_of(item))
            top += height_of(item) + ROW_GAP
    return boxes


def _wide_line(edge: Edge, edges: Sequence[Edge], boxes: Mapping[str | tuple[Edge, int], Box]) -> tuple[Markup, Markup]:
    """The line of an edge, and the word on it."""
    giver, taker = boxes[edge.giver], boxes[edge.taker]
    if edge.kind == "like":
        return _like_line(giver, taker)
    entries = [each for each in edges if each.taker == edge.taker and each.kind != "like"]
    entry = taker.middle + 26 * (entries.index(edge) - (len(entries) - 1) / 2)
    path = f"M{giver.right:.1f} {giver.middle:.1f}"
    x, y = giver.right, giver.middle
    for passage in (box for key, box in boxes.items() if isinstance(key, tuple) and key[0] == edge):
        path += _bend(x, y, passage.left, passage.middle) + f"H{passage.right:.1f}"
        x, y = passage.right, passage.middle
    straight = 28 + 6.2 * len(edge.kind)  # the label stands on it
    path += _bend(x, y, taker.left - straight, entry) + f"H{taker.left - 9:.1f}"
    label = element("text", edge.kind, x=taker.left - 15, y=entry - 6, text_anchor="end", class_="edge-label")
    return element("path", d=path, class_=_edge_class(edge.kind)) + _arrow(taker.left - 1, entry), label


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    """A curve that leaves and arrives level."""
    middle = (x + to_x) / 2
    return f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _like_line(one: Box, other: Box) -> tuple[Markup, Markup]:
    """Dotted, without an arrow: straight between neighbours, round the right side of what stands between."""
    upper, lower = sorted((one, other), key=lambda box: (box.top, box.left))
    style = _edge_class("like")
    if upper.left == lower.left and lower.top - upper.top - upper.height <= ROW_GAP + 1:
        x = upper.left + 34
        path = f"M{x:.1f} {upper.top + upper.height:.1f}V{lower.top:.1f}"
        label = element("text", "like", x=x + 8, y=lower.top - ROW_GAP / 2 + 4.5, class_="edge-label")
        return element("path", d=path, class_=style), label
    if upper.left == lower.left:
        start, end, out = upper.middle + 22, lower.middle - 22, upper.right + 40
        path = f"M{upper.right:.1f} {start:.1f}C{out:.1f} {start:.1f} {out:.1f} {end:.1f} {lower.right:.1f} {end:.1f}"
        return element("path", d=path, class_=style), Markup("")
    left, right = sorted((one, other), key=lambda box: box.left)
    start, end = left.middle + 26, right.middle + 26
    path = f"M{left.right:.1f} {start:.1f}" + _bend(left.right, start, right.left, end)
    return element("path", d=path, class_=style), Markup("")


def _margin_line(out: float, giver: str, kind: Kind, edges: Sequence[Edge], boxes: Mapping[str, Box]) -> Markup:
    """All that one giver gives of one kind: a line down the margin, `out` from the boxes, a branch to each taker."""
    left = boxes[giver].left
    x = left - out
    kinds = list(dict.fromkeys(edge.kind for edge in edges if edge.giver == giver))
    start = boxes[giver].top + boxes[giver].height - 12 - 14 * kinds.index(kind)
    parts = []
    for edge in edges:
        if (edge.giver, edge.kind) != (giver, kind):
            continue
        box = boxes[edge.taker]
        end = box.top + 16 + 16 * [each for each in edges if each.taker == edge.taker].index(edge)
        bend = 6 if end > start else -6
        path = (
            f"M{left:.1f} {start:.1f}H{x + 6:.1f}Q{x:.1f} {start:.1f} {x:.1f} {start + bend:.1f}"
            f"V{end - bend:.1f}Q{x:.1f} {end:.1f} {x + 6:.1f} {end:.1f}H{left - (0 if kind == 'like' else 9):.1f}"
        )
        parts.append(element("path", d=path, class_=_edge_class(kind)))
        if kind != "like":
            parts.append(_arrow(left - 1, end))
    return Markup("").join(parts)


def _box(name: str, models: Mapping[str, ModelReport], box: Box, relations: Sequence[str] = ()) -> Markup:
    """A model's name, the style of its line in the plots, what it is and how well it does."""
    outside = name not in models
    place = {"x": box.left, "y": box.top, "width": box.width, "height": box.height, "rx": 8}
    parts = [element("title", name), element("rect", **place, class_="box outside" if outside else "box")]
    left, y, room = box.left + 14, box.top + 25, box.width - 28
    if not outside:
        index = list(models).index(name)
        ends = {"x1": box.right - 42, "x2": box.right - 14, "y1": y - 5, "y2": y - 5}
        parts.append(element("line", **ends, stroke_dasharray=dashes(index), class_=f"curve {line_class(index)}"))
    shown = shorten(name, room - (0 if outside else 36), NAME)
    parts.append(element("text", shown, x=left, y=y, class_="box-name"))
    for line in [*(["from outside this run"] if outside else _lines(name, models[name])), *relations]:
        y += LINE_HEIGHT
        parts.append(element("text", shorten(line, room, LINE), x=left, y=y, class_="box-line"))
    return element("g", *parts)


_SAYS: dict[Kind, str] = {"teaches": "taught by", "gives weights": "starts from", "like": "like"}


def _lines(name: str, report: ModelReport) -> list[str]:
    """The lines under a name: what it is, how well it does."""
    parameters = report.figures.get("parameters")
    size = f"{units.count(parameters)} parameters" if parameters is not None else ""
    what = ", ".join(part for part in ("" if report.role in ("model", name) else report.role, size) if part)
    perplexity = report.value("perplexity")
    how = f"perplexity {units.perplexity(perplexity)}" if perplexity is not None else "not evaluated"
    how = report.progress.words if report.progress is not None else how
    return [line for line in (what, how) if line]


def _arrow(x: float, y: float) -> Markup:
    return element("path", d=f"M{x:.1f} {y:.1f}l-9 -4.5v9z", class_="arrow")


def _edge_class(kind: Kind) -> str:
    return f"edge edge-{kind.split()[0]}"


def _spoken(models: Mapping[str, ModelReport], edges: Sequence[Edge]) -> str:
    """The picture in words, for who can't see it."""
    said = [f"{edge.taker} {_SAYS[edge.kind]} {edge.giver}" for edge in edges]
    return f"The family: {', '.join(models)}." + (f" {'; '.join(said)}." if said else "")
