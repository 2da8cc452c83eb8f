"""Tasks of lm-evaluation-harness: gemmule's adapter against lm-eval's own `hf` on the same checkpoint, float32.

    python benchmarks/harness.py [--vocabulary 2048 16384] [--batches 1 16] [--repeats 2]

Tasks made of the bundled Shakespeare, one of each kind: questions with four choices, whole documents of about three
windows, and answers of up to 48 tokens that end with a line. A random model (4 layers, width 256). Both sides in one
process, by turns, with the model in memory: seconds of the whole evaluation, medians. Of documents `hf` gets no second
`<bos>` in front (`add_bos_token=False`), and its later windows have none: so its number there is another one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common  # before torch
import datasets
import lm_eval.evaluator
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from gemmule.evaluate.harness import run_tasks
from gemmule.model import weights
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.refine.compressed import read_blocks
from gemmule.refine.sources import BUNDLED, resolve
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.tokenize.tokenizer import save
from gemmule.tokenize.training import train

CONTEXT = 512
COMMON = "dataset_path: json\ntest_split: test\n"
METRIC = "metric_list: [{{metric: {name}, aggregation: {how}, higher_is_better: true}}]\n"
TASKS = {
    "choices": 'output_type: multiple_choice\ndoc_to_text: "{{text}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: 0\n'
    + METRIC.format(name="acc", how="mean"),
    "documents": 'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{whole}}"\n'
    + METRIC.format(name="bits_per_byte", how="bits_per_byte"),
    "answers": 'output_type: generate_until\ndoc_to_text: "{{text}}"\ndoc_to_target: "x"\n'
    'generation_kwargs: {until: ["\\n"], max_gen_toks: 48, do_sample: false}\n'
    + METRIC.format(name="exact_match", how="mean"),
}
METRICS = {"choices": "acc,none", "documents": "bits_per_byte,none", "answers": "exact_match,none"}
ROWS = {"choices": 40, "documents": 8, "answers": 16}


def texts() -> list[str]:
    return [b"".join(read_blocks(file.path, file.name)).decode() for file in resolve([BUNDLED], base=Path())]


def write_tasks(folder: Path, works: list[str]) -> None:
    lines = [line.strip() for work in works for line in work.splitlines() if len(line) > 30]
    for name, body in TASKS.items():
        data = folder / f"{name}.jsonl"
        with data.open("w") as file:
            for row in range(ROWS[name]):
                begin, length = 131 * row, 6 + row % 9
                choices = [" " + lines[begin + 40 + 7 * k] for k in range(4)]
                whole = works[row % len(works)][2000:6000]
                text = "\n".join(lines[begin : begin + length])
                file.write(json.dumps({"text": text, "choices": choices, "whole": whole}) + "\n")
        source = f"task: {name}\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        (folder / f"{name}.yaml").write_text(source + COMMON + body)


def measure(vocabulary: int, batches: list[int], repeats: int, folder: Path, works: list[str]) -> Iterator[list[str]]:
    tokenizer = train(works, vocabulary)
    config = Gemma2Config(
        vocabulary, layers=4, width=256, heads=4, kv_heads=2, head_dim=64, ffn_width=768, window=256,
        context_length=CONTEXT,
    )  # fmt: skip
    torch.manual_seed(0)
    ours = Gemma2(config).eval()
    checkpoint = folder / f"model-{vocabulary}"
    weights.save(ours, checkpoint, tokenizer.control_ids)
    save(tokenizer, checkpoint)
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(checkpoint)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found: dict[str, Any] = {}

    def run_ours(task: str) -> None:
        found["ours"] = run_tasks(Gemma2Teacher(ours), tokenizer, CONTEXT, [task], folder)[task]

    def run_theirs(task: str, batch: int) -> None:
        side = HFLM(
            theirs, tokenizer=words, batch_size=batch, max_length=CONTEXT,
            add_bos_token=False if task == "documents" else None,
        )  # fmt: skip
        found[f"{batch}"] = simple_evaluate(side, tasks=[task], task_manager=manager, log_samples=False)["results"][
            task
        ]

    for task in TASKS:
        sides = [lambda task=task: run_ours(task)]
        sides += [lambda task=task, batch=batch: run_theirs(task, batch) for batch in batches]
        mine, *others = common.medians(repeats, *sides)
        metric = METRICS[task]
        for batch, seconds in zip(batches, others, strict=True):
            yield [
                f"{vocabulary:,}", f"{task}, {ROWS[task]}", str(batch), f"{seconds:.1f}", f"{mine:.1f}",
                f"{seconds / mine:.1f}", f"{found[str(batch)][metric]:.6f}", f"{found['ours'][metric]:.6f}",
            ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", nargs="+", type=int, default=[2048, 16384])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--repeats", type=int, default=2)
    wishes = parser.parse_args()
    logging.disable(logging.WARNING)
    os.environ["DISABLE_MULTIPROC"] = "1"
    lm_eval.evaluator.add_env_info = lambda results: None  # starts pip, which takes seconds
    datasets.config.HF_DATASETS_OFFLINE = True
    datasets.disable_progress_bars()
    table = Table(
        "vocabulary", "task", "hf's batch", "hf, s", "gemmule, s", "times as fast", "hf's number", "gemmule's"
    )
    works = texts()
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = f"{folder}/cache"
        write_tasks(Path(folder), works)
        for vocabulary in wishes.vocabulary:
            for row in measure(vocabulary, wishes.batches, wishes.repeats, Path(folder), works):
                table.add_row(*row)
    common.show(table)


if __name__ == "__main__":
    main()
