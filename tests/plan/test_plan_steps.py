"""Each key of the recipe reaches the settings of the steps that it is declared for, and of no others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from recipe_keys import KEYS, PATHS, RAW, at, changed, other

from gemmule.plan.plan import Plan
from gemmule.plan.steps import Step
from gemmule.plan.steps.model import ModelStep
from gemmule.plan.steps.targets import TargetsStep
from gemmule.recipe import Data, Distill, Duplicates, Evaluate, Quality, Recipe, Refine, Targets, TokenizerSection
from gemmule.recipe.identity import declared
from gemmule.recipe.refining import C4, Boilerplate, FineWeb, Gopher, Repetition

PLAN = Plan(RAW, Path(__file__).parent / "made_before" / "recipe.toml", Path("nowhere"))
READ_WINDOWS = {"targets", "model", "evaluation"}
OF_SECTION = {
    Data: {"documents"},
    Refine: {"documents"},
    **{key: {"documents"} for key in (Quality, Gopher, Repetition, C4, FineWeb, Boilerplate)},
    Duplicates: {"documents"},
    TokenizerSection: {"tokenizer"},
    Targets: {"targets", "model"},
    Evaluate: {"evaluation"},
}  # of any other: a model


def of_recipe(step: Step, recipe: Recipe) -> Step:
    """The step, of a recipe that differs."""
    replaced = {"recipe": recipe}
    if isinstance(step, ModelStep):
        replaced["train"] = recipe.models[step.name].train
    if isinstance(step, TargetsStep):
        distill = recipe.models[step.student].distill
        replaced |= {"how": distill.targets, "temperature": distill.temperature}
    return dataclasses.replace(step, **replaced)


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
@pytest.mark.parametrize(("kind", "name"), KEYS)
def test_a_key_changes_the_steps_that_it_is_of(kind, name):
    said, path = declared(kind.model_fields[name]), (*PATHS[kind], name)
    if said.of == "resolved":
        return  # not this value, but what it comes to
    recipe = changed(PLAN.recipe, path, other(at(PLAN.recipe, path)))
    differing = {step.kind for step in PLAN.steps if of_recipe(step, recipe).settings != step.settings}
    expected = {"windows": READ_WINDOWS, "nothing": set()}.get(said.of, OF_SECTION.get(kind, {"model"}))
    assert differing == expected | ({"targets"} if (kind, name) == (Distill, "temperature") else set())
