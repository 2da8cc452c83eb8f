"""Models that are trained several times, each time with a seed of its own."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import strike

from gemmule import recipe as recipes
from gemmule.estimate.whole import estimate
from gemmule.evaluate.intervals import over_trainings
from gemmule.plan.plan import Plan
from gemmule.run.runner import Family
from gemmule.train import metrics

NAMES = ("teacher", "student", "cached", "control")
TWICE = ("--set", "models.control.seeds=2")  # of a run whose seed is 1
CONTROL = Path("seeds") / "2" / "models" / "control"


def weights(folder: Path) -> bytes:
    return (folder / "final" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def twice(run, finished, tmp_path_factory) -> Path:
    """The recipe of `finished` with seeds 0 and 1: the second one is that of `finished`."""
    out = tmp_path_factory.mktemp("twice") / "run"
    assert run("run", finished / "tiny.toml", "--set", "seed=0", "--set", "seeds=2", "--out", out) == 0
    return out


def test_a_further_training_is_a_run_with_its_seed_to_the_byte(twice, finished, contents):
    further, alone = twice / "seeds" / "1", finished / "run"
    for made in ("targets/teacher", *(f"models/{name}/{kind}" for name in NAMES for kind in ("final", "evaluation"))):
        assert contents(further / made) == contents(alone / made), made
    for name in NAMES:
        ours, theirs = (metrics.read(folder / "models" / name) for folder in (further, alone))
        assert [record.get("loss") for record in ours] == [record.get("loss") for record in theirs]
        assert weights(further / "models" / name) != weights(twice / "models" / name)
    assert {path.name for path in further.iterdir()} == {"models", "targets"}


def test_the_summary_has_the_figures_of_each_training(twice, finished):
    ours, theirs = (json.loads((out / "summary.json").read_text())["models"] for out in (twice, finished / "run"))
    for name in NAMES:
        first, second = ours[name].pop("trainings")
        assert first == {"seed": 0, **ours[name]}
        assert second | {"seconds": None} == {"seed": 1, **theirs[name], "seconds": None}
        assert "trainings" not in theirs[name]


def test_workers_teach_the_targets_of_all_trainings(twice, finished, run, tmp_path, contents, capsys):
    out = tmp_path / "run"
    shutil.copytree(twice, out)
    for folder in (out, out / "seeds" / "1"):
        shutil.rmtree(folder / "targets")
        for name in ("student", "cached", "control"):
            shutil.rmtree(folder / "models" / name)
    for worker in ("1/2", "2/2"):
        assert run("teach", out / "recipe.toml", "--worker", worker) == 0
    for made in ("targets/teacher", "seeds/1/targets/teacher"):
        assert contents(out / made) == contents(twice / made)
    assert run("teach", out / "recipe.toml", "--worker", "1/2") == 0
    assert capsys.readouterr().err.endswith("targets of teacher: made\ntargets of teacher in seeds/1: made\n")


def test_more_seeds_add_trainings_and_leave_the_rest(run, copy, contents, capsys):
    """One interrupted meanwhile, which the same command resumes."""
    recipe, out = copy / "tiny.toml", copy / "run"
    before = contents(out)
    command = strike.command("SIGINT", strike.METRICS, 12, "run", recipe, "--out", out, *TWICE)
    stopped = subprocess.run(command, capture_output=True, text=True)
    assert stopped.returncode == 130, stopped.stderr
    assert f"[1/2] {CONTROL}/final" in stopped.stderr
    assert json.loads((out / "status.json").read_text())["state"] == "resume"
    assert run("report", out) == 0
    assert "1 of its 2 trainings are finished" in (out / "report.html").read_text()
    capsys.readouterr()
    assert run("run", recipe, "--out", out, *TWICE) == 0
    assert "control: resuming from step" in capsys.readouterr().err
    after = contents(out)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"recipe.toml", "report.html", "report.csv", "report.md", "summary.json", "status.json"}
    assert all(name.startswith(str(CONTROL)) for name in after.keys() - before.keys())
    trainings = json.loads((out / "summary.json").read_text())["models"]["control"]["trainings"]
    assert [entry["seed"] for entry in trainings] == [1, 2]
    assert run("run", recipe, "--out", out, *TWICE) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert run("train", recipe, "--out", copy / "alone", "--set", "seed=2", "--model", "control") == 0
    assert weights(copy / "alone" / "models" / "control") == weights(out / CONTROL)


def test_a_verb_that_makes_the_last_of_them_renews_the_summary(run, copy, capsys):
    recipe, out = copy / "tiny.toml", copy / "run"
    assert run("train", recipe, "--out", out, *TWICE, "--model", "control") == 0
    assert "done" not in capsys.readouterr().err  # it is not evaluated yet
    assert run("evaluate", recipe, "--out", out, *TWICE, "--model", "control") == 0
    assert f"done. Open {out / 'report.html'}" in capsys.readouterr().err
    assert len(json.loads((out / "summary.json").read_text())["models"]["control"]["trainings"]) == 2


def test_all_trainings_of_a_model_go_on_with_more_tokens(run, copy, capsys):
    train, more = ("train", copy / "tiny.toml", "--model", "control"), ("--set", "models.control.train.tokens=4096")
    out, whole = copy / "run", copy / "whole"
    assert run(*train, "--out", out, *TWICE) == 0
    capsys.readouterr()
    assert run(*train, "--out", out, *TWICE, *more) == 0
    assert capsys.readouterr().err.count("control: goes on from step 4 of 16") == 2
    assert (out / "old" / CONTROL / "final-1").exists()
    assert run(*train, "--out", whole, *TWICE, *more) == 0
    for model in (Path("models") / "control", CONTROL):
        assert weights(out / model) == weights(whole / model)


def test_a_teacher_with_seeds_of_its_own_makes_further_students_stale(twice, finished):
    """And lets the first ones be; with fewer seeds nothing is left to do."""
    family = Family.from_file(finished / "tiny.toml", ["seed=0", "seeds=2", "models.teacher.seeds=1"], twice)
    missing, stale = family.compare(family.plan.steps)
    assert missing == []
    assert {str(step.path.relative_to(twice)) for step in stale} == {
        f"seeds/1/models/{name}" for name in ("student/final", "cached/final", *(f"{n}/evaluation" for n in NAMES[1:]))
    }
    assert [reason for reasons in stale.values() for reason in reasons if "teacher" in reason]
    family = Family.from_file(finished / "tiny.toml", ["seed=0"], twice)
    assert family.compare(family.plan.steps) == ([], {})


def test_an_estimate_counts_all_trainings(run, finished):
    recipe = finished / "tiny.toml"

    def estimated(*overrides: str):
        return estimate(Plan(recipes.read(recipe, overrides), recipe, finished / "elsewhere"))

    once, thrice, mixed = estimated(), estimated("seeds=3"), estimated("seeds=3", "models.teacher.seeds=1")
    assert thrice.flops == pytest.approx(3 * once.flops)
    of_teacher = next(training.flops for model, training, _ in once.trained if model.name == "teacher")
    (taught,) = once.teaching
    assert mixed.flops == pytest.approx(3 * once.flops - 2 * of_teacher - 2 * taught.flops)
    models = sum(model.disk for model in once.models)
    assert thrice.disk - once.disk == 2 * (models + taught.disk)
    assert [model.trainings for model in mixed.models] == [1, 3, 3, 3]
    assert thrice.training_seconds == pytest.approx(3 * sum(training.seconds for _, training, _ in thrice.trained))


def test_the_estimates_page_says_how_often(run, finished, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("estimate", finished / "tiny.toml", "--set", "seeds=3", "--out", finished / "elsewhere") == 0
    said = capsys.readouterr().out
    assert "student x 3" in said
    assert "x N: trained with N seeds" in said


def test_two_seeds_of_one_recipe_are_no_finding(run, recipe, tmp_path):
    """Three trainings against three others of the same recipe: the interval of the ratio over trainings holds 1."""
    text = recipe.read_text()
    alone = text[: text.index("[models.student]")] + text[text.index("[evaluate]") :]
    recipe.write_text(alone.replace("tokens = 4096", "tokens = 2048"))
    losses = []
    for seed in (0, 10):
        out = tmp_path / str(seed)
        assert run("run", recipe, "--out", out, "--set", f"seed={seed}", "--set", "seeds=3") == 0
        trainings = json.loads((out / "summary.json").read_text())["models"]["teacher"]["trainings"]
        assert [training["seed"] for training in trainings] == [seed, seed + 1, seed + 2]
        losses.append([math.log(training["perplexity"]) for training in trainings])
    assert len({*losses[0], *losses[1]}) == 6
    low, high = over_trainings([one - other for one, other in zip(*losses, strict=True)])
    assert low < 0 < high
