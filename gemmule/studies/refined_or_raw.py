"""What the refinery does for a student: raw or refined text, with a teacher and without.

A third of the raw text is noise (`noise/`), planted over pages of the bundled Shakespeare: other languages, gibberish,
duplicates, mojibake, what web pages have around their text. Models are trained on the raw text as it stands and on what
[refine] makes of it, on as many tokens; the same is done with the pages as they were before, which refining must not
harm. Every model is measured on plays that are in none of these texts. The student's teacher has read the same text as
the student: who has noise in a text has it in the teacher too. All have one tokenizer, trained on the raw text.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from rich.table import Table

from gemmule.base.artifact import write_json
from gemmule.base.errors import RequestError
from gemmule.evaluate import outside
from gemmule.evaluate.intervals import over_trainings
from gemmule.run.runner import Family
from gemmule.studies.noise import KINDS, Noisy, plant, speeches, works

HELD_OUT = ("hamlet", "twelfthnight", "kinghenryv")
REFINE = {"languages": ["en"]}  # beside the steps that are on by default
TEXTS = ("raw", "refined", "clean", "clean, refined")
MODELS = {"control": "without a teacher", "student": "with a teacher", "teacher": "the teacher"}
SHARES = {"language": 4, "gibberish": 4, "exact duplicate": 2, "near duplicate": 2, "mojibake": 2, "boilerplate": 2}
# below the threshold of duplicates; pages that are no noise to be repaired, as they are in other languages
LEFT_OUT = defaultdict(set, {"near duplicate": {"0.65", "0.7", "0.75", "0.78"}, "mojibake": {"de", "ru", "ja"}})
BESIDE = 0.41  # noisy documents for each real one: a third of the bytes are noise then


@dataclass(frozen=True)
class Scale:
    """How much is trained on what."""

    documents: int  # real ones
    held_out: int
    teacher: dict[str, Any]
    student: dict[str, Any]
    teacher_tokens: int
    student_tokens: int


SCALES = {
    "small": Scale(700, 60, {"layers": 3, "width": 96}, {"layers": 2, "width": 64}, 350_000, 250_000),
    "medium": Scale(1500, 120, {"layers": 4, "width": 192}, {"layers": 3, "width": 96}, 1_500_000, 1_000_000),
    "large": Scale(2500, 200, {"layers": 6, "width": 384}, {"layers": 4, "width": 192}, 6_000_000, 4_000_000),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One kind of model on one text, in all its trainings."""

    bits: list[float]  # a byte, on held-out text
    perplexities: list[float]

    def ratio(self, other: Cell) -> list[float]:
        """Of perplexities, training by training: they begin alike."""
        return [mine / theirs for mine, theirs in zip(self.perplexities, other.perplexities, strict=True)]


def run(
    scale: Literal["small", "medium", "large"] = "small", seeds: int = 3, out: Path = Path("runs/refined-or-raw")
) -> Table:
    """Trains what is not trained yet in `out`, and writes `findings.md` and `findings.json` there.

    Raises RequestError for a scale that there is not.
    """
    if scale not in SCALES:
        raise RequestError(f"--scale {scale}: there are {', '.join(SCALES)}")
    if seeds < 2:
        raise RequestError(f"--seeds {seeds}: at least 2, to say how certain it is")
    how = SCALES[scale]
    out.mkdir(parents=True, exist_ok=True)
    noisy, held_out = texts(how)
    for name, documents in (("raw", [one.text for one in noisy]), ("clean", real(noisy)), ("held-out", held_out)):
        rows = "".join(json.dumps({"text": text}) + "\n" for text in documents)
        (out / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    families = {text: train(text, how, seeds, out) for text in TEXTS}
    cells = {
        (text, model): measure([final(family, model, seed) for seed in range(seeds)], out / "held-out.jsonl")
        for text, family in families.items()
        for model in MODELS
    }
    found = findings(cells, noisy, families, scale, seeds)
    write_json(out / "findings.json", found)
    (out / "findings.md").write_text(as_markdown(found), encoding="utf-8")
    return as_table(found)


def texts(how: Scale) -> tuple[list[Noisy], list[str]]:
    """Real documents and noise among them; and documents of other plays, to measure on."""
    of_works = {name: list(speeches(work)) for name, work in works().items()}
    apart = {name for name in of_works if any(name.endswith(f"/{one}.txt") for one in HELD_OUT)}
    pool = [text for name, documents in of_works.items() if name not in apart for text in documents]
    held_out = [text for name in sorted(apart) for text in of_works[name]]
    chosen = Random(0).sample(pool, how.documents)
    amounts: dict[tuple[str, str], int] = {}
    for kind, share in SHARES.items():
        variants = [variant for variant in KINDS[kind] if variant not in LEFT_OUT[kind]]
        number = how.documents * BESIDE * share / sum(SHARES.values()) / len(variants)
        amounts |= {(kind, variant): max(1, round(number)) for variant in variants}
    return plant(chosen, amounts, seed=0), Random(1).sample(held_out, how.held_out)


def real(noisy: Iterable[Noisy]) -> list[str]:
    """What was there before noise was planted."""
    return [one.clean for one in noisy if one.clean is not None]


def train(text: str, how: Scale, seeds: int, out: Path) -> Family:
    """The three models on one text. Those of the raw text come first: its tokenizer is that of all."""
    folder = text.replace(", ", "-")
    source = "clean" if text.startswith("clean") else "raw"
    raw: dict[str, Any] = {
        "name": f"refined-or-raw-{folder}",
        "seeds": seeds,
        "data": {"sources": [str((out / f"{source}.jsonl").resolve())], "sequence_length": 256},
        "tokenizer": {"vocabulary_size": 2048} if text == "raw" else {"from": str((out / "raw/tokenizer").resolve())},
        "models": {
            "teacher": {"architecture": how.teacher, "train": {"tokens": how.teacher_tokens}},
            "student": {
                "architecture": how.student,
                "learn_from": "teacher",
                "train": {"tokens": how.student_tokens},
            },
            "control": {"like": "student", "learn_from": "none"},
        },
    }
    if "refined" in text:
        raw["refine"] = REFINE
    family = Family(raw, Path(f"{folder}.toml"), out / folder)
    family.run("train")
    return family


def final(family: Family, model: str, seed: int) -> Path:
    folder = family.out / f"seeds/{seed}" if seed else family.out
    return (folder / f"models/{model}/final").resolve()


def measure(models: Sequence[Path], text: Path) -> Cell:
    found = [outside.evaluate(outside.Request(str(model), [str(text.resolve())])) for model in models]
    return Cell([one["bits_per_byte"] for one in found], [one["perplexity"] for one in found])


def findings(
    cells: dict[tuple[str, str], Cell], noisy: Sequence[Noisy], families: dict[str, Family], scale: str, seeds: int
) -> dict[str, Any]:
    """All numbers."""
    sizes: dict[str, int] = {}
    for one in noisy:
        sizes[one.kind or "real"] = sizes.get(one.kind or "real", 0) + len(one.text.encode())
    ratios = {
        f"{better} / {worse}, {MODELS[model]}": cells[better, model].ratio(cells[worse, model])
        for better, worse in (("refined", "raw"), ("clean, refined", "clean"))
        for model in MODELS
    }
    record = json.loads((families["refined"].out / "documents/refinery.json").read_text(encoding="utf-8"))
    kept = json.loads((families["clean, refined"].out / "documents/refinery.json").read_text(encoding="utf-8"))
    steps = ("name", "documents_in", "documents_out", "bytes_in", "bytes_out", "changed")
    return {
        "study": "refined-or-raw",
        "scale": scale,
        "seeds": seeds,
        "held_out": list(HELD_OUT),
        "raw_bytes": sizes,
        "noise": 1 - sizes["real"] / sum(sizes.values()),
        "cells": [
            {"text": text, "model": MODELS[model], "bits_per_byte": cell.bits, "perplexity": cell.perplexities}
            for (text, model), cell in cells.items()
        ],
        "ratios": {name: {"each": ratio, "mean": mean(ratio), "interval": interval(ratio)}
                   for name, ratio in ratios.items()},
        "steps": {"refined": [{key: step[key] for key in steps} for step in record["steps"]],
                  "clean, refined": [{key: step[key] for key in steps} for step in kept["steps"]]},
    }  # fmt: skip


def mean(ratios: Sequence[float]) -> float:
    """The geometric one."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Of their mean, over trainings."""
    logs = over_trainings([math.log(ratio) for ratio in ratios])
    assert logs is not None
    return math.exp(logs[0]), math.exp(logs[1])


def rows(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table: a text each row, a kind of model each column, and what refining is worth."""
    cells = {(cell["text"], cell["model"]): cell for cell in found["cells"]}
    table = []
    for text in TEXTS:
        row = [text]
        for model in MODELS.values():
            bits = cells[text, model]["bits_per_byte"]
            low, high = over_trainings(bits) or (0.0, 0.0)
            perplexity = mean(cells[text, model]["perplexity"])
            row.append(f"{sum(bits) / len(bits):.3f} ± {(high - low) / 2:.3f} ({perplexity:.1f})")
        table.append(row)
        if "refined" in text:
            other = TEXTS[TEXTS.index(text) - 1]
            ratios = [found["ratios"][f"{text} / {other}, {model}"] for model in MODELS.values()]
            cellsof = [f"{one['mean']:.3f} [{one['interval'][0]:.3f}, {one['interval'][1]:.3f}]" for one in ratios]
            table.append([f"perplexity, {text} / {other}", *cellsof])
    return ["text", *MODELS.values()], table


def as_table(found: dict[str, Any]) -> Table:
    heads, lines = rows(found)
    table = Table(*heads, title="bits per byte on held-out plays (perplexity)")
    for line in lines:
        table.add_row(*line)
    return table


def as_markdown(found: dict[str, Any]) -> str:
    heads, lines = rows(found)
    how = SCALES[found["scale"]]
    sizes = ", ".join(f"{kind} {size / 1e3:,.0f} kB" for kind, size in found["raw_bytes"].items())
    steps = [
        f"| {step['name']} | {step['documents_in']:,} | {step['documents_out']:,} | {step['changed']:,} |"
        for step in found["steps"]["refined"]
    ]
    kept = found["steps"]["clean, refined"]
    return "\n".join([
        "# Raw or refined text, with a teacher and without",
        "",
        f"`gemmule study refined-or-raw --scale {found['scale']} --seeds {found['seeds']}`. Bits per byte (perplexity) "
        f"on pages of {', '.join(found['held_out'])}, which are in none of the texts; 95% intervals over trainings.",
        "",
        "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|",
        *("| " + " | ".join(line) + " |" for line in lines),
        "",
        f"The raw text: {sizes}; {found['noise']:.0%} of it is noise. Student {how.student}, {how.student_tokens:,} "
        f"tokens; teacher {how.teacher}, {how.teacher_tokens:,} tokens, trained on the same text as its student. One "
        "tokenizer, trained on the raw text.",
        "",
        f"The steps on the raw text ([refine] with {REFINE}):",
        "",
        "| step | documents in | out | changed |", "|---|---|---|---|", *steps,
        "",
        f"Of the clean text's {kept[0]['documents_in']:,} documents {kept[-1]['documents_out']:,} were left.",
        "",
    ])  # fmt: skip
