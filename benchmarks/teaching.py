"""How fast a teacher of another architecture writes targets, against what its multiplications allow.

    python benchmarks/teaching.py /path/to/gemma3-270m.gguf [--windows 4] [--repeats 3]

"gemmule" runs the teacher over windows of the bundled Shakespeare, samples and writes targets; "transformers" runs the
same model's own forward pass and takes the top 64; "sgemm" is what a product of matrices of the head's shape reaches,
in the same run. All three take turns in one process. The share is the model's FLOPs (2 for each weight that is
multiplied) per second by sgemm's; memory is the largest resident size while each side runs. Prints one table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
import torch
from rich.table import Table

from gemmule.convert.importing import gguf_tokenizer
from gemmule.refine import sources
from gemmule.refine.documents import read_split, write_documents
from gemmule.teach.targets.parts import Parts
from gemmule.teach.targets.solving import sample, solve
from gemmule.teach.teachers import huggingface
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.tokenizer import load_tokenizer
from gemmule.tokenize.windows import Windows

LENGTH, TOP = 256, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, help="a folder or GGUF file that transformers reads")
    parser.add_argument("--tokenizer", type=Path, help="a folder; reading a large one from a GGUF file takes a minute")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    wishes = parser.parse_args()

    teacher = huggingface.load(wishes.teacher, torch.device("cpu"))
    flops = teacher.sizes(LENGTH).flops_per_token
    with tempfile.TemporaryDirectory() as folder:
        windows = read_windows(wishes.tokenizer or wishes.teacher, Path(folder), wishes.windows)
        parts = Parts(Path(folder) / "parts", windows, {})
        parts.prepare(solve(sample(teacher, windows), "threshold", 30, 10**8), 1.0, "bucket")
        batches = [windows.window_batch([i]).model_inputs("cpu") for i in range(len(windows))]
        head = teacher.model.get_output_embeddings().weight.detach()

        def ours() -> None:
            parts.teach(teacher, range(len(parts)), seed=0)

        @torch.no_grad()
        def theirs() -> None:
            for batch in batches:
                teacher.model(input_ids=batch["ids"], use_cache=False).logits.log_softmax(-1).topk(TOP)

        def sgemm() -> None:
            x = torch.randn(LENGTH, head.shape[1])
            for _ in batches:
                x @ head.mT

        sides = {"gemmule": ours, f"transformers, top {TOP}": theirs, "sgemm": sgemm}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        memory = dict.fromkeys(sides, 0.0)
        for _ in range(wishes.repeats):
            for name, side in sides.items():
                taken, peak = watched(side)
                seconds[name].append(taken)
                memory[name] = max(memory[name], peak)

    tokens = len(windows) * LENGTH
    rates = {name: tokens / statistics.median(values) for name, values in seconds.items()}
    possible = rates["sgemm"] * 2 * head.numel()
    table = Table("", "tokens/s", "GFLOP/s", "of sgemm", "peak memory, GB")
    for name in sides:
        speed = rates[name] * (2 * head.numel() if name == "sgemm" else flops)
        share = f"{speed / possible:.0%}"
        table.add_row(name, f"{rates[name]:.0f}", f"{speed / 1e9:.0f}", share, f"{memory[name]:.2f}")
    common.show(table)


def read_windows(tokenizer: Path, folder: Path, count: int) -> Windows:
    """The first windows of the bundled text."""
    words = gguf_tokenizer(tokenizer) if tokenizer.is_file() else load_tokenizer(tokenizer)
    write_documents(sources.resolve([sources.BUNDLED], folder), "text", 0.05, folder / "documents")
    text = next(iter(read_split(folder / "documents", "train")))
    ids = words.encode(text[: 8 * count * LENGTH])[: count * LENGTH - 1]
    return Windows(write_shards([words.decode(ids)], words, folder / "tokens"), LENGTH, words.bos_id, words.pad_id)


def watched(side: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and the largest resident size in GB meanwhile (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    started = time.perf_counter()
    side()
    taken = time.perf_counter() - started
    status = Path("/proc/self/status").read_text()
    return taken, int(status.split("VmHWM:")[1].split()[0]) / 1e6


if __name__ == "__main__":
    main()
