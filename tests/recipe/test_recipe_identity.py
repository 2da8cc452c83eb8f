"""Each key of the recipe is part of the identity exactly as it declares: another value changes the settings, or not."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel
from recipe_keys import KEYS, PATHS, RAW, at, other

from gemmule.recipe import identity, parse
from gemmule.recipe.identity import NEVER, declared, omitted_at
from gemmule.recipe.schema import Section

RECIPE = parse(RAW)
OF = ("section", "windows", "taught")


def test_these_are_all_sections():
    """But [machine], of which nothing is part of an identity."""
    assert {section.__name__ for section in Section.__subclasses__()} == {s.__name__ for s in PATHS} | {
        "Machine",
        "WeightedSource",
        "TeacherScore",
    }


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
@pytest.mark.parametrize(("kind", "name"), KEYS)
def test_a_key_changes_what_it_says(kind, name):
    section, said = at(RECIPE, PATHS[kind]), declared(kind.model_fields[name])
    changed = section.model_copy(update={name: other(getattr(section, name))})
    differing = {of for of in OF if identity(section, "s", of) != identity(changed, "s", of)}
    assert differing == ({said.of} if said.of in OF else set())
    if said.omits:
        key = f"s.{kind.model_fields[name].alias or name}"
        at_omitted = section.model_copy(update={name: said.omitted})
        assert key in identity(changed, "s", said.of)
        assert key not in identity(at_omitted, "s", said.of)


def test_sections_within_follow_their_own_keys():
    student = RECIPE.models["student"]
    settings = identity(student, "models.student")
    assert settings["models.student.architecture.layers"] == 2
    assert "models.student.train.keep_last" not in settings
    assert settings["models.student.train.optimizer"] == "muon"
    assert not any(".distill." in key for key in settings)
    taught = identity(student, "models.student", "taught")
    assert taught["models.student.distill.targets.k"] == 5
    assert "models.student.distill.token_weights" not in taught


def test_a_declared_value_is_fixed_and_not_the_default():
    class Changed(BaseModel):
        optimizer: Annotated[str, omitted_at("adamw")] = "muon"  # as of a later version
        other: Annotated[int, NEVER] = 1

    assert identity(Changed(), "train") == {"train.optimizer": "muon"}
    assert identity(Changed(optimizer="adamw", other=2), "train") == {}
