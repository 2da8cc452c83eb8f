"""The evaluations of a run: in one pass, on a part of the text, made again without asking, compared by their units."""

import json
import math
import shutil

import pytest
import torch

import gemmule
from gemmule.evaluate.units import Units, ratio
from gemmule.plan.plan import Plan
from gemmule.recipe import read
from gemmule.run.runner import Family
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.train import metrics


def evaluation(base, name, folder="run"):
    return json.loads((base / folder / "models" / name / "evaluation" / "evaluation.json").read_text())


def test_all_models_and_their_teacher_are_read_once_in_one_pass(copy, monkeypatch):
    before = {name: evaluation(copy, name) for name in ("teacher", "student", "cached", "control")}
    for name in before:
        shutil.rmtree(copy / "run" / "models" / name / "evaluation")
    loaded, read_tokens = [], []
    expect, load = Gemma2Teacher.expect, Gemma2Teacher.__init__

    def counted(self, ids, documents=None):
        read_tokens.append((id(self), ids.numel()))
        return expect(self, ids, documents)

    monkeypatch.setattr(Gemma2Teacher, "expect", counted)
    monkeypatch.setattr(Gemma2Teacher, "__init__", lambda self, model: (loaded.append(model), load(self, model))[1])
    Family.from_file(copy / "tiny.toml", out=copy / "run").run("evaluate")
    assert len(loaded) == 4
    plan = Plan(read(copy / "tiny.toml"), copy / "tiny.toml", copy / "run")
    windows = plan.validation_tokens.windows()
    by_model = {key: sum(tokens for other, tokens in read_tokens if other == key) for key, _ in read_tokens}
    assert list(by_model.values()) == [len(windows) * 16] * 4
    assert {name: evaluation(copy, name) for name in before} == before


def test_one_models_evaluation_makes_those_that_share_its_teacher(run, copy, capsys):
    for name in ("student", "control"):
        shutil.rmtree(copy / "run" / "models" / name / "evaluation")
    assert run("evaluate", copy / "tiny.toml", "--out", copy / "run", "--model", "student") == 0
    assert "evaluating student, control" in capsys.readouterr().err
    assert evaluation(copy, "control")["perplexity"] > 1


def test_what_an_evaluation_tells(finished):
    student, control, teacher = (evaluation(finished, name) for name in ("student", "control", "teacher"))
    assert teacher["acceptance"] is teacher["teacher_entropy"] is None
    for found in (student, control):
        assert 0 < found["acceptance"] < 1
        assert found["teacher_entropy"] == pytest.approx(teacher["entropy"], rel=1e-6)
        low, high = found["perplexity_interval"]
        assert low < found["perplexity"] < high
        assert found["tasks"] == {}
    folders = [finished / "run" / "models" / name / "evaluation" for name in ("student", "control")]
    ours, theirs = map(Units.read, folders)
    assert ratio(ours, theirs, True).value == pytest.approx(student["perplexity"] / control["perplexity"])
    assert ours.tokens.sum() == student["tokens"]
    assert (student["units"], student["documents"]) == ("stretches", 2)
    assert len(ours.loss) >= 16


def test_a_part_of_the_text_is_read_if_the_recipe_or_the_training_says_so(run, copy, capsys):
    recipe = copy / "tiny.toml"
    whole = evaluation(copy, "student")
    assert run("run", recipe, "--out", copy / "run", "--set", "evaluate.tokens=160") == 0
    err = capsys.readouterr().err
    assert "evaluating on 160 of" in err
    assert "moved" in err  # kept, and made again without --remake
    part = evaluation(copy, "student")
    assert part["tokens"] == 160 < whole["tokens"]
    assert part["perplexity"] != whole["perplexity"]
    assert part["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], rel=0.2)
    assert run("run", recipe, "--out", copy / "run", "--set", 'evaluate.tokens="all"') == 0
    assert evaluation(copy, "student") == whole
    capsys.readouterr()
    assert run("run", recipe, "--out", copy / "run", "--set", "evaluate.tokens=0") == 2
    assert "evaluate.tokens" in capsys.readouterr().err


def test_by_default_it_is_a_share_of_what_the_least_trained_model_learns_from(copy):
    def most(*overrides):
        plan = Plan(read(copy / "tiny.toml", overrides), copy / "tiny.toml", copy / "run")
        return plan.evaluations["student"].most_tokens

    assert most() == 2**12  # in any case
    overrides = [f'models.{name}.train.tokens="{tokens}"' for name, tokens in (("teacher", "9M"), ("student", "4M"))]
    assert most(*overrides) == 1_000_000
    assert most(*overrides, 'evaluate.tokens="all"') is None


def test_tasks_of_a_recipe(run, copy, capsys):
    recipe = copy / "tiny.toml"
    assert run("run", recipe, "--out", copy / "run", "--set", 'evaluate.tasks=["gemmule:nothing"]') == 2
    assert "evaluate.tasks: no such task" in capsys.readouterr().err
    tasks = 'evaluate.tasks=["gemmule:diversity", "gemmule:memorisation"]'
    assert run("run", recipe, "--out", copy / "run", "--set", tasks) == 0
    found = evaluation(copy, "student")["tasks"]
    assert found["gemmule:diversity"]["text"] is not None  # that of the validation text, beside
    assert found["gemmule:memorisation"]["count"] > 0
    assert evaluation(copy, "control")["tasks"].keys() == found.keys()


@pytest.mark.parametrize("name", ["teacher", "student", "cached"], ids=["hard", "live", "stored"])
def test_a_trainings_validation_loss_is_a_mean_over_the_same_tokens(run, copy, monkeypatch, name):
    """As `evaluate` gives it of them, and a sum by hand: not a sum, nor the distillation's own (axolotl PR 3271)."""
    monkeypatch.setattr("gemmule.train.loop.validation_windows", lambda *_: 10**6)  # all of the text
    recipe, out = copy / "tiny.toml", copy / "three"
    overrides = [f"models.{model}.train.tokens=768" for model in ("teacher", "student", "cached", "control")]
    asked = [argument for override in overrides for argument in ("--set", override)]
    assert run("evaluate", recipe, "--out", out, "--model", name, *asked) == 0
    records = metrics.read(out / "models" / name)
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3]
    validation = [record["validation_loss"] for record in records if "validation_loss" in record][-1]
    found = evaluation(copy, name, "three")
    assert math.log(found["perplexity"]) == pytest.approx(validation, rel=1e-6)
    plan = Plan(read(recipe, overrides), recipe, out)
    windows, model = plan.validation_tokens.windows(), gemmule.load(out / "models" / name / "final").double()
    batch = windows.window_batch(range(len(windows)))
    with torch.no_grad():
        logs = model(torch.from_numpy(batch.inputs)).double().log_softmax(-1)
    losses = -logs.gather(-1, torch.from_numpy(batch.targets)[..., None])[..., 0][torch.from_numpy(batch.mask)]
    assert len(losses) == found["tokens"] == len(plan.validation_tokens.shards)
    assert float(losses.mean()) == pytest.approx(validation, rel=1e-6)
