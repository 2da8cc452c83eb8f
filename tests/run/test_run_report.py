"""`gemmule report`: the page of a run that is not finished, and of one that goes on meanwhile."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from pyarrow import parquet

from gemmule.base import units
from gemmule.evaluate import figures, table
from gemmule.evaluate.intervals import compare


def page_of(out):
    """The report's text, a line an element, without the recipe and the style."""
    html = re.sub(r"(?s)<(style|pre|svg|title).*?</\1>", "", (out / "report.html").read_text(encoding="utf-8"))
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.fixture
def half(copy):
    """A run in which the student is half trained; those after it are not begun, and nothing is evaluated."""
    out = copy / "run"
    for name in ("teacher", "student", "cached", "control"):
        shutil.rmtree(out / "models" / name / "evaluation")
    for name in ("cached", "control"):
        shutil.rmtree(out / "models" / name)
    shutil.rmtree(out / "targets")
    shutil.rmtree(out / "models" / "student" / "final")
    log = out / "models" / "student" / "metrics.jsonl"
    log.write_text("".join(line for line in log.open() if int(re.search(r'"step": (\d+)', line)[1]) <= 4) + '{"st')
    for path in (*out.glob("report.*"), out / "summary.json"):
        path.unlink()
    return copy


def test_a_run_half_done(run, half, contents):
    out = half / "run"
    before = contents(out)
    assert run("report", out) == 0
    after = contents(out)
    assert all(after.pop(f"report.{kind}") for kind in ("html", "csv", "md"))
    assert after == before  # nothing else is written: no lock, no summary
    page = page_of(out)
    assert "student is not finished: step 4 of 8" in page
    assert re.search(r"student 4 of 8 forward KL \d\.\d{3} [\d.]+k? .* \d{4}-\d\d-\d\d \d\d:\d\d:\d\d 4, 8 ", page)
    assert re.search(r"cached not started: 8 steps control not started: 8 steps", page)
    assert "teacher, trained on text alone" in page.replace("teacher teacher,", "teacher,") or "trained on text" in page
    assert "validation loss" in (out / "report.html").read_text()
    assert f"gemmule run {out / 'recipe.toml'}" in page


def test_looking_at_a_run_that_goes_on_needs_no_torch(half):
    code = (
        "import sys; from pathlib import Path; from gemmule.run import runner; runner.report(Path(sys.argv[1]));"
        "assert not {'torch', 'transformers', 'tensorboard'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(half / "run")], check=True)


def test_the_same_command_then_finishes_and_writes_it_anew(run, half, finished, contents):
    out = half / "run"
    assert run("report", out) == 0
    assert run("run", half / "tiny.toml", "--out", out) == 0
    assert "In training" not in page_of(out)
    assert "ratio" in page_of(out)
    assert (out / "summary.json").exists()


def test_a_figure_is_a_line_and_where_it_is_computed(run, copy, monkeypatch):
    """One more is in the summary and, with its column, in the report; null of models that were evaluated before."""
    toy = table.Figure("toy", "quality", "A toy", units.percent, max, "A toy: what a test adds.")
    monkeypatch.setattr(table, "FIGURES", (*table.FIGURES, toy))
    measure = figures.measure
    with_toy = lambda *arguments: [found | {"toy": 0.125} for found in measure(*arguments)]  # noqa: E731
    monkeypatch.setattr(figures, "measure", with_toy)
    shutil.rmtree(copy / "run" / "models" / "student" / "evaluation")
    assert run("run", copy / "tiny.toml", "--out", copy / "run") == 0
    models = json.loads((copy / "run" / "summary.json").read_text())["models"]
    assert {name: model["toy"] for name, model in models.items() if model["toy"] is not None} == {"student": 0.125}
    assert len(models) == 4
    page = (copy / "run" / "report.html").read_text()
    assert "A toy: what a test adds." in page
    assert re.search(r'<td data-label="A toy"[^>]*>\s*12.5%', page)
    assert table.evaluated()[-1] == "toy"  # which is what a served model has null


def test_nothing_made_yet_and_no_run_at_all(run, tmp_path, recipe, capsys):
    assert run("report", tmp_path) == 2
    assert f"{tmp_path}: not a run folder: it has no recipe.toml" in capsys.readouterr().err
    assert run("refine", recipe, "--out", tmp_path / "run") == 0
    assert run("report", tmp_path / "run") == 0
    page = page_of(tmp_path / "run")
    assert "No model of this run has been evaluated yet" in page
    assert re.search(r"teacher not started: 16 steps student not started: 8 steps", page)


def test_while_the_run_goes_on(run, recipe, capsys):
    """The run holds the folder's lock, and neither notices the other; a second run is refused, naming the first."""
    out = recipe.parent / "run"
    command = [sys.executable, "-m", "gemmule", "run", str(recipe), "--out", str(out), "--set",
               "models.teacher.train.tokens=40M"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = out / "models" / "teacher" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 2):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert run("report", out) == 0
    lines = log.read_text().count("\n")
    assert run("run", recipe, "--out", out) == 2
    assert f"{out} is in use by process {process.pid}" in capsys.readouterr().err
    while log.read_text().count("\n") <= lines:
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert re.search(r"teacher is in training: step \d+ of 156,250", page_of(out))


def test_students_are_paired_with_their_control_by_document(finished):
    """By the losses of each document that both evaluations kept, computed here anew."""
    models = finished / "run" / "models"
    ours, theirs = (
        parquet.read_table(models / name / "evaluation" / "units.parquet") for name in ("student", "control")
    )
    columns = [each[name].to_numpy() for each in (ours, theirs) for name in ("loss", "tokens")]
    expected = compare(*columns)
    low, high = (math.exp(end) for end in expected.interval)
    page = page_of(finished / "run").replace(units.SPACE, " ")
    figures = json.loads((models / "student" / "evaluation" / "evaluation.json").read_text())
    over = ("" if figures["units"] == "documents" else "equal parts of ") + f"{figures['documents']} documents"
    assert f"95% interval {low:.3f} to {high:.3f}, paired over {over}; p" in page
    assert page.count("compare these two checkpoints") == 1
    assert "Loss by position" in page
    low, high = (units.perplexity(end) for end in figures["perplexity_interval"])
    assert f"{units.perplexity(figures['perplexity'])} {low} to {high}" in page
    summary = json.loads((finished / "run" / "summary.json").read_text())["models"]["student"]
    assert summary["acceptance"] == figures["acceptance"]


def test_evaluations_of_before_there_were_intervals_are_still_reported(run, copy):
    for folder in (copy / "run" / "models").glob("*/evaluation"):
        figures = json.loads((folder / "evaluation.json").read_text())
        new = ("perplexity_interval", "bits_per_byte_interval", "acceptance", "entropy", "teacher_entropy", "tokens",
               "documents", "units", "by_position", "tasks")  # fmt: skip
        (folder / "evaluation.json").write_text(json.dumps({k: v for k, v in figures.items() if k not in new}))
        (folder / "units.parquet").unlink()
    assert run("report", copy / "run") == 0
    page = page_of(copy / "run")
    assert "ratio" in page
    assert "95%" not in page
    assert "Acceptance" not in page
