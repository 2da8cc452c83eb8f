"""llama.cpp (`xllamacpp`), the independent source that exported files are verified against."""

from __future__ import annotations

import json
import random
import urllib.request
from pathlib import Path

import torch
import xllamacpp

from gemmule.model.transformer import Gemma2


class LlamaCpp:
    """A GGUF file open in llama.cpp: flash attention off, keys and values in float32, one thread."""

    def __init__(self, file: Path) -> None:
        settings = xllamacpp.CommonParams()
        settings.model.path = str(file)
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.n_ctx, settings.n_gpu_layers, settings.cache_ram_mib, settings.verbosity = 512, 0, 0, -1
        settings.warmup = settings.fit_params = settings.ui = False
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
        self.server = xllamacpp.Server(settings)

    def ask(self, path: str, **body) -> dict:
        request = urllib.request.Request(
            self.server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, control tokens in it taken as text, `<bos>` first."""
        return self.ask("/tokenize", content=text, add_special=True, parse_special=False)["tokens"]

    def greedy(self, ids: list[int], tokens: int) -> list[int]:
        """What it decodes after `ids`, the end of the text barred."""
        answer = self.ask(
            "/completion", prompt=ids, n_predict=tokens, temperature=0, return_tokens=True, ignore_eos=True,
            cache_prompt=False,
        )  # fmt: skip
        return answer["tokens"]

    def log_probabilities(self, ids: list[int], count: int) -> dict[int, float]:
        """Those of the `count` likeliest tokens after `ids`."""
        answer = self.ask(
            "/completion", prompt=ids, n_predict=1, temperature=0, n_probs=count, cache_prompt=False, ignore_eos=True
        )
        return {entry["id"]: entry["logprob"] for entry in answer["completion_probabilities"][0]["top_logprobs"]}


def decisions(model: Gemma2, prompt: list[int], decoded: list[int]) -> tuple[list[int], float]:
    """What the model would decode at each step of `decoded`, the end of the text barred; and its closest decision.

    If these are `decoded` itself, then by induction the model decodes it from the prompt.
    """
    with torch.no_grad():
        logits = model(torch.tensor([prompt + decoded]))[0, len(prompt) - 1 : -1]  # [T, V]
    logits[:, [1, 107]] = -torch.inf  # <eos> and <end_of_turn>, as llama.cpp does
    best = logits.topk(2)
    return best.indices[:, 0].tolist(), float((best.values[:, 0] - best.values[:, 1]).min())


def prompts(lengths: tuple[int, ...], seed: int = 0) -> list[list[int]]:
    generator = random.Random(seed)
    return [[2, *(generator.randrange(108, 2048) for _ in range(length - 1))] for length in lengths]
