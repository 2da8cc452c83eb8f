"""What a model can do: the tasks that gemmule brings, by name. Others are lm-evaluation-harness's (`harness/`).

A task is one file beside this one with `run`, which is asked of a model and answers with its numbers, strict JSON.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmule.base.errors import RequestError
from gemmule.base.progress import say
from gemmule.recipe.errors import unknown_name
from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.tokenizer import Tokenizer

PREFIX = "gemmule:"  # as the recipes and texts that gemmule brings are named
# each in a file of its name
OWN = ("passkey", "needle", "evidence", "memorisation", "diversity", "arithmetic", "answers")
MOST_TEXT = 2**26  # characters of documents that tasks are given
OF_TRAINING_TEXT = {f"{PREFIX}memorisation"}  # in a run


@dataclass(frozen=True)
class Asked:
    """Who is asked, and about what."""

    model: Teacher  # gives whole distributions
    tokenizer: Tokenizer  # whose ids it reads
    context: int  # tokens that it reads at most, <bos> among them
    texts: Sequence[str] = ()  # documents, where the user gave any
    seed: int = 0
    records: Sequence[Mapping[str, str]] = ()  # with "question" and "answer" (`records.py`)


def some(documents: Iterable[str]) -> list[str]:
    """The first documents, as many as a task may want to draw from; in memory."""
    kept: list[str] = []
    size = 0
    for document in documents:
        kept.append(document)
        size += len(document)
        if size >= MOST_TEXT:
            break
    return kept


Run = Callable[[Asked], dict[str, Any]]


def task(name: str) -> Run:
    """The `run` of a task named without the prefix."""
    run: Run = importlib.import_module(f"{__package__}.{name}").run
    return run


def check(names: Sequence[str], include: Path | None = None, *, allow_code: bool = False) -> None:
    """Raises RequestError naming a task that is not there, before any work."""
    ours, theirs = _sorted(names)
    for name in ours:
        if name not in OWN:
            raise RequestError(unknown_name(PREFIX + name, [PREFIX + each for each in OWN], "task"))
    if theirs:
        from gemmule.evaluate.harness import check_tasks

        check_tasks(theirs, include, allow_code=allow_code)
    elif include is not None:
        raise RequestError(f"--include {include}: none of the tasks is lm-evaluation-harness's")


def run(names: Sequence[str], asked: Asked, include: Path | None = None, *, allow_code: bool = False) -> dict[str, Any]:
    """The numbers of each task, by its name; of a group of lm-evaluation-harness by those in it."""
    ours, theirs = _sorted(names)
    found: dict[str, Any] = {}
    for name in ours:
        try:
            found[PREFIX + name] = task(name)(asked)
        except RequestError as error:  # of this model or text: what else was asked for is worth having
            say(f"{PREFIX}{name}: not measured: {error}")
            found[PREFIX + name] = {"not_measured": str(error)}
    if theirs:
        from gemmule.evaluate.harness import run_tasks

        found |= run_tasks(asked.model, asked.tokenizer, asked.context, theirs, include, allow_code=allow_code)
    return found


def _sorted(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of our own, without the prefix, and lm-evaluation-harness's."""
    names = list(dict.fromkeys(name.strip() for name in names))
    ours = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    return ours, [name for name in names if not name.startswith(PREFIX)]
