"""What a model can do: the tasks that gemmule brings, by name. Others are lm-evaluation-harness's (`harness.py`).

A task is one file beside this one with `run`, which is asked of a model and answers with its numbers, strict JSON.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.tokenizer import Tokenizer

PREFIX = "gemmule:"  # as the recipes and texts that gemmule brings are named
OWN: dict[str, str] = {  # the file that has `run`, by the task's name
    "passkey": "passkey",
    "needle": "needle",
    "evidence": "evidence",
    "memorisation": "memorisation",
    "diversity": "diversity",
    "arithmetic": "arithmetic",
    "answers": "answers",
}


@dataclass(frozen=True)
class Asked:
    """Who is asked, and about what."""

    model: Teacher  # gives whole distributions
    tokenizer: Tokenizer  # whose ids it reads
    context: int  # tokens that it reads at most, <bos> among them
    texts: Sequence[str] = ()  # documents, where the user gave any
    records: Sequence[Mapping[str, str]] = ()  # with "question" and "answer" (`records.py`)
    seed: int = 0


Run = Callable[[Asked], dict[str, Any]]


def task(name: str) -> Run:
    """The `run` of a task named without the prefix."""
    run: Run = importlib.import_module(f"{__package__}.{OWN[name]}").run
    return run
