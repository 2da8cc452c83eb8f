"""Does a model look further back than its windows reach? Two local layers, and a local and a global one.

    python benchmarks/long_range.py [--tokens 3M] [--questions 200] [--out benchmarks/work/long_range]

Trains two models by one recipe, on documents made up so that they need it: each gives some made-up words a number and
names them again and again, near and far, always with the same number; some hide one number in filler text and ask for
it at the end (`gemmule:passkey`). Both models read windows of 2,048 tokens and have sliding windows of 32; of one all
layers are local. What lies ten windows back is within no local layer's reach, nor in that of all of them in turn.

Prints one table: how often each model has the whole number right, greedily, by how many windows back it stood the last
time; then what it makes of `gemmule:passkey`, and its loss by the position in its window.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import common  # before torch
import torch
from rich.table import Table
from torch import Tensor

from gemmule.evaluate.tasks import Asked, passkey
from gemmule.model import weights
from gemmule.recipe import parse_count
from gemmule.run.runner import Family
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.tokenize.tokenizer import Tokenizer, load_tokenizer

LENGTH, WINDOW = 2048, 32
WORDS = ["".join(word) for word in product("bdfkmnprst", "ao", "ln", "iu")] + [
    "".join(word) for word in product("gvz", "ei", "ms", "ao")
]
VOCABULARY = 456  # nearly as many as this text supports: every word is one token
DIGITS = 3
PAIR = 1 + DIGITS  # tokens: a word and its number's digits
FEWEST, MOST = 3, len(WORDS)  # words of a document
SHORTEST = 100  # tokens of a document, about; the longest are windows
KINDS = {"naming": 0.4, "listing": 0.4, "hiding": 0.2}  # of documents, by their share
DISTANCES = (0, 1, 2, 4, 10, 12, 20, math.inf)  # windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=parse_count, default=3_000_000)
    parser.add_argument("--batch", type=parse_count, default=2048)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--documents", type=int, default=60, help="that the models are asked about")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/long_range"))
    wishes = parser.parse_args()

    wishes.out.mkdir(parents=True, exist_ok=True)
    text = wishes.out.resolve() / "documents.jsonl"
    text.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(Random(0), wishes.tokens)))
    shape = {"layers": wishes.layers, "width": wishes.width, "heads": 4, "kv_heads": 4, "window": WINDOW}
    train = {"tokens": wishes.tokens, "batch_tokens": wishes.batch}
    recipe = {
        "name": "long_range",
        "data": {"sources": [str(text)], "sequence_length": LENGTH, "separate_documents": True},
        "tokenizer": {"vocabulary_size": VOCABULARY},
        "models": {
            "alternating": {"architecture": shape, "train": train},
            "local": {"like": "alternating", "architecture": {"attention": "local"}},
        },
    }
    family = Family(recipe, wishes.out / "recipe.toml", wishes.out / "run")
    common.run(family)
    show(family, wishes.documents)


def documents(random: Random, tokens: int) -> Iterator[str]:
    """About so many tokens of them, of lengths from SHORTEST to a whole window: short ones are learned first."""
    write = {"naming": naming, "listing": listing, "hiding": hiding}
    while tokens > 0:
        length = int(math.exp(random.uniform(math.log(SHORTEST), math.log(LENGTH))))
        (kind,) = random.choices(list(KINDS), weights=list(KINDS.values()))
        tokens -= length
        yield "".join(write[kind](random, length))


def naming(random: Random, length: int, fewest: int = FEWEST) -> list[str]:
    """Words with their numbers, `length` tokens in all: some words, each in many places, in any order."""
    count = length // PAIR
    numbers = {word: f"{random.randrange(10**DIGITS):0{DIGITS}}" for word in _some(random, count, fewest)}
    return [f" {word}{number}" for word, number in random.choices(list(numbers.items()), k=count)]


def listing(random: Random, length: int) -> list[str]:
    """Words alone, the same ones in the same order again and again: the quickest way to learn to look back."""
    words = _some(random, length, FEWEST)
    return [f" {word}" for word in words * (length // len(words))]


def _some(random: Random, places: int, fewest: int) -> list[str]:
    """Few words rather than many, of which each has two places or more."""
    most = max(fewest + 1, min(MOST, places // 2))
    return random.sample(WORDS, round(math.exp(random.uniform(math.log(fewest), math.log(most)))))


def hiding(random: Random, length: int) -> list[str]:
    """Filler text with a number in it, and the question with its answer, as the task `passkey` has them."""
    sentences = max(1, length // 6 - 10)
    before = random.randrange(sentences + 1)
    number = f"{random.randrange(10**4, 10**5)}"
    first = random.randrange(len(passkey.FILLER))
    filler = [passkey.FILLER[(first + place) % len(passkey.FILLER)] for place in range(sentences)]
    filler.insert(before, passkey.NEEDLE.sentence.format(number))
    return [f" {sentence}" for sentence in [*filler, passkey.NEEDLE.question, number]]


class Found(NamedTuple):
    """Where a word is named again."""

    distance: int  # tokens since the last time
    right: bool  # all of the number


@torch.no_grad()
def recall(model: Callable[[Tensor], Tensor], tokenizer: Tokenizer, count: int) -> list[Found]:
    """Reads `count` new documents, each as long as a window and of many words, and says at each word what it expects.

    All digits are the likeliest tokens after the right ones before them: then they are what it would write, greedily.
    """
    random, found = Random(1), []
    for _ in range(count):
        pairs = [tokenizer.encode(pair) for pair in naming(random, LENGTH - PAIR, fewest=MOST // 3)]
        ids = tokenizer.opening + [number for pair in pairs for number in pair]
        expected = model(torch.tensor([ids[:-1]]))[0].argmax(-1).tolist()
        last: dict[int, int] = {}
        place = len(tokenizer.opening)
        for word, *digits in pairs:
            if word in last:
                right = expected[place : place + DIGITS] == digits  # what it expects after the word, and so on
                found.append(Found(place - last[word], right))
            last[word] = place
            place += PAIR
    return found


def show(family: Family, documents: int) -> None:
    names = list(family.plan.recipe.models)
    tokenizer = load_tokenizer(family.out / "tokenizer")
    models = {name: weights.load(family.out / "models" / name / "final") for name in names}
    table = Table("whole number right", *names, "count")
    recalled = {name: recall(model, tokenizer, documents) for name, model in models.items()}
    for low, high in pairwise(DISTANCES):
        cells = {
            name: [one.right for one in found if low * WINDOW <= one.distance < high * WINDOW]
            for name, found in recalled.items()
        }
        title = f"{low} to {high} windows back" if high < math.inf else f"{low} windows back and more"
        count = len(cells[names[0]])
        table.add_row(title, *(f"{sum(cell) / max(1, count):.1%}" for cell in cells.values()), f"{count:,}")
    asked = {name: passkey.run(Asked(Gemma2Teacher(model), tokenizer, LENGTH)) for name, model in models.items()}
    for key, title in (("accuracy", "passkey, the likeliest of ten"), ("exact", "passkey, written")):
        far = {name: mean_of_far(result, key) for name, result in asked.items()}
        cells = [f"{asked[name][key]:.0%}, {far[name]:.0%}" for name in names]
        table.add_row(f"{title}: all, 10 windows back and more", *cells, f"{asked[names[0]]['count']}")
    positions = {name: evaluation(family, name)["by_position"] for name in names}
    for rows in zip(*positions.values(), strict=True):
        title = f"validation loss, tokens {rows[0]['from']} to {rows[0]['to']} of a window"
        table.add_row(title, *(f"{row['loss']:.3f}" for row in rows), f"{rows[0]['count']:,}")
    common.show(table)


def mean_of_far(result: dict[str, Any], key: str) -> float:
    """Over the prompts of a task whose number lies ten windows and more before the question."""
    cells = [cell for cell in result["by_length_and_depth"] if cell["length"] * (1 - cell["depth"]) >= 11 * WINDOW]
    return sum(cell[key] * cell["count"] for cell in cells) / sum(cell["count"] for cell in cells)


def evaluation(family: Family, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((family.out / "models" / name / "evaluation" / "evaluation.json").read_text())
    return found


if __name__ == "__main__":
    main()
