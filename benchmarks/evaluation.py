"""How fast a model is evaluated: beside a bare loop of forward passes, and several models in one pass.

    python benchmarks/evaluation.py [--model FOLDER] [--against FOLDER] [--run RUN] [--repeats 3]

A text of 1 MB (Shakespeare) is read in windows of the model's context. The bare loop tokenizes it, makes logits of as
many windows at once and adds up their cross-entropy: perplexity, and nothing else. `gemmule evaluate` measures the rest
beside: calibration, entropies, accuracy, loss by position, and all by document. Without --model, random models of the
demo's shapes are used: a student, and its teacher.

With --run, instead, the models of a finished run are evaluated on its validation text, loading included: each by itself
with its teacher beside it, and all in one pass, as `gemmule run` does.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path

import common
import torch
from rich.table import Table
from torch.nn import functional as F

import gemmule
from gemmule import recipe as recipes
from gemmule import tokenize
from gemmule.evaluate.figures import Subject, measure
from gemmule.evaluate.passages import DocumentPassages, StreamPassages
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.plan.plan import Plan
from gemmule.plan.steps.evaluation import EvaluationStep
from gemmule.refine import sources
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.tokenize.tokenizer import Tokenizer

BYTES = 1_000_000
AT_ONCE = 4096  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", type=Path)
    wishes = parser.parse_args()
    if wishes.run is not None:
        _family(wishes.run, wishes.repeats)
        return
    documents = _documents()
    if wishes.model is not None:
        tokenizer, model = gemmule.load_tokenizer(wishes.model), gemmule.load(wishes.model)
        other = gemmule.load(wishes.against or wishes.model)
    else:
        tokenizer = tokenize.train(documents, 2048)
        model, other = _random(3, 128, tokenizer), _random(4, 256, tokenizer)
    alone, beside = Gemma2Teacher(model), Gemma2Teacher(other)
    sides = {
        "bare loop of forward passes": partial(_bare, model, tokenizer, documents),
        "evaluate": partial(_evaluate, [Subject(alone)], documents, tokenizer),
        "bare loop, both models": lambda: [_bare(each, tokenizer, documents) for each in (model, other)],
        "evaluate, and the other one beside": partial(
            _evaluate, [Subject(alone, beside), Subject(beside)], documents, tokenizer
        ),
    }
    print({name: work() for name, work in list(sides.items())[:2]})
    seconds = common.medians(wishes.repeats, *sides.values())
    size = sum(len(text.encode()) for text in documents)
    table = Table("", "s", "kB/s", "of the bare loop's speed")
    for number, (name, taken) in enumerate(zip(sides, seconds, strict=True)):
        bare = seconds[number // 2 * 2]
        table.add_row(name, f"{taken:.1f}", f"{size / taken / 1e3:.1f}", f"{bare / taken:.2f}")
    common.show(table)


def _family(run: Path, repeats: int) -> None:
    plan = Plan(recipes.read(run / "recipe.toml"), run / "recipe.toml", run)
    steps = [step for step in plan.evaluations.values() if step.model.unmeasured is None]
    windows, device = plan.validation_tokens.windows(), torch.device("cpu")

    def evaluate(some: list[EvaluationStep]) -> None:
        models = dict.fromkeys(model for step in some for model in step.asked)
        loaded = {model: model.load(device) for model in models}
        subjects = []
        for step in some:
            (teacher,) = step.teachers or (None,)  # no ensembles here
            subjects.append(Subject(loaded[step.model], None if teacher is None else loaded[teacher]))
        measure(subjects, StreamPassages(windows, steps[0].most_tokens), "evaluating")

    taken = common.medians(repeats, lambda: [evaluate([step]) for step in steps], lambda: evaluate(steps))
    table = Table("", "s", "times as fast")
    for name, seconds in zip(("each with its teacher beside it", "all in one pass"), taken, strict=True):
        table.add_row(
            f"{', '.join(step.name for step in steps)}: {name}", f"{seconds:.1f}", f"{taken[0] / seconds:.2f}"
        )
    common.show(table)


def _documents() -> list[str]:
    documents: list[str] = []
    for file in sources.resolve(["gemmule:shakespeare"], Path()):
        for document in sources.read_documents(file):
            documents.append(document.text)
            if sum(map(len, documents)) >= BYTES:
                return documents
    return documents


def _random(layers: int, width: int, tokenizer: Tokenizer) -> Gemma2:
    config = Gemma2Config(
        tokenizer.vocabulary_size, layers, width, 4, 2, width // 4, 3 * width, 128, context_length=256
    )
    return Gemma2(config).initialise(0).eval()


@torch.no_grad()
def _bare(model: Gemma2, tokenizer: Tokenizer, documents: list[str]) -> float:
    """The perplexity."""
    length, loss, count = model.config.context_length, 0.0, 0
    windows = []
    for ids in tokenizer.encode_batch(documents):
        ids.append(tokenizer.eos_id)
        windows += [ids[start : start + length] for start in range(0, len(ids), length)]
    at_once = max(1, AT_ONCE // length)
    for first in range(0, len(windows), at_once):
        some = windows[first : first + at_once]
        targets = torch.full((len(some), length), -100)
        for row, ids in zip(targets, some, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        inputs = torch.cat([torch.full((len(some), 1), tokenizer.bos_id), targets[:, :-1].clamp(min=0)], 1)
        logits = model(inputs)
        loss += float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
        count += int((targets >= 0).sum())
    return math.exp(loss / count)


def _evaluate(subjects: list[Subject], documents: list[str], tokenizer: Tokenizer) -> float:
    subjects = [Subject(subject.model, subject.teacher) for subject in subjects]
    model = subjects[0].model
    passages = DocumentPassages(documents, tokenizer, model.context or 256, total=BYTES)
    perplexity: float = measure(subjects, passages, "evaluating")[0]["perplexity"]
    return perplexity


if __name__ == "__main__":
    main()
