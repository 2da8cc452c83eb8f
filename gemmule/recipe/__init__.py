"""The recipe: one TOML file that names text, a tokenizer and a family of models.

- Typed by pydantic (`schema.py`, `values.py`); an unknown key, a wrong type or an impossible shape is refused before
  any work, naming the key, the value and what is allowed.
- Each key says there whether it is part of an artifact's identity (`identity.py`).
- `like` copies every key of another model, then the given keys override it, deep.
- `--set models.student.train.tokens=500k` overrides a key.
- What is left out has a default that works; those that follow from something else (heads from the width, the window
  from the sequence length, the learning rate from the width) are filled in (`defaults.py`), so that a loaded recipe is
  complete.

Torch is not imported: reading a recipe takes milliseconds.
"""

from gemmule.recipe.identity import identity
from gemmule.recipe.reading import load, parse, read
from gemmule.recipe.refining import Duplicates, Quality, Refine, TeacherScore
from gemmule.recipe.schema import (
    Architecture,
    Data,
    Distill,
    Evaluate,
    Machine,
    Model,
    Recipe,
    Targets,
    TokenizerSection,
    Train,
    join_names,
)
from gemmule.recipe.values import Tracking, parse_count

__all__ = [
    "Architecture",
    "Data",
    "Distill",
    "Duplicates",
    "Evaluate",
    "Machine",
    "Model",
    "Quality",
    "Recipe",
    "Refine",
    "Targets",
    "TeacherScore",
    "TokenizerSection",
    "Tracking",
    "Train",
    "identity",
    "join_names",
    "load",
    "parse",
    "parse_count",
    "read",
]
