"""Fidelity per byte: how near the gradient that stored targets give is to the true one, and what they take on disk.

    python benchmarks/fidelity.py --teacher gemma3-270m.gguf --text A.txt B.jsonl [--distillkit FOLDER]

The teacher is any transformers folder or a GGUF file; windows of 256 tokens with `<bos>`, from all texts alike. The
student is the teacher at a temperature, and the gradient is that of its hidden state, before the head. Squared error
and squared bias are relative to the true gradient's square; the bias is that of eight draws, less what their variance
alone would give. Bytes are those of blocks, index and checksums, and of the tokens' order shared by ten million
positions. What is fitted is fitted on other windows than those measured.

DistillKit's compressor (github.com/arcee-ai/DistillKit, folder of a checkout) runs as it is, in the two settings that
its README names. A second table compares codes for the tokens' ids. Needs gemmule[gguf], `accelerate`, and for the
second table `constriction` and `backports.zstd`.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from codes_of_ids import show_codes, show_speed
from rich.table import Table
from torch import Tensor

from gemmule.convert.importing import gguf_tokenizer
from gemmule.losses.targets import SparseDistributions
from gemmule.refine import sources
from gemmule.teach.targets import sampling
from gemmule.teach.targets.expectations import expect
from gemmule.teach.targets.packing import Coding
from gemmule.teach.targets.sampling import Draw, Scheme
from gemmule.teach.targets.solving import coding_of, sample, solve
from gemmule.teach.targets.store import BLOCK, INDEX, bytes_held_once, with_rest
from gemmule.teach.teachers import huggingface
from gemmule.teach.teachers.huggingface import HuggingFaceTeacher
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.tokenizer import Tokenizer, load_tokenizer
from gemmule.tokenize.windows import Windows

LENGTH = 256
DRAWS = 8
POSITIONS = 10_000_000  # that share the tokens' order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="a transformers folder, or a GGUF file")
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--field", default="question", help="of jsonl and parquet")
    parser.add_argument("--windows", type=int, default=8, help="to measure on")
    parser.add_argument("--fitted", type=int, default=32, help="windows to fit on")
    parser.add_argument("--budgets", type=float, nargs="*", default=[9.0, 18.0, 30.0, 45.0])
    parser.add_argument("--draws", type=int, nargs="*", default=[12, 25, 50], help="of RS-KD")
    parser.add_argument("--k", type=int, nargs="*", default=[12, 64], help="of the top-k")
    parser.add_argument(
        "--temperature", type=float, default=1.5, help="of the student; near 1 it is nearly its teacher"
    )
    parser.add_argument("--distillkit", type=Path)
    wishes = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        teacher, words = load(wishes.teacher)
        windows = windows_of(wishes, words, Path(folder))
        fitted = range(wishes.windows, len(windows))
        examples = sample(teacher, Some(windows, fitted), seed=0)
        codings = {f"threshold, {b:g} bytes": solve(examples, "threshold", b, POSITIONS) for b in wishes.budgets}
        codings |= {f"RS-KD, {n} draws": coding_of(Scheme("rs-kd", n), examples) for n in wishes.draws}
        codings |= {f"top-{k}": coding_of(Scheme("top-k", k), examples) for k in wishes.k}
        methods = [method for name, coding in codings.items() for method in ours(name, coding)]
        if wishes.distillkit is not None:
            methods += distillkit(wishes.distillkit, teacher.vocabulary_size)
        measure(teacher, windows, range(wishes.windows), methods, wishes.temperature)
    show(methods, teacher.vocabulary_size)
    near_30 = f"threshold, {min(wishes.budgets, key=lambda budget: abs(budget - 30)):g} bytes"
    drawn = sampling.join(next(method for method in methods if method.name == near_30).drawn)
    show_codes(codings[near_30], drawn)
    show_speed(codings[near_30], drawn, head_of(teacher))


# --- what is compared ------------------------------------------------------------------------------------------------


@dataclass
class Method:
    """A way to store targets: from logits [N, V] at positions [N], with a seed, to what a student reads back."""

    name: str
    read: Callable[[Tensor, np.ndarray, int], tuple[SparseDistributions, float, Draw | None]]  # and its bytes
    random: bool
    plain_bits: float = 0.0  # of a token, as published
    setting: str = ""

    def __post_init__(self) -> None:
        self.tokens = self.bytes = self.error = self.square = self.bias = self.seconds = 0.0
        self.positions = 0
        self.drawn: list[Draw] = []


def ours(name: str, coding: Coding) -> Iterator[Method]:
    """Through the file's own blocks; a top-k with the rest dropped, and renormalised."""
    kind = coding.scheme.kind

    def read(logits: Tensor, positions: np.ndarray, seed: int, rest: Any = None) -> Any:
        draw = coding.scheme.draw(logits, seed, positions)
        block = coding.encode(draw, positions, seed)
        found = coding.decode(block, len(draw))
        return (
            (found if rest is None else with_rest(found, rest)),
            len(block) + INDEX.itemsize * len(draw) / BLOCK,
            draw,
        )

    setting = f"tau 1/{1 / coding.scheme.setting:.1f}" if kind == "threshold" else ""
    if kind == "top-k":
        for rest in ("dropped", "renormalised"):
            yield Method(f"{name}, {rest}", lambda *a, rest=rest: read(*a, rest), False, setting=setting)
    else:
        bits = math.ceil(math.log2(coding.vocabulary_size)) + int(coding.scheme.size).bit_length()
        yield Method(name, read, True, bits if kind == "rs-kd" else 0.0, setting)


def distillkit(folder: Path, vocabulary_size: int) -> list[Method]:
    """Its two settings: "budget pick" and "recommended configuration"."""
    sys.path.insert(0, str(folder))
    from distillkit.compression import DistributionQuantizationConfig, LogprobCompressor

    shared = {"d": vocabulary_size, "exact_dtype": "bfloat16", "term_dtype": "float32", "residual_bins": []}
    plain = {"delta_encoding": False, "error_diffusion": False}
    budget = {"k": 50, "exact_k": 1, "polynomial_terms": [0, 1, "sqrt"]}
    recommended = {"k": 128, "exact_k": 16, "polynomial_terms": [0, 1, 2, 3, 4, "sqrt"]}
    methods = []
    for name, own in (("budget", budget), ("recommended", recommended)):
        config = DistributionQuantizationConfig(**shared, **plain, **own)
        compressor = LogprobCompressor(config)

        def read(logits: Tensor, _: np.ndarray, __: int, compressor: Any = compressor) -> Any:
            row = compressor.compress(torch.log_softmax(logits, dim=-1)[None])
            size = sum(value.numel() * value.element_size() for value in row.values())
            ids, logprobs = (value[0] for value in compressor.decompress_to_sparse(row))
            offsets = torch.arange(len(ids) + 1) * ids.shape[1]
            return SparseDistributions(offsets, ids.reshape(-1).long(), logprobs.float().exp().reshape(-1)), size, None

        methods.append(Method(f"DistillKit, {name}", read, False))
    return methods


# --- measuring -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(
    teacher: HuggingFaceTeacher, windows: Windows, numbers: range, methods: list[Method], temperature: float
) -> None:
    """Fills in each method's sums over the positions of these windows."""
    head = head_of(teacher)
    for number in numbers:
        for logits, positions in expect(teacher, windows, [number]):
            q, p = torch.softmax(logits / temperature, dim=-1), torch.softmax(logits, dim=-1)
            student, truth = q @ head, p @ head  # [N, D]
            del q, p
            for method in methods:
                started = time.perf_counter()
                _measure_one(method, logits, positions, head, student, truth)
                method.seconds += time.perf_counter() - started
        print(f"window {number + 1} of {len(numbers)}", file=sys.stderr)


def _measure_one(
    method: Method, logits: Tensor, positions: np.ndarray, weight: Tensor, student: Tensor, truth: Tensor
) -> None:
    off = []
    for seed in range(DRAWS if method.random else 1):
        found, size, draw = method.read(logits, positions, seed)
        if seed == 0:
            method.bytes += size
            method.tokens += len(found.ids)
            if draw is not None:
                method.drawn.append(draw)
        mass = torch.zeros(len(found)).index_add_(0, found.rows, found.probabilities)
        sampled = torch.nn.functional.embedding_bag(
            found.ids, weight, found.offsets[:-1], mode="sum", per_sample_weights=found.probabilities
        )
        # the gradient of -sum p log q: mass q - p, through the head
        off.append(((mass - 1)[:, None] * student - (sampled - truth)).double())
    errors = torch.stack(off)  # [draws, N, D]
    n = len(errors)
    square = errors.square().sum().item()
    method.error += square / n
    method.bias += (errors.sum(0).square().sum().item() - square) / (n * (n - 1)) if n > 1 else square
    method.square += (student - truth).double().square().sum().item()
    method.positions += len(truth)


def show(methods: list[Method], vocabulary_size: int) -> None:
    table = Table("targets", "setting", "tokens", "bytes per token", "as published", "squared error", "squared bias")
    for method in methods:
        once = bytes_held_once(vocabulary_size) / POSITIONS if method.drawn else 0.0
        plain = f"{method.tokens / method.positions * method.plain_bits / 8:.1f}" if method.plain_bits else ""
        table.add_row(
            method.name,
            method.setting,
            f"{method.tokens / method.positions:.1f}",
            f"{method.bytes / method.positions + once:.1f}",
            plain,
            f"{method.error / method.square:.4f}",
            f"{method.bias / method.square:.5f}",
        )
    common.show(table)
    print(f"{methods[0].positions} positions, {DRAWS} draws of each random target")


# --- the teacher and the text ----------------------------------------------------------------------------------------


def head_of(teacher: HuggingFaceTeacher) -> Tensor:
    """[V, D]."""
    weight: Tensor = teacher.model.get_output_embeddings().weight.detach()
    return weight


def load(path: Path) -> tuple[HuggingFaceTeacher, Tokenizer]:
    words = gguf_tokenizer(path) if path.is_file() else load_tokenizer(path)
    return huggingface.load(path, torch.device("cpu")), words


class Some(Windows):
    """Some of the windows of a stream, by their numbers."""

    def __init__(self, windows: Windows, numbers: range) -> None:
        self.__dict__.update(windows.__dict__)
        self.numbers = np.array(numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def window_batch(self, indices: Any) -> Any:
        whole = Windows(self.shards, self.sequence_length, self.bos_id, self.pad_id)
        return whole.window_batch(self.numbers[np.asarray(indices)])


def windows_of(wishes: argparse.Namespace, words: Tokenizer, folder: Path) -> Windows:
    """As many windows as wished, of all texts in turn, each from the middle of its text."""
    files = [file for text in wishes.text for file in sources.resolve([str(text)], Path())]
    wanted = LENGTH * (wishes.windows + wishes.fitted)
    pieces, share = [], 4 * LENGTH
    for number in range(-(-wanted // LENGTH)):
        file = files[number % len(files)]
        text = "\n\n".join(document.text for document in sources.read_documents(file, wishes.field))
        start = len(text) // 2 + share * (number // len(files))
        ids = words.encode_batch([text[start : start + 3 * share]])[0][:LENGTH]
        pieces.append(ids)
    shards = write_shards(["x"] * len(pieces), Pieces(pieces, words), folder)
    return Windows(shards, LENGTH, words.bos_id, words.eos_id)


class Pieces:
    """A tokenizer that gives the ids that are already there, without the `<eos>` that would move the windows."""

    def __init__(self, pieces: list[list[int]], words: Tokenizer) -> None:
        self.vocabulary_size, self.eos_id, self.content_hash = words.vocabulary_size, words.eos_id, ""
        self.pieces = iter(pieces)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [next(self.pieces)[: LENGTH - 1] for _ in texts]


if __name__ == "__main__":
    main()
