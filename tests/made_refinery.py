"""A refinery's record as the engine writes it: refinery.json, dropped.parquet and documents.parquet in a folder."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from made_text import make_text
from pyarrow import parquet

DROP = {"step": "", "source": "", "position": 0, "reason": "", "matched": "", "bytes": 0, "sample": None}


def step(name: str, documents: Sequence[int], bytes: Sequence[int], **more: Any) -> dict[str, Any]:
    """`documents` and `bytes`: in and out."""
    return {
        "name": name, "documents_in": documents[0], "documents_out": documents[1], "bytes_in": bytes[0],
        "bytes_out": bytes[1], "changed": 0, "counts": {}, "facts": {}, "seconds": 1.5, "dropped": [], **more,
    }  # fmt: skip


def drop(step: str, source: str, position: int, reason: str, matched: str = "", bytes: int = 1000,
         sample: str | None = None) -> dict[str, Any]:  # fmt: skip
    return {**DROP, "step": step, "source": source, "position": position, "reason": reason, "matched": matched,
            "bytes": bytes, "sample": sample}  # fmt: skip


def write_refinery(
    folder: Path,
    steps: Iterable[dict[str, Any]],
    drops: Sequence[dict[str, Any]] = (),
    kept: Sequence[tuple[str, str, int]] = (),
    **more: Any,
) -> Path:
    """`kept`: text, source and position of documents that are still there."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"steps": list(steps), "languages": {}, "lengths": {"raw": [], "refined": []}, **more}
    (folder / "refinery.json").write_text(json.dumps(record))
    columns = {key: [each[key] for each in drops] for key in DROP}
    types = {"position": pyarrow.int64(), "bytes": pyarrow.int64()}
    schema = pyarrow.schema([(key, types.get(key, pyarrow.string())) for key in DROP])
    parquet.write_table(pyarrow.table(columns, schema=schema), folder / "dropped.parquet")
    texts, sources, positions = zip(*kept, strict=True) if kept else ((), (), ())
    documents = {
        "text": pyarrow.array(texts, pyarrow.large_string()),
        "source": pyarrow.array(sources, pyarrow.string()),
        "position": pyarrow.array(positions, pyarrow.int64()),
    }
    parquet.write_table(pyarrow.table(documents), folder / "documents.parquet", row_group_size=2)
    return folder


def web_crawl(folder: Path) -> Path:
    """All eleven steps over 40,000 documents, of which near two thirds go on."""
    random.seed(0)
    text = [make_text(seed, 90)[:400] for seed in range(8)]
    near = text[0].replace("the", "a", 3).replace("and", "or", 2)
    names = [f"crawl/part-{number:02}.jsonl.gz" for number in range(4)]
    steps = [
        step("repair", (40_000, 40_000), (183_400_000, 183_412_000), changed=3_112, seconds=22.1,
             counts={"mojibake": 612, "NFC": 1_204, "line ends": 1_290, "control characters": 44}),
        step("languages", (40_000, 34_211), (183_412_000, 161_800_000), facts={"too_short_to_tell": 312}, seconds=47.0),
        step("personal_data", (34_211, 34_211), (161_800_000, 161_790_500), changed=1_877, seconds=80.0,
             counts={"<email>": 2_411, "<phone>": 903, "<ip>": 61, "<card>": 3, "<key>": 1}),
        step("quality", (34_211, 31_000), (161_790_500, 151_200_000), seconds=301.0, changed=61,
             counts={"lines: long_words": 52, "lines: notices": 140, "set aside: short": 9}),
        step("boilerplate", (31_000, 30_990), (151_200_000, 147_700_000), changed=9_412, seconds=35.0,
             facts={"lines_found": 214}, counts={"lines": 40_211}),
        step("exact_duplicates", (30_990, 28_000), (147_700_000, 139_000_000), seconds=3.0),
        step("near_duplicates", (28_000, 25_100), (139_000_000, 117_500_000), seconds=71.0,
             facts={"candidates": 41_022, "permutations": 128}),
        step("substrings", (25_100, 25_100), (117_500_000, 117_100_000), changed=320, counts={"passages": 402}),
        step("minus", (25_100, 25_100), (117_100_000, 117_100_000), seconds=9.0),
        step("decontaminate", (25_100, 25_088), (117_100_000, 117_010_000), seconds=12.0,
             facts={"items": 1_319, "too_short": 14,
                    "eval/gsm8k.jsonl: items": 1_000, "eval/gsm8k.jsonl: too_short": 11,
                    "eval/arc.jsonl: items": 319, "eval/arc.jsonl: too_short": 3},
             counts={"eval/gsm8k.jsonl": 9, "eval/arc.jsonl": 3, "eval/gsm8k.jsonl:17": 8, "eval/my_arc.jsonl:2": 3}),
        step("keep", (25_088, 25_088), (117_010_000, 117_010_000), seconds=1.0),
    ]  # fmt: skip

    def some(step: str, count: int, reason: Any, matched: Any = lambda number: "", sample: Any = None) -> list[Any]:
        return [
            drop(step, random.choice(names), number, reason(number), matched(number), 400 + number,
                 (sample or (lambda n: text[n % 8]))(number) if number < 1000 else None)
            for number in range(count)
        ]  # fmt: skip

    german = "Dies ist ein Text, der auf Deutsch geschrieben ist, und deshalb nicht bleibt."
    drops = [
        *some("languages", 4_000, lambda n: f"de ({0.5 + n / 8_100:.2f}), not one of en", sample=lambda n: german),
        *some("languages", 1_789, lambda n: f"fr ({0.5 + n / 4_000:.2f}), not one of en"),
        *some("quality", 1_411, lambda n: f"gopher: {n % 50} words, fewer than 50",
              sample=lambda n: "Buy now! " * (n % 50 // 2)),
        *some("quality", 1_000, lambda n: f"c4: {n % 9} of {9 + n % 7} lines end without a full stop ",
              sample=lambda n: "HOME\nABOUT\n\nCONTACT\n" * 12),
        *some("quality", 800, lambda n: f"repetition: {30 + n % 40}% of the text in one 2-gram, more than 20%",
              sample=lambda n: "ha ha " * 60),
        *some("boilerplate", 10, lambda n: "nothing but boilerplate", sample=lambda n: "Accept all cookies"),
        *some("exact_duplicates", 2_990, lambda n: "the same text", lambda n: f"{names[0]}:{n % 700}"),
        *some("near_duplicates", 2_900, lambda n: f"Jaccard {0.8 + n / 15_000:.2f}, at least 0.80",
              lambda n: f"{names[1]}:{n % 41}", lambda n: near),
        *some("decontaminate", 12, lambda n: f"{13 + n} words in a row",
              lambda n: f"eval/{'gsm8k' if n % 4 else 'arc'}.jsonl:{n // 2}"),
    ]  # fmt: skip
    kept = [(text[0], names[1], number) for number in range(20)] + [(text[1], names[0], 1)]
    raw = (0.01, 0.02, 0.05, 0.1, 0.15, 0.22, 0.2, 0.12, 0.08, 0.04, 0.01)
    refined = (0, 0, 0.01, 0.05, 0.17, 0.25, 0.24, 0.14, 0.09, 0.04, 0.01)
    lengths = {
        "raw": [[2 ** (6 + place), round(40_000 * share)] for place, share in enumerate(raw)],
        "refined": [[2 ** (6 + place), round(25_000 * share)] for place, share in enumerate(refined) if share],
    }
    settings = {
        "repair": True, "languages": ["en"], "language_threshold": 0.5, "personal_data": "mask", "quality": True,
        "duplicates": {"exact": True, "near": 0.8, "substrings": 50},
        "minus": "2 files, 3639 bytes, sha256 9f2c9f2c9f2c9f2c", "decontaminate": ["eval/*.jsonl"],
        "keep": "my_rules:keep",
    }  # fmt: skip
    languages = {"en": {"documents": 24_776, "bytes": 116_800_000}, "": {"documents": 312, "bytes": 210_000}}
    return write_refinery(folder, steps, drops, kept, lengths=lengths, languages=languages, settings=settings)
