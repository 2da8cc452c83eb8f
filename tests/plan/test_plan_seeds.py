"""The steps of models that are trained several times: where they lie, in which order, and what each is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemmule.plan.plan import Plan
from gemmule.plan.steps import Step
from gemmule.plan.steps.evaluation import EvaluationStep
from gemmule.plan.steps.model import ModelStep

MODEL = {"architecture": {"layers": 2, "width": 16}, "train": {"tokens": 1000}}
CACHED = {"targets": {"bytes_per_token": 30}}
RECIPE = Path(__file__).parent / "made_before" / "recipe.toml"


def plan_of(models: dict[str, Any], **keys: Any) -> Plan:
    raw = {"name": "r", "data": {"sources": ["text.jsonl"]}, "tokenizer": {"vocabulary_size": 300}, "models": models}
    return Plan(raw | keys, RECIPE, Path("nowhere"))


def family(**teacher: Any) -> dict[str, Any]:
    return {
        "teacher": MODEL | teacher,
        "student": MODEL | {"learn_from": "teacher", "distill": CACHED},
        "control": {"like": "student", "learn_from": "none"},
    }


def place(step: Step) -> str:
    return step.path.relative_to("nowhere").as_posix()


def made_from(plan: Plan) -> dict[str, dict[str, str]]:
    return {place(step): {role: place(source) for role, source in step.inputs.items()} for step in plan.steps}


def test_first_trainings_come_first_and_evaluations_after_their_models():
    plan = plan_of(family(), seed=5, seeds=2)
    first = ["models/teacher/final", "targets/teacher", "models/student/final", "models/control/final"]
    first += [f"models/{name}/evaluation" for name in ("teacher", "student", "control")]
    shared = ["documents", "tokenizer", "tokens/train", "tokens/validation"]
    assert [place(step) for step in plan.steps] == [*shared, *first, *(f"seeds/6/{at}" for at in first)]
    assert [training.recipe.seed for training in plan.trainings] == [5, 6]
    assert {name: place(step) for name, step in plan.models.items()}["student"] == "models/student/final"


def test_a_further_training_is_that_of_a_run_with_its_seed():
    """Settings alike; inputs alike, but for the folder that they lie in."""
    further, alone = plan_of(family(), seed=5, seeds=2), plan_of(family(), seed=6)
    of_seed = {place(step).removeprefix("seeds/6/"): step for step in further.steps if "seeds/6/" in place(step)}
    others = {place(step): step for step in alone.steps if place(step) in of_seed}
    assert of_seed.keys() == others.keys()
    for at, step in of_seed.items():
        assert step.settings == others[at].settings
        theirs = {role: place(source) for role, source in others[at].inputs.items()}
        assert {role: place(source).removeprefix("seeds/6/") for role, source in step.inputs.items()} == theirs


def test_a_teacher_trained_once_teaches_all_from_one_folder_of_targets():
    found = made_from(plan_of(family(seeds=1), seeds=3))
    assert [at for at in found if "teacher" in at] == [
        "models/teacher/final", "targets/teacher", "models/teacher/evaluation"
    ]  # fmt: skip
    for seed in (1, 2):
        assert found[f"seeds/{seed}/models/student/final"]["targets"] == "targets/teacher"
        assert found[f"seeds/{seed}/models/student/evaluation"]["teacher"] == "models/teacher/final"
        assert found[f"seeds/{seed}/models/control/evaluation"]["teacher"] == "models/teacher/final"


def test_an_ensemble_of_which_one_is_trained_again_has_targets_of_its_own():
    models = family(seeds=1) | {"second": MODEL, "both": MODEL | {"learn_from": {"teacher": 0.5, "second": 0.5}}}
    models["both"] = models["both"] | {"distill": CACHED}
    found = made_from(plan_of(models, seeds=2))
    targets = found["seeds/1/models/both/final"]["targets"]
    assert targets == "seeds/1/targets/teacher+second"
    assert found[targets]["teacher teacher"] == "models/teacher/final"
    assert found[targets]["teacher second"] == "seeds/1/models/second/final"
    assert found["seeds/1/models/student/final"]["targets"] == "targets/teacher"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_start_is_that_of_the_seed_or_the_only_one(seeds):
    models = {"large": MODEL | {"seeds": seeds}, "small": MODEL | {"start_from": "large"}}
    found = made_from(plan_of(models, seeds=2))
    assert found["models/small/final"]["start_from"] == "models/large/final"
    expected = "models/large/final" if seeds == 1 else "seeds/1/models/large/final"
    assert found["seeds/1/models/small/final"]["start_from"] == expected


def test_what_comes_from_outside_is_there_once():
    models = {
        "outside": {"from": "some/hub-id"},
        "small": MODEL | {"start_from": "another/hub-id", "learn_from": "outside"},
    }
    plan = plan_of(models, seeds=2)
    found = made_from(plan)
    assert len(found) == len(plan.steps) == 11
    assert found["seeds/1/models/small/final"]["start_from"] == "models/small/start"
    assert found["seeds/1/models/small/final"]["teacher"] == "models/outside/source"
    assert "seeds/1/models/outside/evaluation" not in found


def test_one_model_alone_may_have_more():
    plan = plan_of({"a": MODEL, "b": MODEL | {"seeds": 3}, "c": MODEL | {"seeds": 2}}, seed=7)
    trained = [place(step) for step in plan.of(ModelStep)]
    assert trained[3:] == ["seeds/8/models/b/final", "seeds/8/models/c/final", "seeds/9/models/b/final"]
    assert [place(step) for step in plan.of(EvaluationStep) if step.belongs_to({"b"})] == [
        "models/b/evaluation", "seeds/8/models/b/evaluation", "seeds/9/models/b/evaluation"
    ]  # fmt: skip
