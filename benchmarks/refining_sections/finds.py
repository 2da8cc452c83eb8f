"""Precision and recall of each step by itself, and which of them took what when all are on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import common
from rich.table import Table

from gemmule.studies.noise import KINDS, Noisy, each, plant
from refining_sections.command import EVERY_STEP, OFF, Refined, real_pages, refine, write

NO_RULES = {"gopher": False, "repetition": False, "c4": False, "fineweb": False, "boilerplate": False}
RULES = NO_RULES | dict.fromkeys(("gopher", "repetition", "c4", "fineweb"), True) | {"allowances": "all"}
ABOVE = [variant for variant in KINDS["near duplicate"] if float(variant) > 0.8]
MASKS = re.compile(r"<[a-z]+>")
OLD = 100  # documents of another collection


def amounts(size: int) -> dict[tuple[str, str], int]:
    """About `size` of every kind, over its variants."""
    return {kind: max(2, size // len(KINDS[kind[0]])) for kind in each(1)}


@dataclass(frozen=True)
class Found:
    """What a step made of what was planted for it."""

    planted: int
    right: int  # of these, dropped or put right
    wrong: int  # that it should have left alone

    @property
    def row(self) -> list[str]:
        recall, precision = self.right / max(1, self.planted), self.right / max(1, self.right + self.wrong)
        return [f"{self.planted:,}", f"{self.right:,}", f"{recall:.3f}", f"{self.wrong:,}", f"{precision:.3f}"]


def dropping(noisy: Sequence[Noisy], refined: Refined, wanted: Callable[[int, Noisy], bool]) -> Found:
    """Of a step that drops: what is not wanted and no noise should stay."""
    places = dict(enumerate(noisy, start=1))
    right = [line for line in refined.dropped if wanted(line, places[line])]
    wrong = [line for line in refined.dropped if not wanted(line, places[line]) and not is_noise(places[line])]
    return Found(sum(wanted(line, one) for line, one in places.items()), len(right), len(wrong))


def repairing(noisy: Sequence[Noisy], refined: Refined) -> Found:
    """Documents that are as they were before they were decoded wrongly."""
    planted = [(line, one) for line, one in enumerate(noisy, start=1) if one.kind == "mojibake"]
    right = sum(refined.texts.get(line) == one.clean for line, one in planted)
    others = [(line, one) for line, one in enumerate(noisy, start=1) if one.kind != "mojibake"]
    wrong = sum(refined.texts.get(line) != one.text.replace("\u2028", "\n") for line, one in others)
    return Found(len(planted), right, wrong)


def removing(kind: str, noisy: Sequence[Noisy], refined: Refined) -> Found:
    """Of a step that takes lines or passages out: what is gone of them, and of real text."""
    planted = right = wrong = 0
    for line, one in enumerate(noisy, start=1):
        text = refined.texts.get(line, "")
        if one.kind == kind:
            planted += len(one.planted)
            right += sum(squeezed(found) not in squeezed(text) for found in one.planted)
            wrong += sum(squeezed(each) not in squeezed(text) for each in (one.clean or "").split("\n\n"))
        elif not is_noise(one) and one.kind != "near duplicate":
            wrong += squeezed(text) != squeezed(one.text)
    return Found(planted, right, wrong)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def masking(noisy: Sequence[Noisy], refined: Refined) -> Found:
    planted = right = wrong = 0
    for line, one in enumerate(noisy, start=1):
        text = refined.texts.get(line, "")
        masks = len(MASKS.findall(text)) - len(MASKS.findall(one.text))
        if one.kind == "personal data":
            planted += 1
            gone = one.planted[0] not in text
            right += gone
            masks -= gone
        elif one.kind == "lookalike":
            wrong += one.planted[0] not in text
            masks -= one.planted[0] not in text
        wrong += max(0, masks)
    return Found(planted, right, wrong)


def grams(text: str, length: int = 13) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[start : start + length]) for start in range(len(words) - length + 1)}


def run(folder: Path, gsm8k: Path, size: int) -> None:
    rows = [json.loads(line) for line in (gsm8k / "gsm8k.test.jsonl").read_text().splitlines()]
    items = [row["question"] for row in rows if len(re.findall(r"\w+", row["question"])) >= 15]
    noisy = plant(real_pages(gsm8k), amounts(size), seed=0, items=items)
    text = write([one.text for one in noisy], folder / "noisy.jsonl")
    old = {line for line, one in enumerate(noisy, start=1) if not one.kind}
    old = set(Random(0).sample(sorted(old), OLD))
    write([noisy[line - 1].text for line in sorted(old)], folder / "old.jsonl")
    of_items = set().union(*(grams(part) for row in rows for part in (row["question"], row["answer"])))
    shared = {line for line, one in enumerate(noisy, start=1) if one.kind == "evaluation item"
              or grams(one.text) & of_items}  # fmt: skip

    def alone(name: str, **settings: Any) -> Refined:
        return refine(text, folder / name, OFF | settings)

    table = Table("step, by itself", "planted", "found", "recall", "wrongly", "precision", title="it finds")
    table.add_row("repair", *repairing(noisy, alone("repair", repair=True)).row)
    languages = alone("languages", languages=["en"])
    table.add_row("languages", *dropping(noisy, languages, lambda _, one: one.kind == "language").row)
    table.add_row("personal_data", *masking(noisy, alone("personal_data", personal_data="mask")).row)
    quality = alone("quality", quality=RULES)
    table.add_row("quality", *dropping(noisy, quality, lambda _, one: one.kind == "gibberish").row)
    lines = alone("boilerplate", quality=NO_RULES | {"boilerplate": True})
    table.add_row("boilerplate (lines)", *removing("boilerplate", noisy, lines).row)
    exact = alone("exact_duplicates", duplicates={"exact": True, "near": False})
    table.add_row("exact_duplicates", *dropping(noisy, exact, lambda _, one: one.kind == "exact duplicate").row)
    near = alone("near_duplicates", duplicates={"exact": False, "near": 0.8})
    table.add_row("near_duplicates", *dropping(noisy, near, lambda _, one: is_copy(one)).row)
    passages = alone("substrings", duplicates={"exact": False, "near": False, "substrings": 50})
    table.add_row("substrings", *removing("passage", noisy, passages).row)
    minus = alone("minus", minus=[str(folder / "old.jsonl")])
    copies = {line for line, one in enumerate(noisy, start=1) if one.like is not None and one.like + 1 in old
              and is_copy(one)}  # fmt: skip
    table.add_row("minus", *dropping(noisy, minus, lambda line, _: line in old | copies).row)
    decontaminate = alone("decontaminate", decontaminate=[str(gsm8k / "gsm8k.test.jsonl")])
    table.add_row("decontaminate", *dropping(noisy, decontaminate, lambda line, _: line in shared).row)
    common.show(table)
    show_near(noisy, near)

    everything = refine(text, folder / "everything", {**EVERY_STEP, "decontaminate": [str(gsm8k / "gsm8k.test.jsonl")]})
    show_everything(noisy, everything, shared)


def is_noise(one: Noisy) -> bool:
    """Whether nothing is lost with it, as it stands."""
    return one.clean is None or one.kind == "mojibake"


def is_copy(one: Noisy) -> bool:
    return one.kind == "exact duplicate" or (one.kind == "near duplicate" and one.variant in ABOVE)


def show_near(noisy: Sequence[Noisy], near: Refined) -> None:
    table = Table("true Jaccard", "planted", "dropped", title="near_duplicates, threshold 0.8")
    for variant in KINDS["near duplicate"]:
        lines = [
            line for line, one in enumerate(noisy, start=1) if (one.kind, one.variant) == ("near duplicate", variant)
        ]
        table.add_row(variant, f"{len(lines)}", f"{sum(line in near.dropped for line in lines)}")
    common.show(table)


def show_everything(noisy: Sequence[Noisy], refined: Refined, shared: set[int]) -> None:
    """Which steps took what, all of them together."""
    counts: dict[str, Counter[str]] = {}
    for line, one in enumerate(noisy, start=1):
        variant = f": {one.variant}" if one.kind in ("gibberish", "near duplicate") else ""
        kind = one.kind or ("real, shares 13 words with an item" if line in shared else "real")
        step, reason = refined.dropped.get(line, ("kept", ""))
        counts.setdefault(kind + variant, Counter())[
            f"{step} ({reason.split(':')[0]})" if step == "quality" else step
        ] += 1
    table = Table("planted", "documents", "kept, or dropped by", title="all steps together")
    for kind, steps in sorted(counts.items()):
        named = ", ".join(f"{step} {count:,}" for step, count in steps.most_common())
        table.add_row(kind, f"{steps.total():,}", named)
    common.show(table)
