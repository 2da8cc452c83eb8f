"""The plots of a report: loss curves, the loss by position and the reliability diagram, as SVG.

Each is drawn twice, wide for a desk and narrow for a phone, as text in a picture that shrinks can't be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gemmule.base import units
from gemmule.base.page.svg import dashes, element, line_class, nice_ticks, path_through, picture, shorten, text_width
from gemmule.report.contents import Number

Point = tuple[float, float]
FONT = 13
BOLD = 1.08  # how much wider than plain
LABEL_HEIGHT = 16  # vertical distance that keeps two labels apart
MOST_POINTS = 150  # a curve of more is averaged down: a screen shows no more


@dataclass(frozen=True)
class Frame:
    """The area of a plot in picture coordinates, and the data range that it shows."""

    left: float
    top: float
    right: float
    bottom: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return self.left + (value - self.x_low) / (self.x_high - self.x_low) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.y_low) / (self.y_high - self.y_low) * (self.bottom - self.top)


def read_curve(curve: Sequence[Mapping[str, Number]]) -> list[Point]:
    """(tokens, loss) in order of tokens, what is not a number left out, averaged down to MOST_POINTS.

    A mean stands at the end of its stretch, so that the curve ends where training did.
    """
    points = sorted(
        (float(entry["tokens"]), float(entry["loss"]))
        for entry in curve
        if units.is_number(entry.get("tokens")) and units.is_number(entry.get("loss"))
    )
    if len(points) <= MOST_POINTS:
        return points
    bounds = [len(points) * part // MOST_POINTS for part in range(MOST_POINTS + 1)]
    parts = [points[start:stop] for start, stop in itertools.pairwise(bounds)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def loss_curves(curves: Mapping[str, list[Point]], y_title: str, *, width: float, height: float) -> Markup:
    """Loss against tokens for every model, each labelled at the end of its line.

    `curves` maps a name to its points; the position in the mapping is the model's style. Models without points are left
    out. The steep beginning of a training is cut off (`visible_top`), so that the ends can be told apart.
    """
    drawn = {name: points for name, points in curves.items() if points}
    labels = {name: _end_label(name, points, 0.24 * width) for name, points in drawn.items()}
    losses = [loss for points in drawn.values() for _, loss in points]
    low, high = min(losses), visible_top(drawn)
    pad = 0.06 * (high - low) or 0.5
    x_high = max(points[-1][0] for points in drawn.values()) or 1.0
    left, right = 48, width - 12.0
    for name, label in labels.items():  # room for every label to the right of its line's end
        room = width - left - 11 - text_width(label, BOLD * FONT)
        right = min(right, left + room * x_high / max(drawn[name][-1][0], 0.01 * x_high))
    frame = Frame(left, 30, right, height - 44, 0, x_high, low - pad, high + pad)
    parts = [_axes(frame, x_title="training tokens", y_title=y_title, x_ticks=max(3, int(width / 150)))]
    for index, (name, points) in enumerate(curves.items()):
        if points:
            parts.append(_curve(frame, index, name, points))
    parts.append(_end_labels(frame, curves, labels))
    names = ", ".join(f"{name} ends at {points[-1][1]:.2f}" for name, points in drawn.items())
    return picture(width, height, f"{y_title} against training tokens: {names}", *parts, class_="plot")


def visible_top(curves: Mapping[str, list[Point]]) -> float:
    """The highest loss shown: the highest that any model has after the first tenth of its training."""
    later = [
        loss for points in curves.values() for tokens, loss in points if tokens >= 0.1 * points[-1][0]
    ]  # never empty: the last point always counts
    return max(later)


def cut_off_above(points: list[Point], top: float) -> list[list[Point]]:
    """The pieces of a curve that lie below `top`, cut where it crosses."""
    pieces: list[list[Point]] = [[]]
    for before, point in zip([None, *points], points, strict=False):
        inside = point[1] <= top
        if before is not None and inside != (before[1] <= top):
            share = (top - before[1]) / (point[1] - before[1])
            crossing = (before[0] + share * (point[0] - before[0]), top)
            if not inside:
                pieces[-1].append(crossing)
                pieces.append([])
            else:
                pieces[-1] = [crossing]
        if inside:
            pieces[-1].append(point)
    return [piece for piece in pieces if piece]


def reliability(bins: Mapping[str, Sequence[Mapping[str, Number | None]]], *, side: float) -> Markup:
    """Accuracy against confidence; on the diagonal a model is perfectly calibrated.

    A dot is a bin of confidences, its area the share of tokens in it. The position in `bins` is the model's style.
    """
    frame = Frame(48, 30, side - 12, side - 44, 0, 1, 0, 1)
    parts = [_axes(frame, x_title="confidence", y_title="accuracy", x_ticks=5, share=True)]
    diagonal = path_through([(frame.x(0), frame.y(0)), (frame.x(1), frame.y(1))])
    parts.append(element("path", d=diagonal, class_="diagonal"))
    for index, (name, model_bins) in enumerate(bins.items()):
        filled = [each for each in model_bins if each.get("count") and None not in each.values()]
        total = sum(each["count"] or 0 for each in filled)
        dots = [
            (frame.x(each["confidence"] or 0), frame.y(each["accuracy"] or 0), (each["count"] or 0) / total)
            for each in filled
        ]
        if not dots:
            continue
        line = path_through([(x, y) for x, y, _ in dots])
        style = line_class(index)
        parts.append(element("path", d=line, stroke_dasharray=dashes(index), class_=f"curve {style}"))
        for (x, y, share), each in zip(dots, filled, strict=True):
            said, was = units.percent(each["confidence"]), units.percent(each["accuracy"])
            title = element("title", f"{name}: confidence {said}, accuracy {was}, {share:.1%} of tokens")
            parts.append(element("circle", title, cx=x, cy=y, r=1.5 + 7 * share**0.5, class_=f"dot {style}"))
    return picture(side, side, f"Reliability diagram of {', '.join(bins)}", *parts, class_="plot")


def loss_by_position(ranges: Mapping[str, Sequence[Mapping[str, Number]]], *, width: float, height: float) -> Markup:
    """The loss at places in the window, each range of them twice as wide as the one before: a logarithmic axis.

    The position in `ranges` is the model's style. Models without ranges are left out.
    """
    losses = [float(each["loss"]) for model_ranges in ranges.values() for each in model_ranges]
    starts = sorted({int(each["from"]) for model_ranges in ranges.values() for each in model_ranges})
    low, high = min(losses), max(losses)
    pad = 0.06 * (high - low) or 0.5
    frame = Frame(48, 30, width - 24, height - 44, 0, max(1, len(starts) - 1), low - pad, high + pad)
    apart = 1 + int(len(starts) * 46 / (frame.right - frame.left))  # ticks, where not all have room
    ticks = [(place, units.count(start)) for place, start in enumerate(starts) if place % apart == 0]
    parts = [_axes(frame, x_title="place in the window", y_title="loss, nats per token", x_at=ticks)]
    for index, (name, model_ranges) in enumerate(ranges.items()):
        points = [(float(starts.index(int(each["from"]))), float(each["loss"])) for each in model_ranges]
        if not points:
            continue
        style, placed = line_class(index), [(frame.x(x), frame.y(y)) for x, y in points]
        parts.append(element("path", d=path_through(placed), stroke_dasharray=dashes(index), class_=f"curve {style}"))
        for (x, y), each in zip(placed, model_ranges, strict=True):
            title = element("title", f"{name}: {each['loss']:.3f} at places {each['from']} to {int(each['to']) - 1}")
            parts.append(element("circle", title, cx=x, cy=y, r=3, class_=f"dot {style}"))
    ends = ", ".join(f"{name} ends at {each[-1]['loss']:.2f}" for name, each in ranges.items() if each)
    return picture(width, height, f"Loss by place in the window: {ends}", *parts, class_="plot")


def _axes(
    frame: Frame,
    *,
    x_title: str,
    y_title: str,
    x_ticks: int = 0,
    x_at: Sequence[tuple[float, str]] | None = None,
    share: bool = False,
) -> Markup:
    """About `x_ticks` round numbers on the x axis, or labels where `x_at` says."""
    parts = []
    y_values = nice_ticks(frame.y_low, frame.y_high, 6)
    places = max(len(f"{value:g}".partition(".")[2]) for value in y_values)
    for value in y_values:
        y = frame.y(value)
        parts.append(element("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        label = f"{value:.0%}" if share else f"{value:.{places}f}"
        parts.append(element("text", label, x=frame.left - 8, y=y + 4.5, text_anchor="end", class_="tick"))
    if x_at is None:
        round_ones = nice_ticks(frame.x_low, frame.x_high, x_ticks)
        x_at = [(value, f"{value:.0%}" if share else units.count(value)) for value in round_ones]
    for value, label in x_at:
        x = frame.x(value)
        parts.append(element("line", x1=x, x2=x, y1=frame.bottom, y2=frame.bottom + 5, class_="axis"))
        parts.append(element("text", label, x=x, y=frame.bottom + 20, text_anchor="middle", class_="tick"))
    parts.append(element("line", x1=frame.left, x2=frame.right, y1=frame.bottom, y2=frame.bottom, class_="axis"))
    parts.append(element("text", y_title, x=0, y=13, class_="axis-title"))
    parts.append(element("text", x_title, x=frame.right, y=frame.bottom + 39, text_anchor="end", class_="axis-title"))
    return Markup("").join(parts)


def _curve(frame: Frame, index: int, name: str, points: list[Point]) -> Markup:
    pieces = [[(frame.x(x), frame.y(y)) for x, y in piece] for piece in cut_off_above(points, frame.y_high)]
    tokens, loss = points[-1]
    title = element("title", f"{name}: {loss:.3f} after {units.count(tokens)} tokens")
    style = line_class(index)
    line = element(
        "path", title, d="".join(map(path_through, pieces)), stroke_dasharray=dashes(index), class_=f"curve {style}"
    )
    end = element("circle", title, cx=frame.x(tokens), cy=frame.y(loss), r=3.5, class_=f"dot {style}")
    return line + end


def _end_labels(frame: Frame, curves: Mapping[str, list[Point]], labels: Mapping[str, str]) -> Markup:
    """Names beside the ends of the lines, moved up or down until none lies on another."""
    if len(labels) * LABEL_HEIGHT > frame.bottom - frame.top:
        return Markup("")  # more than fit: the legend names them
    ends = [(frame.x(curves[name][-1][0]), frame.y(curves[name][-1][1])) for name in labels]
    heights = _spread(frame, ends, [text_width(label, BOLD * FONT) for label in labels.values()])
    parts = []
    for (name, label), (x, y), placed in zip(labels.items(), ends, heights, strict=True):
        style = line_class(list(curves).index(name))
        if abs(placed - y) > 5:
            parts.append(element("line", x1=x, y1=y, x2=x + 9, y2=placed, class_=f"leader {style}"))
        title = element("title", name)
        parts.append(element("text", title, label, x=x + 11, y=placed + 4.5, class_=f"end {style}"))
    return Markup("").join(parts)


def _end_label(name: str, points: list[Point], width: float) -> str:
    return f"{shorten(name, width, BOLD * FONT)} {points[-1][1]:.2f}"


def _spread(frame: Frame, ends: list[Point], widths: list[float]) -> list[float]:
    """Heights near those of `ends` at which labels that share a stretch of x are LABEL_HEIGHT apart.

    Pairs that are too close push each other away, half each, until all are at rest.
    """
    heights = [y for _, y in ends]
    order = sorted(range(len(ends)), key=lambda each: ends[each][1])
    close = [
        (upper, lower)
        for upper, lower in itertools.combinations(order, 2)
        if ends[upper][0] < ends[lower][0] + widths[lower] + 14 and ends[lower][0] < ends[upper][0] + widths[upper] + 14
    ]
    for _ in range(200):
        for upper, lower in close:
            push = (LABEL_HEIGHT - (heights[lower] - heights[upper])) / 2
            if push > 0:
                heights[upper] -= push
                heights[lower] += push
        heights = [min(max(height, frame.top + 4), frame.bottom - 6) for height in heights]
    return heights
