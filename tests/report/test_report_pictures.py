"""The pictures: where points lie, what is cut, who stands where. Coordinates are worked out by hand."""

import itertools
import re
from xml.etree import ElementTree

import pytest

from gemmule.base.page.svg import dashes, text_width
from gemmule.report import ModelReport
from gemmule.report.family_picture import Edge, edges_of, family_narrow, family_wide, generations
from gemmule.report.plots import MOST_POINTS, cut_off_above, loss_curves, read_curve, reliability, visible_top


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter("text")]


def texts_with_titles(picture: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(picture).iter("text")]


def test_curves_are_read_in_order_and_averaged_down():
    assert read_curve([{"tokens": 20, "loss": 4.0}, {"tokens": 10, "loss": 5.0}]) == [(10, 5.0), (20, 4.0)]
    points = read_curve([{"tokens": step, "loss": float(step % 2)} for step in range(1, 3001)])
    assert len(points) == MOST_POINTS
    assert points[-1] == (3000, 0.5)
    assert all(loss == 0.5 for _, loss in points)


def test_the_beginning_is_cut_where_it_crosses_the_top():
    assert cut_off_above([(0, 8.0), (10, 4.0), (20, 3.0)], 5.0) == [[(7.5, 5.0), (10, 4.0), (20, 3.0)]]
    spike = [(0, 4.0), (10, 6.0), (20, 4.0)]
    assert cut_off_above(spike, 5.0) == [[(0, 4.0), (5, 5.0)], [(15, 5.0), (20, 4.0)]]
    assert visible_top({"a": [(0, 9.0), (50, 4.0), (100, 3.0)], "b": [(0, 8.0), (20, 5.0), (40, 2.0)]}) == 5.0


def test_loss_curves_end_where_their_last_point_is():
    curves = {"teacher": [(0, 4.0), (100, 2.0)], "none": [], "student": [(0, 4.0), (50, 3.0)]}
    root = ElementTree.fromstring(loss_curves(curves, "loss", width=900, height=400))
    teacher, student = root.iter("circle")
    grid = next(each for each in root.iter("line") if each.get("class") == "grid")
    left, right = float(grid.get("x1")), float(grid.get("x2"))
    assert float(teacher.get("cx")) == pytest.approx(right, abs=0.1)
    assert float(student.get("cx")) == pytest.approx((left + right) / 2, abs=0.1)
    assert float(teacher.get("cy")) > float(student.get("cy"))  # a lower loss stands lower
    assert "line-0" in teacher.get("class")
    lines = [each.get("stroke-dasharray") for each in root.iter("path")]
    assert lines == [dashes(0), dashes(2)]
    assert lines[0] != lines[1]
    assert "line-2" in student.get("class")  # its place in the family, though the one before it has no curve


def test_labels_stand_at_the_ends_and_apart():
    curves = {f"model-{number}": [(0, 5.0), (20, 4.8), (100, 3.0 + number / 1000)] for number in range(6)}
    root = ElementTree.fromstring(loss_curves(curves, "loss", width=900, height=400))
    ends = [each for each in root.iter("text") if "end" in each.get("class").split()]
    assert ["".join(each.itertext()) for each in ends] == [f"model-{n}model-{n} {3 + n / 1000:.2f}" for n in range(6)]
    heights = sorted(float(each.get("y")) for each in ends)
    assert all(lower - upper >= 15.5 for upper, lower in itertools.pairwise(heights))
    assert all(float(each.get("x")) + text_width(each[0].text + " 3.00", 13) < 900 for each in ends)


def test_reliability_puts_perfect_confidence_on_the_diagonal():
    bins = [
        {"confidence": 0.25, "accuracy": 0.25, "count": 90},
        {"confidence": None, "accuracy": None, "count": 0},
        {"confidence": 0.75, "accuracy": 0.75, "count": 10},
    ]
    root = ElementTree.fromstring(reliability({"model": bins}, side=460))
    diagonal = next(each for each in root.iter("path") if each.get("class") == "diagonal").get("d")
    x0, y0, x1, y1 = map(float, re.findall(r"-?[\d.]+", diagonal))
    low, high = root.iter("circle")
    assert float(low.get("cx")) == pytest.approx(x0 + 0.25 * (x1 - x0), abs=0.1)
    assert float(low.get("cy")) == pytest.approx(y0 + 0.25 * (y1 - y0), abs=0.1)
    assert float(high.get("cy")) == pytest.approx(y0 + 0.75 * (y1 - y0), abs=0.1)
    assert float(low.get("r")) > float(high.get("r"))  # more tokens, larger dot


CHAIN = {
    "teacher": ModelReport(figures={"parameters": 3_712_345, "perplexity": 50.9}),
    "assistant": ModelReport(learn_from="teacher"),
    "student": ModelReport(learn_from="assistant", start_from="teacher"),
    "control": ModelReport(like="student"),
    "outsider": ModelReport(learn_from="google/gemma"),
}


def test_edges_say_who_gave_what():
    assert edges_of(CHAIN) == [
        Edge("teacher", "assistant", "teaches"),
        Edge("assistant", "student", "teaches"),
        Edge("teacher", "student", "gives weights"),
        Edge("student", "control", "like"),
        Edge("google/gemma", "outsider", "teaches"),
    ]


def test_generations_follow_the_longest_path_and_a_control_stands_by_its_student():
    names = ["google/gemma", *CHAIN]
    assert generations(names, edges_of(CHAIN)) == {
        "google/gemma": 0, "teacher": 0, "assistant": 1, "student": 2, "control": 2, "outsider": 1,
    }  # fmt: skip


@pytest.mark.parametrize("draw", [family_wide, lambda models: family_narrow(models, width=350)])
def test_the_family_shows_every_model_and_relation(draw):
    picture = draw(CHAIN)
    root = ElementTree.fromstring(picture)
    names = [each.text for each in root.iter("text") if each.get("class") == "box-name"]
    assert sorted(names) == sorted([*CHAIN, "google/gemma"])
    assert "3.7M parameters" in texts(picture)
    assert "perplexity 50.9" in texts(picture)
    lines = [each.get("class") for each in root.iter("path")]
    assert lines.count("edge edge-teaches") == 3
    assert lines.count("edge edge-gives") == 1
    assert lines.count("edge edge-like") == 1
    assert lines.count("arrow") == 4
    assert "student taught by assistant; student starts from teacher; control like student" in root.get("aria-label")


def test_a_line_over_a_generation_goes_between_its_boxes():
    root = ElementTree.fromstring(family_wide(CHAIN))
    boxes = {each.find("title").text: each.find("rect") for each in root.iter("g")}
    column = float(boxes["assistant"].get("x"))
    line = next(each.get("d") for each in root.iter("path") if each.get("class") == "edge edge-gives")
    passing = [float(y) for x, y in re.findall(r"([\d.]+) ([\d.]+)H", line) if float(x) == column]
    assert len(passing) == 1
    for name in ("assistant", "outsider"):
        top = float(boxes[name].get("y"))
        assert not top <= passing[0] <= top + float(boxes[name].get("height"))


def test_boxes_do_not_overlap_and_stay_inside():
    models = {"teacher": ModelReport()} | {f"student-{n}": ModelReport(learn_from="teacher") for n in range(9)}
    for picture in (family_wide(models), family_narrow(models, width=350)):
        root = ElementTree.fromstring(picture)
        boxes = [tuple(float(each.get(key)) for key in ("x", "y", "width", "height")) for each in root.iter("rect")]
        assert len(boxes) == 10
        for number, (x, y, width, height) in enumerate(boxes):
            assert x >= 0
            assert y >= 0
            assert x + width <= float(root.get("width"))
            assert y + height <= float(root.get("height"))
            for other_x, other_y, other_width, other_height in boxes[:number]:
                apart_x = x >= other_x + other_width or other_x >= x + width
                apart_y = y >= other_y + other_height or other_y >= y + height
                assert apart_x or apart_y


def test_a_circle_still_gives_a_picture():
    models = {"a": ModelReport(learn_from="b", like="b"), "b": ModelReport(learn_from="a", start_from="b")}
    assert {"a", "b"} <= set(texts(family_wide(models)))
    assert {"a", "b"} <= set(texts(family_narrow(models, width=350)))


def test_names_are_escaped():
    models = {"<b>&": ModelReport(learn_from='"x"')}
    assert "<b>&" in texts(family_wide(models))
    assert any(
        "<b>&" in text
        for text in texts_with_titles(loss_curves({"<b>&": [(0, 1.0), (1, 2.0)]}, "loss", width=900, height=400))
    )
