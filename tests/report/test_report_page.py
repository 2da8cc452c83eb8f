"""The page as a reader's browser sees it: parsed with html.parser, not searched as text where structure counts."""

import csv
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from parsed_page import Page

from gemmule.base.errors import WorkError
from gemmule.evaluate.units import Ratio
from gemmule.report import ModelReport, ReportData, write_report
from gemmule.report.contents import Refined
from gemmule.report.page import render

HOSTILE = "  to be\n\n\tor <script>alert('not')</script> & \"be\"\n"


def agreement(kl: float) -> list[dict]:
    """By entropy; no token fell into the first bucket."""
    edges, shares = [0, 0.5, 1, 2, 3, None], [0.9, 0.8, 0.6, 0.4]
    full = [{"from": edges[i], "to": edges[i + 1], "count": 100 * i, "kl": kl * i / 4, "agreement": shares[i - 1]}
            for i in range(1, 5)]  # fmt: skip
    return [{"from": 0, "to": 0.5, "count": 0, "kl": None, "agreement": None}, *full]


def run(student: float = 60.3, control: float = 75.2) -> ReportData:
    """A family of three with everything that a report can hold."""

    def report(perplexity: float, accuracy: float, sample: str, **more) -> ModelReport:
        figures = {
            "perplexity": perplexity, "bits_per_byte": perplexity / 30, "ece": 0.0121, "accuracy": accuracy,
            "kl_to_teacher": None, "parameters": 852_992, "embedding_parameters": 262_144, "train_tokens": 600_000,
            "train_flops": 3.2e12, "teacher_flops": None, "seconds": 200,
        }  # fmt: skip
        return ModelReport(
            figures=figures | more.pop("figures", {}),
            curve=[{"tokens": 100 * step, "loss": 8 / (1 + step)} for step in range(10)],
            training=[{"tokens": 100 * step, "loss": 7 / (1 + step)} for step in range(10)],
            calibration=[
                {"confidence": (i + 0.5) / 15, "accuracy": (i + 0.4) / 15, "count": 15 - i} for i in range(15)
            ],
            samples=[{"prompt": "ROMEO:\n", "text": sample}],
            lineage=[{"kind": "tokenizer", "hash": "9f2c" * 16, "settings": {"tokenizer.vocabulary_size": 2048}}],
            **more,
        )

    models = {
        "teacher": report(50.9, 0.291, "a", role="teacher", settings={"architecture.layers": 4}),
        "student": report(
            student,
            0.274,
            HOSTILE,
            role="student",
            learn_from="teacher",
            objective="forward KL",
            settings={"learn_from": "teacher"},
            figures={"kl_to_teacher": 0.281, "teacher_flops": 4.6e12},
            against="teacher",
            agreement=agreement(0.2),
            warnings=["its <i>targets</i> are old"],
        ),
        "control": report(
            control,
            0.251,
            "c",
            role="control",
            like="student",
            settings={"learn_from": "none"},
            against="teacher",
            agreement=agreement(0.6),
        ),
    }
    text = {"documents": 412, "train_tokens": 1_712_345, "validation_tokens": 89_211, "validation_bytes": 268_525,
            "vocabulary_size": 2048, "bytes_per_token": 3.01, "sources": ["gemmule:shakespeare"]}  # fmt: skip
    return ReportData("demo", "2026-11-26", "gemmule run demo.toml", "2 CPU cores", text, models, 'name = "demo"\n')


@pytest.fixture(scope="module")
def html() -> str:
    return render(run())


def test_nothing_comes_from_outside(html):
    page = Page(html)
    for tag, attributes, _ in page.elements:
        assert tag not in {"script", "link", "iframe", "img", "object", "embed", "base"}
        assert not attributes.keys() & {"src", "href", "srcset", "xlink:href", "action", "data"}
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"https?://", html)
    policies = [each for tag, each, _ in page.elements if tag == "meta" and "http-equiv" in each]
    assert policies[0]["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_samples_keep_every_character_and_run_nothing(html):
    page = Page(html)
    assert page.texts("p", "text") == ["ROMEO:\na", f"ROMEO:\n{HOSTILE}", "ROMEO:\nc"]
    assert re.search(r"\.text \{[^}]*white-space: pre-wrap", html)
    assert "<script" not in html


def test_control_characters_are_shown_as_signs():
    models = {"m": ModelReport(samples=[{"prompt": "", "text": "a\x00b\x1b[2J\x0cc\td\n"}])}
    assert Page(render(ReportData("run", models=models))).texts("p", "text") == ["a␀b␛[2J␌c\td\n"]


def test_the_headline_and_who_paid(html):
    page = Page(html)
    assert page.texts("h1") == ["student 60.3 against control 75.2: ratio 0.80"]
    assert page.texts("title")[0] == "demo: student 60.3 against control 75.2: ratio 0.80"
    [paid] = page.texts("div", "paid")
    assert "Training teacher took 3.2\u00a0TFLOP" in paid
    assert "Distillation pays when the teacher exists already" in paid
    assert "student ends behind control" in Page(render(run(80, 75))).texts("p", "lede")[0]


def test_a_refined_text_links_to_what_was_dropped(html):
    refined = Refined(40_000, 25_088, 183_400_000, 117_010_000, "documents/refinery.html")
    page = Page(render(replace(run(), refined=refined)))
    [link] = [attributes for tag, attributes, _ in page.elements if tag == "a"]
    assert link["href"] == "documents/refinery.html"
    assert "40,000 documents in, 25,088 out, with 63.8% of the bytes: what was dropped, and why" in page.texts("dd")
    assert "refinery" not in html


def test_the_table_shows_every_figure(html):
    page = Page(html)
    assert page.cells("student") == {
        "Parameters": "853k262k embedding", "Perplexity": "◆60.3", "Bits per byte": "◆2.010", "Accuracy": "◆27.4%",
        "Calibration error": "1.2%", "KL to teacher": "0.281", "Tokens": "600k", "Training": "3.2\u00a0TFLOP",
        "Teacher": "4.6\u00a0TFLOP", "Time": "3\u00a0min\u00a020\u00a0s",
    }  # fmt: skip
    assert page.cells("teacher")["Perplexity"] == "50.9"  # it did not compete
    assert page.cells("control")["Perplexity"] == "75.2"


def test_what_does_not_apply_is_a_dash(html):
    page = Page(html)
    assert page.cells("teacher")["KL to teacher"] == "–"
    assert page.cells("control")["Teacher"] == "–"


def test_the_mark_goes_to_the_control_where_it_is_better():
    page = Page(render(run(80.0, 75.2)))
    assert page.cells("student")["Perplexity"] == "80.0"
    assert page.cells("control")["Perplexity"] == "◆75.2"


def test_sections_details_and_warnings(html):
    page = Page(html)
    assert page.texts("h2") == [
        "Compute cost",
        "Warnings",
        "The family",
        "Models",
        "Validation loss while training",
        "Calibration",
        "Agreement with teacher, by its entropy",
        "Samples",
        "Text and machine",
        "How it was made",
    ]
    assert page.texts("summary")[:5] == [
        "Settings that differ between student and control",
        "Training objectives",
        "Settings and lineage of teacher",
        "settings",
        "Settings and lineage of student",
    ]
    assert "its <i>targets</i> are old" in page.texts("section", "warnings")[0]
    assert any("9f2c9f2c9f2c" in text for text in page.texts("li"))
    assert page.texts("pre") == ['name = "demo"\n']


def test_equal_data_gives_equal_bytes_in_any_process(html, tmp_path):
    write_report(run(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == html.encode()
    code = "import sys; sys.path[:0] = sys.argv[1:]; from test_report_page import *; print(ascii(render(run())))"
    seen = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, *map(str, Path(__file__).parents[:2])]
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)
    assert seen == {ascii(html) + "\n"}


def test_a_report_needs_no_torch(tmp_path):
    code = (
        "import sys; from gemmule.report import ReportData, write_report; from pathlib import Path;"
        f"write_report(ReportData('run'), Path({str(tmp_path / 'r.html')!r}));"
        "assert not {'torch', 'transformers', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_it_is_written_whole_or_not_at_all(step, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self, argument):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, full)
    with pytest.raises(WorkError, match=r"report\.html: can't be written: No space left on device"):
        write_report(run(), path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]
    monkeypatch.undo()
    with pytest.raises(WorkError, match="nowhere"):
        write_report(run(), tmp_path / "nowhere" / "report.html")


def test_many_comparisons_are_one_table():
    models = dict(run().models)
    for number, perplexity in enumerate((58.0, 75.2, 90.0)):
        models[f"more-{number}"] = ModelReport(like="student", learn_from="teacher", figures={"perplexity": perplexity})
    page = Page(render(ReportData("run", models=models)))
    assert page.texts("p", "lede") == []
    rows = [" ".join(text.split()) for text in page.texts("tr", "compared")]
    assert rows == [
        "student 60.3 control 75.2 0.80 ahead",
        "more-0 58.0 control 75.2 0.77 ahead",
        "more-1 75.2 control 75.2 1.00 level",
        "more-2 90.0 control 75.2 1.20 behind",
    ]


LONG = "a-student-whose-name-is-sixty-characters-long-because-why-no"
NO_BIN = {"confidence": None, "accuracy": None, "count": 0}
TEN = {"teacher": ModelReport(figures={"perplexity": 9.0})} | {
    f"{LONG[:-2]}-{number}": ModelReport(
        learn_from="teacher",
        like="teacher",
        figures={"perplexity": 9.0 + number / 100},
        curve=[{"tokens": 1e9, "loss": 3.0}],
        calibration=[{"confidence": 0.1, "accuracy": 0.2, "count": 1}],
    )
    for number in range(9)
}
SPARSE = {
    "empty": {},
    "untrained": {"model": ModelReport()},
    "one point": {"model": ModelReport(figures={"perplexity": 33.0}, curve=[{"tokens": 0, "loss": 3.5}])},
    "ten": TEN,
    "flat": {"model": ModelReport(curve=[{"tokens": 5, "loss": 2.0}, {"tokens": 9, "loss": 2.0}])},
    "empty bins": {"model": ModelReport(calibration=[NO_BIN] * 15)},
    "surrogate": {"model": ModelReport(samples=[{"prompt": "\ud800", "text": "x"}])},
}


@pytest.mark.parametrize("case", SPARSE)
def test_missing_pieces_do_not_break_it(case, tmp_path):
    path = tmp_path / "report.html"
    write_report(ReportData("run", text={"sources": [f"{n}.txt" for n in range(42)]}, models=SPARSE[case]), path)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert set(SPARSE[case]) <= {text.split("\n")[0].strip() for text in page.texts("th")}
    assert not re.search(r"\b(nan|inf|None)\b(?! of the)", html)
    assert "42 files" in page.texts("summary")


def test_agreement_stands_by_entropy_with_both_calibrations():
    page = Page(render(run()))
    table = next("".join(text) for tag, attributes, text in page.elements if attributes.get("class") == "agreement")
    cells = re.sub(r"\s+", " ", table)
    assert "nats 0.5 to 11 to 22 to 3over 3 Share of the tokens 10.0%20.0%30.0%40.0%" in cells
    assert "student calibration error 1.2% 0.05090.0% 0.10080.0% 0.15060.0% 0.20040.0%" in cells
    assert "control calibration error 1.2% 0.15090.0%" in cells
    assert any("calibration error of teacher itself is 1.2%" in re.sub(r"\s+", " ", text) for text in page.texts("p"))
    assert "Agreement with" not in render(ReportData("alone", models={"m": ModelReport(figures={"perplexity": 9.0})}))


def test_a_kl_and_a_next_token_loss_have_pictures_of_their_own(html):
    page = Page(html)
    titles = page.texts("h3")
    assert [title for title in titles if title in ("forward KL", "next-token loss")] == [
        "next-token loss",
        "forward KL",
    ]
    described = [attributes.get("aria-label", "") for tag, attributes, _ in page.elements if tag == "svg"]
    of_kl = [label for label in described if label.startswith("forward KL, nats per token against")]
    assert of_kl
    assert all("student" in label and "control" not in label for label in of_kl)


def measured() -> ReportData:
    """The same family with intervals, acceptance, entropies, losses by position and tasks; trained three times."""
    data = run()
    models = dict(data.models)
    grid = [{"length": length, "depth": depth, "accuracy": depth * 512 / length} for length in (1024, 512)
            for depth in (0.5, 1.0)]  # fmt: skip
    for name, acceptance in (("teacher", None), ("student", 0.5), ("control", 0.25)):
        figures = models[name].figures
        more = {"acceptance": acceptance, "entropy": 3.25, "teacher_entropy": 3.5 if acceptance else None}
        models[name] = replace(
            models[name],
            figures={**figures, **more},
            intervals={"perplexity": [figures["perplexity"] - 2, figures["perplexity"] + 2.5]},
            over="412 documents",
            by_position=[
                {"from": start, "to": max(1, 2 * start), "loss": 5 - place, "count": 9}
                for place, start in enumerate((0, 1, 2))
            ],
            tasks={"gemmule:passkey": {"accuracy": 0.375, "by_length_and_depth": grid, "too_short": []}, "plain": {
                "acc,none": 0.5, "n": 1234, "deep": {"is": "<i>"}, "score": 0.25, "score_interval": [0.1, 0.5],
                "list": [{"subject": "law", "acc": 0.25}]}},
        )  # fmt: skip
    models["student"] = replace(models["student"], paired={"control": Ratio("perplexity", 0.8, (0.78, 0.82), 0.004)})
    return replace(data, models=models)


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.split("<body>")[1])).replace("\u00a0", " ")


def test_intervals_stand_beneath_their_figures():
    page = Page(render(measured()))
    assert page.cells("student")["Perplexity"] == "◆60.358.3 to 62.8"
    assert page.cells("student")["Accuracy"] == "◆27.4%"
    assert page.cells("control")["Acceptance"] == "25.0%"
    said = words(render(measured()))
    assert "intervals of 95%, over 412 documents." in said
    assert "1.94 with student, 1.33 with control." in said  # 1 + 1/2 + 1/4 + 1/8 + 1/16, and of a quarter
    assert "Ratio 0.802, 95% interval 0.780 to 0.820, paired over 412 documents; p = 0.004." in said
    assert said.count("compare these two checkpoints") == 1
    assert "compare these two checkpoints" not in words(render(run()))


def test_no_mark_where_no_difference_was_found():
    data = measured()
    pairs = {"control": Ratio("perplexity", 0.8, (0.6, 1.1), 0.2)}
    models = {**data.models, "student": replace(data.models["student"], paired=pairs)}
    page = Page(render(replace(data, models=models)))
    assert page.cells("student")["Perplexity"] == "60.358.3 to 62.8"
    assert page.cells("student")["Bits per byte"] == "2.010"
    assert page.texts("h1") == ["student 60.3 against control 75.2: ratio 0.80, no difference found"]


def test_of_several_trainings_the_mean_is_shown_and_how_far_it_is_certain():
    """60, 62 and 64: their mean is 62, and Student's t gives 4.303 * 2 / sqrt(3) = 4.97 to either side."""
    data = measured()
    trainings = [{"seed": seed, "perplexity": 60.0 + 2 * seed, "accuracy": None} for seed in range(3)]
    models = {**data.models, "student": replace(data.models["student"], trainings=trainings)}
    html = render(replace(data, models=models))
    assert Page(html).cells("student")["Perplexity"] == "◆62.0±\u00a04.97"
    assert Page(html).cells("student")["Accuracy"] == "◆27.4%"  # not known of all: the first one's
    assert "learned from teacher, mean of 3 trainings" in words(html)
    assert "over 412 documents or 3 trainings" in words(html)


def test_entropies_stand_beside_the_calibration_error():
    legend = next(
        "".join(text) for tag, each, text in Page(render(measured())).elements if each.get("class") == "legend"
    )
    assert re.sub(r"\s+", " ", legend).strip() == (
        "ModelCalibration errorEntropyTeacher’s teacher1.2%3.250– student1.2%3.2503.500 control1.2%3.2503.500"
    )


def test_the_loss_by_position_is_drawn():
    labels = [each.get("aria-label", "") for tag, each, _ in Page(render(measured())).elements if tag == "svg"]
    assert labels.count(
        "Loss by place in the window: teacher ends at 3.00, student ends at 3.00, control ends at 3.00"
    ) == 2  # fmt: skip
    assert "student: 4.000 at places 1 to 1" in Page(render(measured())).texts("title")


def test_tasks_are_shown_whatever_they_report():
    page = Page(render(measured()))
    assert {"gemmule:passkey", "plain"} <= set(page.texts("h3"))
    rows = [re.sub(r"\s+", " ", text).strip() for text in page.texts("tr")]
    assert "accuracy0.3750.3750.375" in rows
    assert "acc,none0.5000.5000.500" in rows
    assert "n1,2341,2341,234" in rows
    assert "score" + 3 * "0.250 (0.100 to 0.500)" in rows
    assert not any("deep" in row or "interval" in row for row in rows)
    assert page.texts("p").count("<i>") == 1  # a sentence, once for all
    assert rows.count("Lengthdepth 50%100%") == 3
    assert rows.count("51250.0%100.0%") == 3  # the shorter text first
    assert rows.count("1,02425.0%50.0%") == 3
    assert rows.count("law0.250") == 3
    assert not any("too_short" in row for row in rows)


def test_the_table_is_written_as_csv_and_markdown(tmp_path):
    write_report(measured(), tmp_path / "report.html")
    assert sorted(os.listdir(tmp_path)) == ["report.csv", "report.html", "report.md"]
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert [row["model"] for row in rows] == ["teacher", "student", "control"]
    student = rows[1]
    assert (student["role"], student["parameters"]) == ("student", "852992")
    assert [float(student[key]) for key in ("perplexity", "perplexity_low", "perplexity_high")] == [60.3, 58.3, 62.8]
    assert (rows[0]["acceptance"], student["acceptance"]) == ("", "0.5")
    assert "bits_per_byte_low" not in student  # no model has one
    written = (tmp_path / "report.md").read_text()
    assert written.startswith("# demo: student 60.3 against control 75.2: ratio 0.80\n")
    assert re.search(r"\| student \| 853k \| 60\.3 \(58\.3 to 62\.8\) \| 2\.010 \|", written)
    assert "In brackets: intervals of 95%, over 412 documents." in written


def test_markdown_shows_names_to_the_letter(tmp_path):
    models = {"a_b*c|d": ModelReport(figures={"perplexity": 9.0})}
    write_report(ReportData("run", models=models), tmp_path / "r.html")
    assert "| a\\_b\\*c\\|d | 9.00 |" in (tmp_path / "r.md").read_text()
