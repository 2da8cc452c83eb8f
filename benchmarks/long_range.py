"""Does a model look further back than its windows reach? Two local layers, and a local and a global one.

    python benchmarks/long_range.py [--short 1.5M] [--tokens 3M] [--documents 60] [--out benchmarks/work/long_range]

Trains two models by one recipe, on documents made up so that they need it: each gives some made-up words a number and
names them again and again, near and far, always with the same number; some hide one number in filler text and ask for
it at the end, as the task `passkey` does. Training begins on short documents, where looking back is learned within
minutes, and goes on in windows of 2,048 tokens. Sliding windows are of 32 tokens; of one model all layers are local:
what lies ten windows back is out of reach for each of its layers, and for both in turn.

Prints one table: how often each model has the whole number right, greedily, by how many windows back it stood the last
time; then what it makes of `gemmule:passkey`, and its loss by the position in its window.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from gemmule.tokenize.tokenizer import Tokenizer, load_tokenizer, save

LENGTH, WINDOW = 2048, 32  # tokens
SHORT = 256  # tokens of the windows that training begins with
WORDS = ["".join(word) for word in product("bdkmrt", "ao", "ln", "i")]  # few: more take far longer to tell apart
VOCABULARY = 350  # a little below what this text supports: every word is one token
DIGITS = 3
PAIR = 1 + DIGITS  # tokens: a word and its number's digits
FEWEST, MOST = 3, len(WORDS)  # words of a document
HIDING = 0.1  # of the documents: those that hide one number in filler text
DISTANCES = (0, 1, 2, 4, 10, 12, 20, math.inf)  # windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", type=parse_count, default=1_500_000, help="tokens of short documents, at first")
    parser.add_argument("--tokens", type=parse_count, default=3_000_000, help="tokens of windows of full length, then")
    parser.add_argument("--documents", type=int, default=60, help="that the models are asked about")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/long_range"))
    wishes = parser.parse_args()

    # heads of 16 find 4 in 10 at ten windows, perhaps as few of their rotary pairs turn slowly enough
    shape = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 4, "head_dim": 32, "window": WINDOW}
    kinds = {"alternating": shape, "local": shape | {"attention": "local"}}
    first = {"tokens": wishes.short, "batch_tokens": 2048}
    short = make(wishes.out / "short", wishes.short, SHORT, {"vocabulary_size": VOCABULARY}, {
        name: {"architecture": kind, "train": first} for name, kind in kinds.items()
    })  # fmt: skip
    then = {"tokens": wishes.tokens, "batch_tokens": 4096, "learning_rate": 0.01}
    long = make(wishes.out / "long", wishes.tokens, LENGTH, {"from": str(short.resolve() / "tokenizer")}, {
        name: {"architecture": kind, "train": then, "start_from": str(lengthen(short / "models" / name / "final"))}
        for name, kind in kinds.items()
    })  # fmt: skip
    show(long, list(kinds), wishes.documents)


def make(out: Path, tokens: int, length: int, tokenizer: dict[str, Any], models: dict[str, Any]) -> Path:
    """Trains models on so many tokens of documents made up for windows of `length`. Gives the run's folder."""
    out.mkdir(parents=True, exist_ok=True)
    text = out.resolve() / "documents.jsonl"
    text.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(Random(0), tokens, length)))
    data = {"sources": [str(text)], "sequence_length": length, "separate_documents": True}
    raw = {"name": "long_range", "data": data, "tokenizer": tokenizer, "models": models}
    common.run(Family(raw, out / "recipe.toml", out / "run"))
    return out / "run"


def lengthen(final: Path) -> Path:
    """The same model in a folder that says it reads LENGTH tokens: rotary positions need no other weights for that."""
    model, folder = weights.load(final), final.resolve().with_name("lengthened")
    model.config = replace(model.config, context_length=LENGTH)
    if not folder.exists():
        weights.save(model, folder)
        save(load_tokenizer(final), folder)
    return folder


def documents(random: Random, tokens: int, window: int) -> Iterator[str]:
    """About so many tokens of them, each of a quarter of a window to a whole one."""
    while tokens > 0:
        length = int(math.exp(random.uniform(math.log(window // 4), math.log(window))))
        tokens -= length
        digits = random.randint(1, DIGITS)  # a single one is learned first
        yield "".join(hiding(random, length) if random.random() < HIDING else naming(random, length, digits=digits))


def naming(random: Random, length: int, fewest: int = FEWEST, digits: int = DIGITS) -> list[str]:
    """Words with their numbers, `length` tokens in all: some words, each in many places, in any order."""
    places = length // (1 + digits)
    most = min(MOST, max(fewest, places // 3))
    count = round(math.exp(random.uniform(math.log(fewest), math.log(most))))  # few rather than many
    numbers = {word: f"{random.randrange(10**digits):0{digits}}" for word in random.sample(WORDS, count)}
    # In a long document some words are rare: the last time lies far back.
    weights = [1 / (1 + rank) for rank in range(count)] if length > SHORT else None
    return [f" {word}{number}" for word, number in random.choices(list(numbers.items()), weights, k=places)]


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
        pairs = [tokenizer.encode(pair) for pair in naming(random, LENGTH - PAIR, fewest=MOST)]
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


def show(run: Path, names: list[str], documents: int) -> None:
    tokenizer = load_tokenizer(run / "tokenizer")
    models = {name: weights.load(run / "models" / name / "final") for name in names}
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
    positions = {name: evaluation(run, name)["by_position"] for name in names}
    for rows in zip(*positions.values(), strict=True):
        title = f"validation loss, tokens {rows[0]['from']} to {rows[0]['to']} of a window"
        table.add_row(title, *(f"{row['loss']:.3f}" for row in rows), f"{rows[0]['count']:,}")
    common.show(table)


def mean_of_far(result: dict[str, Any], key: str) -> float:
    """Over the prompts of a task whose number lies ten windows and more before the question."""
    cells = [cell for cell in result["by_length_and_depth"] if cell["length"] * (1 - cell["depth"]) >= 11 * WINDOW]
    return sum(cell[key] * cell["count"] for cell in cells) / sum(cell["count"] for cell in cells)


def evaluation(run: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "models" / name / "evaluation" / "evaluation.json").read_text())
    return found


if __name__ == "__main__":
    main()
