"""Quality rules: how many decisions are datatrove's, and how fast both are, by kind of text.

    python benchmarks/refining_rules.py [TEXT ...] [--peer PYTHON] [--documents 10000] [--blocks 10] [--each 2]

Documents: the bundled Shakespeare as it is cut and as pages of prose, gibberish and other languages planted beside it
(`gemmule.studies.noise`), docstrings and source code of Python's library, GSM8K where shared/data has it, and the TEXTs
that are named, each a kind of its own. Of each kind an equal number is taken, as far as there are. PYTHON is one that
has datatrove 0.10 and spacy, if this one has not.

Both sides get the same blocks of documents in turn, each in one process; seconds are the processor's, speeds the median
of blocks. Prints three tables: decisions, what is dropped, and MB/s. Half an hour on a loaded machine.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import rich
from rich.table import Table

from gemmule.recipe.refining import Quality
from gemmule.refine import sources
from gemmule.refine.sources import Document
from gemmule.refine.steps.quality import QualityRules
from gemmule.studies.noise import each, plant, speeches, works

AS_THEY_ARE, CAREFUL = "quality = true", 'quality = "careful"'
OWN = (AS_THEY_ARE, CAREFUL)
Where = tuple[str, str]  # kind of text, rules
SETS = ("gopher", "repetition", "c4", "fineweb")
OFF = dict.fromkeys((*SETS, "boilerplate"), False) | {"allowances": "none"}
SHARED = Path("shared/data")

PEER = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline import filters as f
from datatrove.utils.text import split_into_parts
sets = {"gopher": f.GopherQualityFilter(), "repetition": f.GopherRepetitionFilter(),
        "c4": f.C4QualityFilter(filter_no_terminal_punct=False), "fineweb": f.FineWebQualityFilter()}

def timed(which, text):
    split_into_parts.cache_clear()
    document, began = Document(text, "0"), time.process_time()
    kept = all((sets[name].filter(document) is True) for name in which) if text else False
    return time.process_time() - began, kept

timed(sets, "It warms up. " * 50)
for line in sys.stdin:
    with open(line.strip()) as file:
        wish = json.load(file)
    seconds, kept = dict.fromkeys(wish["rules"], 0.0), []
    for text in wish["texts"]:
        row = {}
        for name in wish["rules"]:
            taken, row[name] = timed(sets if name == "all" else [name], text)
            seconds[name] += taken
        kept.append(row)
    print(json.dumps({"seconds": seconds, "kept": kept}), flush=True)
"""


@dataclass(frozen=True)
class Sample:
    kind: str
    document: Document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", metavar="TEXT")
    parser.add_argument("--peer", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--each", type=int, default=2, help="blocks, at least 1, in which sets are asked one by one")
    wishes = parser.parse_args()

    samples = gathered(wishes.texts, wishes.documents)
    rules = {name: QualityRules(Quality(**(OFF | {name: True}))) for name in SETS} | {
        "all": QualityRules(Quality(boilerplate=False, allowances="none")),
        AS_THEY_ARE: QualityRules(Quality(boilerplate=False)),
        CAREFUL: QualityRules(Quality(boilerplate=False, allowances="all")),
    }
    total, equal, dropped = Counter[Where](), Counter[Where](), Counter[Where]()
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in rules}
    with tempfile.TemporaryDirectory() as folder, peer(wishes.peer) as theirs:
        for number in range(wishes.blocks):
            block = samples[number :: wishes.blocks]
            asked_of = (*SETS, "all") if number < wishes.each else ("all",)
            said = asked(theirs, asked_of, [sample.document.text for sample in block], Path(folder))
            megabytes = sum(len(sample.document.text.encode()) for sample in block) / 1e6
            for name in (*asked_of, *OWN):
                began = time.process_time()
                kept = [rules[name].judge(sample.document).document is not None for sample in block]
                seconds = time.process_time() - began
                of_peer = "all" if name in OWN else name
                speeds[name].append((megabytes / said["seconds"][of_peer], megabytes / seconds))
                for sample, stays, row in zip(block, kept, said["kept"], strict=True):
                    where = sample.kind, name
                    total[where] += 1
                    equal[where] += stays == row[of_peer]
                    dropped[where] += not stays
                    dropped[sample.kind, "datatrove"] += name == "all" and not row["all"]
            print(f"block {number + 1} of {wishes.blocks}", file=sys.stderr, flush=True)
    show(total, equal, dropped, speeds)


def peer(python: str) -> subprocess.Popen[str]:
    return subprocess.Popen([python, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def asked(theirs: subprocess.Popen[str], rules: Sequence[str], texts: list[str], folder: Path) -> dict[str, Any]:
    """What datatrove keeps of each text by these rules, and the seconds that it took."""
    assert theirs.stdin is not None
    assert theirs.stdout is not None
    file = folder / "texts.json"
    file.write_text(json.dumps({"rules": rules, "texts": texts}))
    theirs.stdin.write(f"{file}\n")
    theirs.stdin.flush()
    said: dict[str, Any] = json.loads(theirs.stdout.readline())
    return said


def gathered(texts: list[str], count: int) -> list[Sample]:
    """About `count` documents in random order, of all kinds as many as there are of the scarce ones."""
    kinds = {name: list(found) for name, found in kinds_of(texts).items()}
    kinds = {name: found for name, found in kinds.items() if found}
    random.seed(0)
    chosen: list[Sample] = []
    for left, name in zip(range(len(kinds), 0, -1), sorted(kinds, key=lambda name: len(kinds[name])), strict=True):
        share = min(len(kinds[name]), (count - len(chosen)) // left)
        chosen += [Sample(name, document) for document in random.sample(kinds[name], share)]
    random.shuffle(chosen)
    return chosen


def kinds_of(texts: list[str]) -> dict[str, Iterator[Document]]:
    prose = [text for work in works().values() for text in speeches(work)]
    planted = plant(prose, each(150, "gibberish", "language"), seed=0)
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) + sorted(Path(rich.__file__).parent.glob("*.py"))
    return {
        "Shakespeare": documents(sources.BUNDLED),
        "speeches": (Document(text, "speeches.jsonl", 0) for text in prose),
        "speeches, lines end in a space": (Document(text.replace("\n", " \n") + " ", "a.jsonl", 0) for text in prose),
        "gibberish": (Document(noisy.text, "a.jsonl", 0) for noisy in planted if noisy.kind == "gibberish"),
        "other languages": (Document(noisy.text, "a.jsonl", 0) for noisy in planted if noisy.kind == "language"),
        "docstrings": (Document(text, "a.jsonl", 0) for file in modules for text in docstrings(file)),
        "source code": (each for file in modules for each in documents(str(file))),
        "GSM8K": (each for file in sorted(SHARED.glob("gsm8k.*.jsonl")) for each in problems(file)),
        **{Path(text).stem: documents(text) for text in texts},
    }


def documents(place: str) -> Iterator[Document]:
    for file in sources.resolve([place], Path()):
        yield from sources.read_documents(file, skip_bad=True)


def problems(file: Path) -> Iterator[Document]:
    for line in file.read_text().splitlines():
        problem = json.loads(line)
        yield Document(f"{problem['question']}\n{problem['answer']}", file.name, 0)


def docstrings(file: Path) -> Iterator[str]:
    try:
        nodes = list(ast.walk(ast.parse(file.read_text())))
    except (SyntaxError, ValueError):
        return  # one that is for tests of Python
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield text


def show(
    total: Counter[Where],
    equal: Counter[Where],
    dropped: Counter[Where],
    speeds: dict[str, list[tuple[float, float]]],
) -> None:
    kinds = list(dict.fromkeys(kind for kind, _ in total))
    decisions = Table("text", "documents", *speeds, title="decisions as datatrove's, %")
    drops = Table("text", "datatrove", "gemmule, all as pages", *OWN, title="dropped, %")
    for kind in kinds:
        shares = (f"{100 * equal[kind, name] / total[kind, name]:.2f}" for name in speeds)
        decisions.add_row(kind, f"{total[kind, 'all']:,}", *shares)
        sides = ("datatrove", "all", *OWN)
        drops.add_row(kind, *(f"{100 * dropped[kind, side] / total[kind, 'all']:.1f}" for side in sides))
    of_all = {name: sum(total[kind, name] for kind in kinds) for name in speeds}
    shares = (f"{100 * sum(equal[kind, name] for kind in kinds) / of_all[name]:.2f}" for name in speeds)
    decisions.add_row("all", f"{of_all['all']:,}", *shares)
    rates = Table("rules", "datatrove, MB/s", "gemmule, MB/s", "times", title="one process, medians of blocks")
    for name, pairs in speeds.items():
        theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
        rates.add_row(name, f"{theirs:.2f}", f"{ours:.2f}", f"{statistics.median(b / a for a, b in pairs):.1f}")
    for table in (decisions, drops, rates):
        common.show(table)


if __name__ == "__main__":
    main()
