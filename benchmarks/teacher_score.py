"""What a model's scores tell apart: real text, and noise of known kinds planted in it.

    python benchmarks/teacher_score.py MODEL [--text FILES...] [--documents 200] [--planted 20] [--save FILE]

Passages of 100 to 1,000 characters of each text (gemmule's Shakespeare, unless named), and planted documents of each
kind, as long: random letters, a passage's words shuffled, its letters shuffled within words, base64, tables of random
numbers, one line repeated, and passages twice over. MODEL is a folder, a hub id or a GGUF file.

For each kind: its bits per byte, how surely they tell one of its documents from a real passage (the area under the ROC
curve: 0.5 is chance), and what the default shares drop. Then how much of what is dropped as noisy is noise, where a
tenth of the documents is, drawn 200 times. --save keeps scores and texts.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from gemmule.base.device import choose_device
from gemmule.evaluate import any_model
from gemmule.evaluate.scores import Scores, limits
from gemmule.evaluate.scoring import Scorer
from gemmule.recipe import TeacherScore
from gemmule.refine import sources

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LINES = ("Accept cookies | Terms | Privacy", "Click here to subscribe to our newsletter", "Share on Facebook")
NOISY = ("random letters", "shuffled words", "shuffled letters", "base64", "numbers")
EASY = ("one line", "twice over")
DRAWN = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", nargs="+", default=["gemmule:shakespeare"])
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--planted", type=int, default=20)
    parser.add_argument("--save", type=Path)
    wishes = parser.parse_args()
    kinds = {Path(text).name: _passages(text, wishes.documents) for text in wishes.text}
    kinds |= _noise([text for texts in kinds.values() for text in texts], wishes.planted)
    texts = [text for of_kind in kinds.values() for text in of_kind]
    of = np.array([kind for kind, of_kind in kinds.items() for _ in of_kind])
    scorer = Scorer(any_model.load(wishes.model, any_model.find(wishes.model), choose_device()))
    began = time.perf_counter()
    rows = scorer.score(texts)
    seconds = time.perf_counter() - began
    scores = Scores(*(rows[name] for name in rows.dtype.names or ()))
    print(f"{len(texts)} documents, {scores.tokens.sum():,} tokens, {scores.tokens.sum() / seconds:.0f} tokens/s")
    if wishes.save is not None:
        columns = {name: rows[name].tolist() for name in rows.dtype.names or ()}
        wishes.save.write_text(json.dumps({"kind": of.tolist(), "text": texts, **columns}))
    _tell(scores, of, ~np.isin(of, NOISY + EASY))


def _tell(scores: Scores, of: NDArray[np.str_], real: NDArray[np.bool_]) -> None:
    default = TeacherScore(model="any")
    judged = scores.judged
    low, high = limits(judged, default.drop_easiest, default.drop_noisiest)
    columns = ("documents", "bytes", "bits per byte", "5% to 95%", "surely", "noisy", "easy")
    table = Table("", *columns)
    for kind in dict.fromkeys(of.tolist()):
        own = of == kind
        sure = "" if real[own].any() else f"{_area(judged[own], judged[real]):.3f}"
        ends = " to ".join(f"{end:.2f}" for end in np.quantile(scores.bits_per_byte[own], (0.05, 0.95)))
        table.add_row(
            kind, str(own.sum()), f"{scores.bytes[own].mean():.0f}", f"{scores.bits_per_byte[own].mean():.2f}", ends,
            sure, f"{(judged[own] > high).mean():.0%}", f"{(judged[own] < low).mean():.0%}",
        )  # fmt: skip
    common.show(table)
    _tell_noise(judged, of, real, default.drop_noisiest)


def _tell_noise(judged: NDArray[np.float64], of: NDArray[np.str_], real: NDArray[np.bool_], share: float) -> None:
    """Precision and recall of the noisiest, where so many of the documents are noise."""
    generator = np.random.default_rng(0)
    clean, noise = np.flatnonzero(real), np.flatnonzero(np.isin(of, NOISY))
    count = round(len(clean) * share / (1 - share))
    found = []
    for _ in range(DRAWN):
        chosen = np.concatenate([clean, generator.choice(noise, count, replace=count > len(noise))])
        dropped = judged[chosen] > limits(judged[chosen], 0.0, share)[1]
        found.append((dropped[len(clean) :].sum() / dropped.sum(), dropped[len(clean) :].mean()))
    precision, recall = np.mean(found, axis=0)
    print(f"a tenth noise, the noisiest tenth dropped: {precision:.1%} of it is noise, {recall:.1%} of the noise goes")


def _area(planted: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """The probability that a planted document scores higher than a real one."""
    above, equal = planted[:, None] > real[None], planted[:, None] == real[None]
    return float(above.mean() + equal.mean() / 2)


def _passages(text: str, count: int) -> list[str]:
    """Passages of a text, from all over it, in the order of a fixed seed."""
    generator, found = random.Random(0), []
    for file in sources.resolve([text], Path()):
        for document in sources.read_documents(file):
            words, start = document.text.split(" "), 0
            while start < len(words):
                stop = start + generator.randint(20, 200)
                found.append(" ".join(words[start:stop]).strip())
                start = stop
    found = [passage for passage in found if len(passage) >= 100]
    return generator.sample(found, min(count, len(found)))


def _noise(passages: list[str], count: int) -> dict[str, list[str]]:
    """Of each kind so many documents, as long as passages are."""
    generator = random.Random(1)

    def shuffled(words: list[str]) -> str:
        return " ".join(generator.sample(words, len(words)))

    def number() -> str:
        return generator.choice([str(generator.randint(0, 9999)), f"{generator.uniform(0, 100):.2f}"])

    kinds: dict[str, Callable[[str], str]] = {
        "random letters": lambda text: " ".join(
            "".join(generator.choices(LETTERS, k=generator.randint(2, 9))) for _ in range(len(text) // 6)
        ),
        "shuffled words": lambda text: shuffled(text.split()),
        "shuffled letters": lambda text: " ".join("".join(generator.sample(w, len(w))) for w in text.split()),
        "base64": lambda text: base64.b64encode(generator.randbytes(len(text) * 3 // 4)).decode(),
        "numbers": lambda text: "\n".join(",".join(number() for _ in range(6)) for _ in range(len(text) // 32)),
        "one line": lambda text: "\n".join([generator.choice(LINES)] * (len(text) // 32)),
        "twice over": lambda text: f"{text}\n{text}",
    }
    return {kind: [make(generator.choice(passages)) for _ in range(count)] for kind, make in kinds.items()}


if __name__ == "__main__":
    main()
