"""What a model's scores tell apart: real text, and noise of known kinds planted in it.

    python benchmarks/teacher_score.py MODEL [--text FILES...] [--beside FILES...] [--documents 60] [--planted 12]
        [--shortest 60] [--save S.json]

Passages of 60 to 600 characters of each text (gemmule's Shakespeare, unless named), and planted documents of each kind,
as long: random letters, a passage's words shuffled, its letters shuffled within words, base64, tables of random
numbers, one line repeated, and passages twice over. Passages of --beside, in other languages perhaps, are told from the
text as noise is. MODEL is a folder, a hub id or a GGUF file.

For each kind: its bits per byte; how surely a measure tells one of its documents from a real passage (the area under
the ROC curve: 1 is always, 0.5 is chance), by bits per byte as documents are judged, by nats per token, and by what the
loss is above the entropy that the model expected; and how many of its documents go where they are a tenth of all (of
those that are easy a twentieth) and the default shares are dropped, drawn 200 times. Then what goes where short
documents are drawn towards the middle more or less. --save keeps scores and texts, and MODEL may be such a file.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from gemmule.base.device import choose_device
from gemmule.evaluate import any_model
from gemmule.evaluate.scores import ROW, Scores, limits
from gemmule.evaluate.scoring import Scorer
from gemmule.recipe import TeacherScore
from gemmule.refine import sources

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LINES = ("Accept cookies | Terms | Privacy", "Click here to subscribe to our newsletter", "Share on Facebook")
NOISY = ("random letters", "shuffled words", "shuffled letters", "base64", "numbers")
EASY = ("one line", "twice over")
DRAWN = 200
PRIORS, SHORT = (0, 32, 64, 128, 256), 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", nargs="+", default=["gemmule:shakespeare"])
    parser.add_argument("--beside", nargs="+", default=[])
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--planted", type=int, default=12)
    parser.add_argument("--shortest", type=int, default=60)
    parser.add_argument("--save", type=Path)
    wishes = parser.parse_args()
    if wishes.model.endswith(".json"):
        kept = json.loads(Path(wishes.model).read_text())
    else:
        kept = _score(wishes.model, wishes.text, wishes.beside, wishes.documents, wishes.planted, wishes.shortest)
        kept["beside"] = [Path(text).name for text in wishes.beside]
    if wishes.save is not None:
        wishes.save.write_text(json.dumps(kept))
    _tell(Scores(*(np.array(kept[name]) for name in ROW.names or ())), np.array(kept["kind"]), kept["beside"])


def _score(
    model: str, named: list[str], beside: list[str], documents: int, planted: int, shortest: int
) -> dict[str, list[Any]]:
    kinds = {Path(text).name: _passages(text, documents, shortest) for text in named}
    kinds |= _noise([text for texts in kinds.values() for text in texts], planted)
    kinds |= {Path(text).name: _passages(text, planted, shortest) for text in beside}
    texts = [text for of_kind in kinds.values() for text in of_kind]
    scorer = Scorer(any_model.load(model, any_model.find(model), choose_device()))
    began = time.perf_counter()
    rows = scorer.score(texts)
    seconds = time.perf_counter() - began
    print(f"{len(texts)} documents, {rows['tokens'].sum():,} tokens, {rows['tokens'].sum() / seconds:.0f} tokens/s")
    kept = {"kind": [kind for kind, of_kind in kinds.items() for _ in of_kind], "text": texts}
    return kept | {name: rows[name].tolist() for name in ROW.names or ()}


def _tell(scores: Scores, of: NDArray[np.str_], beside: list[str]) -> None:
    judged, noisy, easy = scores.judged(), np.isin(of, NOISY), np.isin(of, EASY)
    real = ~noisy & ~easy & ~np.isin(of, beside)
    measures = (judged, scores.loss / scores.tokens, (scores.loss - scores.entropy) / scores.bytes)
    columns = ("documents", "bytes", "bits per byte", "5% to 95%", "sure by bits", "by nats", "by excess", "go")
    table = Table("", *columns)
    kinds = {kind: of == kind for kind in dict.fromkeys(of.tolist())} | {"all noise": noisy}
    for kind, own in kinds.items():
        row = [str(own.sum()), f"{scores.bytes[own].mean():.0f}", f"{scores.bits_per_byte[own].mean():.2f}"]
        row.append(" to ".join(f"{end:.2f}" for end in np.quantile(scores.bits_per_byte[own], (0.05, 0.95))))
        if not (own & real).any():
            sign = -1 if (own & easy).any() else 1
            row += [f"{_area(sign * each[own], sign * each[real]):.3f}" for each in measures]
            row.append(f"{_going(judged, real, own, (own & easy).any()):.1%}")
        table.add_row(kind, *row)
    common.show(table)
    _tell_priors(scores, of, real)


def _going(judged: NDArray[np.float64], real: NDArray[np.bool_], planted: NDArray[np.bool_], is_easy: bool) -> float:
    """The share of planted documents that goes, where they are as many as what is dropped."""
    low, high, _, noise = _mixed(judged, real, planted, is_easy)
    return float(
        np.mean([judged[some] < low[n] if is_easy else judged[some] > high[n] for n, some in enumerate(noise)])
    )


def _tell_priors(scores: Scores, of: NDArray[np.str_], real: NDArray[np.bool_]) -> None:
    table = Table("bytes more", "of the noise's bytes go", "of shuffled words'", f"of real ones under {SHORT} bytes")
    for prior in PRIORS:
        judged, row = scores.judged(prior), [str(prior)]
        for planted in (np.isin(of, NOISY), of == "shuffled words"):
            _, high, clean, noise = _mixed(judged, real, planted, False)
            sizes = [scores.bytes[some] for some in noise]
            gone = [
                size[judged[some] > limit].sum() / size.sum()
                for size, some, limit in zip(sizes, noise, high, strict=True)
            ]
            row.append(f"{np.mean(gone):.1%}")
        short = clean[scores.bytes[clean] < SHORT]
        row.append(f"{np.mean([judged[short] > limit for limit in high]):.1%}" if len(short) else "")
        table.add_row(*row)
    common.show(table)


def _mixed(
    judged: NDArray[np.float64], real: NDArray[np.bool_], planted: NDArray[np.bool_], is_easy: bool
) -> tuple[list[float], list[float], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Of texts in which as many documents are planted as are dropped: their limits, the real ones, the planted ones."""
    generator, default = np.random.default_rng(0), TeacherScore(model="any")
    share = default.drop_easiest if is_easy else default.drop_noisiest
    clean, noise = np.flatnonzero(real), np.flatnonzero(planted)
    count = round(len(clean) * share / (1 - share))
    chosen = [generator.choice(noise, count, replace=count > len(noise)) for _ in range(DRAWN)]
    ends = [
        limits(judged[np.concatenate([clean, some])], default.drop_easiest, default.drop_noisiest) for some in chosen
    ]
    return [low for low, _ in ends], [high for _, high in ends], clean, chosen


def _area(planted: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """The probability that a planted document scores higher than a real one."""
    above, equal = planted[:, None] > real[None], planted[:, None] == real[None]
    return float(above.mean() + equal.mean() / 2)


def _passages(text: str, count: int, shortest: int) -> list[str]:
    """Passages of a text, from all over it, in the order of a fixed seed; they end with a word, where that is near."""
    generator, found = random.Random(0), []
    for file in sources.resolve([text], Path()):
        for document in sources.read_documents(file):
            start = 0
            while start < len(document.text):
                stop = start + round(math.exp(generator.uniform(math.log(shortest), math.log(600))))
                space = document.text.find(" ", stop, stop + 20)
                stop = stop if space < 0 else space
                found.append(document.text[start:stop].strip())
                start = stop
    found = [passage for passage in found if len(passage) >= shortest]
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
            "".join(generator.choices(LETTERS, k=generator.randint(2, 9))) for _ in range(max(1, len(text) // 6))
        ),
        "shuffled words": lambda text: shuffled(text.split()),
        "shuffled letters": lambda text: " ".join("".join(generator.sample(w, len(w))) for w in text.split()),
        "base64": lambda text: base64.b64encode(generator.randbytes(len(text) * 3 // 4)).decode(),
        "numbers": lambda text: "\n".join(",".join(number() for _ in range(6)) for _ in range(max(1, len(text) // 32))),
        "one line": lambda text: "\n".join([generator.choice(LINES)] * max(1, len(text) // 32)),
        "twice over": lambda text: f"{text}\n{text}",
    }
    return {kind: [make(generator.choice(passages)) for _ in range(count)] for kind, make in kinds.items()}


if __name__ == "__main__":
    main()
