"""Who is whose control, and whether the sentences say what the figures say."""

import math
from dataclasses import replace

import pytest

from gemmule.base import units
from gemmule.evaluate.units import Ratio
from gemmule.report import ModelReport, ReportData
from gemmule.report.comparison import (
    OVER_TRAININGS,
    PAIRED,
    comparisons,
    controls_of,
    different_settings,
    explain,
    groups,
    headline,
    notes,
    paid,
)


def family(student: float, control: float, **others: ModelReport) -> dict[str, ModelReport]:
    return {
        "teacher": ModelReport(role="teacher", figures={"perplexity": 50.9, "train_flops": 23.1e12, "parameters": 4e6}),
        "student": ModelReport(
            learn_from="teacher",
            figures={"perplexity": student, "train_flops": 3.2e12, "teacher_flops": 4.6e12, "parameters": 9e5},
        ),
        "control": ModelReport(like="student", figures={"perplexity": control, "parameters": 9e5}),
        **others,
    }


def test_a_student_ahead():
    models = family(60.31, 75.18)
    assert headline(ReportData("run", models=models)) == "student 60.3 against control 75.2: ratio 0.80"
    [pair] = comparisons(models)
    assert pair.verdict == "ahead"
    assert "student ends ahead of control" in explain(pair, models)
    assert "20% lower" in explain(pair, models)
    assert "teacher itself has 50.9" in explain(pair, models)


def test_a_student_behind_is_said_plainly():
    models = family(80.1, 75.2)
    assert headline(ReportData("run", models=models)) == "student 80.1 against control 75.2: ratio 1.07, behind"
    [pair] = comparisons(models)
    text = explain(pair, models)
    assert "student ends behind control" in text
    assert "7% higher" in text
    assert "did not help" in text
    assert "ahead" not in text


def test_a_student_as_good_as_its_control():
    models = family(75.0, 75.2)
    [pair] = comparisons(models)
    assert pair.sentence.endswith("ratio 1.00")
    assert pair.verdict == "level"
    assert "level with control" in explain(pair, models)


def test_a_narrow_lead_and_a_passed_teacher_are_said():
    models = family(49.0, 50.0)
    [pair] = comparisons(models)
    assert "another seed could reverse it" in explain(pair, models)
    assert "is ahead of teacher, which has 50.9" in explain(pair, models)


def test_unequal_training_is_said():
    models = family(60, 75)
    models["student"].figures["train_tokens"] = 600_000
    models["control"].figures["train_tokens"] = 1_200_000
    [pair] = comparisons(models)
    assert "600k tokens against 1.2M" in explain(pair, models)


def test_a_control_is_the_same_model_without_a_teacher():
    models = family(
        60,
        75,
        larger=ModelReport(like="student", figures={"perplexity": 40, "parameters": 2e6}),
        cached=ModelReport(like="student", learn_from="teacher", figures={"perplexity": 61, "parameters": 9e5}),
        other=ModelReport(figures={"perplexity": 70, "parameters": 9e5}),
        continued=ModelReport(like="student", start_from="student", figures={"perplexity": 58, "parameters": 9e5}),
    )
    assert controls_of("student", models) == ["control"]
    assert controls_of("cached", models) == ["control", "continued"]
    assert controls_of("control", models) == []


def test_a_student_made_like_its_control():
    models = {
        "control": ModelReport(figures={"perplexity": 75.2}),
        "student": ModelReport(like="control", learn_from="elsewhere", figures={"perplexity": 60.3}),
    }
    assert [pair.sentence for pair in comparisons(models)] == ["student 60.3 against control 75.2: ratio 0.80"]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (60.0, "All 2 students with a control end ahead of it"),
        (80.0, "1 of 2 students with a control ends ahead of it"),
    ],
)
def test_several_students_are_counted(second, sentence):
    cached = ModelReport(like="student", learn_from="teacher", figures={"perplexity": second})
    assert headline(ReportData("run", models=family(60.3, 75.2, cached=cached))) == sentence


def test_none_ahead():
    cached = ModelReport(like="student", learn_from="teacher", figures={"perplexity": 90})
    models = family(80, 75, cached=cached)
    assert headline(ReportData("run", models=models)) == "None of the 2 students with a control ends ahead of it"


def test_headlines_without_a_comparison():
    assert headline(ReportData("run")) == "No model of this run has been evaluated yet"
    alone = {"small": ModelReport(figures={"perplexity": 33.2})}
    assert headline(ReportData("run", models=alone)) == "small reaches perplexity 33.2"
    models = family(60.3, 75.2)
    del models["control"]
    assert headline(ReportData("run", models=models)).startswith("student reaches perplexity 60.3, with no control")


def test_who_paid_names_both_bills():
    [text] = paid(ReportData("run", models=family(60, 75)))
    text = text.replace(units.SPACE, " ")
    assert "Training teacher took 23.1 TFLOP." in text
    assert "Training student took 3.2 TFLOP, and 4.6 TFLOP more for the forward passes of teacher." in text


def test_many_students_are_billed_together():
    bill = {"train_flops": 1e12, "teacher_flops": 2e12}
    models = {"teacher": ModelReport(figures={"train_flops": 5e12})}
    models |= {f"student-{number}": ModelReport(learn_from="teacher", figures=bill) for number in range(4)}
    assert [text.replace(units.SPACE, " ") for text in paid(ReportData("run", models=models))] == [
        "Training teacher took 5 TFLOP, paid once for 4 students. "
        "Training these 4 together took 4 TFLOP, and 8 TFLOP more for the forward passes of teacher."
    ]


def test_who_paid_when_the_teacher_came_from_outside():
    models = {
        "gemma": ModelReport(role="teacher", origin="google/gemma-3-270m", figures={"perplexity": 18}),
        "student": ModelReport(learn_from="gemma", figures={"train_flops": 3e12}),
    }
    assert "gemma was not trained in this run" in paid(ReportData("run", models=models))[0]


def test_groups_join_students_that_share_a_control():
    cached = ModelReport(like="student", learn_from="teacher", figures={"perplexity": 61})
    models = family(60, 75, cached=cached)
    assert groups(models) == [["student", "control", "cached"]]


def test_settings_that_differ():
    models = {
        "student": ModelReport(like="control", learn_from="x", figures={"perplexity": 2.0}, settings={"a": 1, "b": 2}),
        "control": ModelReport(figures={"perplexity": 3.0}, settings={"a": 1, "c": 3}),
    }
    [pair] = comparisons(models)
    assert different_settings(pair, models) == [("b", 2, None), ("c", None, 3)]


def paired(student: float, control: float, interval: tuple[float, float] | None, p_value: float):
    models = family(student, control)
    models["student"] = replace(models["student"], paired={"control": Ratio("perplexity", 0.8, interval, p_value)})
    [pair] = comparisons(models)
    return pair, explain(pair, models)


def test_a_paired_comparison_says_how_certain_it_is():
    pair, text = paired(60.3, 75.2, (0.78, 0.824), 0.0002)
    assert pair.verdict == "ahead"
    assert pair.certainty.replace(units.SPACE, " ") == (
        "ratio 0.802, 95% interval 0.780 to 0.824, paired over documents; p < 0.001"
    )
    assert "20% lower" in text
    assert notes([pair]) == [PAIRED]


def test_an_interval_that_holds_1_finds_no_difference():
    """4% ahead by the ratio alone; said neither as ahead nor as close."""
    pair, text = paired(72.0, 75.0, (0.9, 1.01), 0.07)
    assert pair.verdict == "no difference found"
    assert pair.sentence == "student 72.0 against control 75.0: ratio 0.96, no difference found"
    assert "No difference was found between student and control" in text
    assert "ahead" not in text
    assert "reverse it" not in text
    assert "p = 0.07" in pair.certainty.replace(units.SPACE, " ")


def test_a_certain_but_narrow_lead_could_still_be_reversed_by_a_seed():
    _, text = paired(73.5, 75.0, (0.97, 0.99), 0.001)
    assert "another seed could reverse it" in text


def test_one_document_has_no_interval_and_is_judged_by_the_ratio():
    pair, _ = paired(60.0, 75.0, None, 1.0)
    assert (pair.verdict, pair.certainty, notes([pair])) == ("ahead", "", [])


def trained(perplexities: dict[int, float]) -> list[dict[str, float]]:
    return [{"seed": seed, "perplexity": value} for seed, value in perplexities.items()]


def test_several_trainings_are_compared_by_seed():
    """Ratios 0.8, 0.9 and 1.0 by seed, whatever the order: Student's t of their logarithms, 4.303 on two degrees."""
    models = family(40, 50)
    models["student"] = replace(models["student"], trainings=trained({0: 40, 1: 54, 2: 70}))
    models["control"] = replace(models["control"], trainings=trained({2: 70, 0: 50, 1: 60, 3: 10}))
    models["student"] = replace(models["student"], paired={"control": Ratio("perplexity", 0.8, (0.79, 0.81), 0.0002)})
    [pair] = comparisons(models)
    logarithms = [math.log(0.8), math.log(0.9), 0.0]
    mean = sum(logarithms) / 3
    half = 4.3027 * math.sqrt(sum((each - mean) ** 2 for each in logarithms) / 2 / 3)
    assert pair.ratio == pytest.approx(math.exp(mean))
    assert pair.interval == pytest.approx((math.exp(mean - half), math.exp(mean + half)), rel=1e-4)
    assert (pair.trainings, pair.p_value) == (3, None)
    assert pair.student_perplexity == pytest.approx(164 / 3)
    assert pair.verdict == "no difference found"
    assert pair.certainty.endswith("over 3 trainings")
    assert notes([pair]) == [OVER_TRAININGS]
