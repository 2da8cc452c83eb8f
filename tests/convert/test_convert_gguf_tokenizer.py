"""Tokenizers of large models' kinds, whole and pruned, in llama.cpp: the same ids, the same greedy tokens."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import tokenizers
import torch
from conftest import TINY, fill
from large_tokenizers import NASTY, like_gemma, like_gpt2, like_llama3, read_work
from opened_in_llama_cpp import LlamaCpp

from gemmule import tokenize
from gemmule.base.errors import RequestError
from gemmule.convert.exporting import export_model
from gemmule.convert.gguf_tokenizer import check_exportable
from gemmule.model import weights
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.tokenize import Tokenizer
from gemmule.tokenize.prune import prune, used_ids

KINDS = {"gemma": like_gemma, "gpt2": like_gpt2, "llama3": like_llama3}


def strings() -> list[str]:
    """A literal U+2581 is left out: llama.cpp takes it for a space, as its SentencePiece kind writes one."""
    generator = random.Random(0)
    alphabets = ["abc ABC'sStT", " \t\n\r\u00a0", "0123456789²½", "<>bos_eod/tur |", "äöüßéжλ", "日本語ไทย",
                 ".,;:!?-—“”'()[]#$%&*+/=@", "\u0301\u200d\ufe0f", "\U0001f600\U0001f469", "ĠĊâ"]  # fmt: skip
    made = list(NASTY)
    while len(made) < 300:
        letters = "".join(generator.choices(alphabets, k=generator.randint(1, 3)))
        made.append("".join(generator.choices(letters, k=generator.randint(1, 40))))
    return [*made, *(read_work("hamlet")[0][start : start + 200] for start in range(5000, 25_000, 1000))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_ids_and_greedy_tokens(kind: str, tmp_path: Path) -> None:
    text = read_work("sonnets")[0]
    whole = KINDS[kind]([text], 2000)
    words = prune(whole, used_ids([text[:20_000]], whole), tmp_path / "pruned")
    rows = words.vocabulary_size + 3
    model = fill(Gemma2(Gemma2Config(**(TINY | {"vocabulary_size": rows}))), 9, calm=False)
    folder = tmp_path / "model"
    weights.save(model, folder)
    tokenize.save(words, folder)
    export_model(folder, tmp_path / "model.gguf", "gguf", "f32")
    llama = LlamaCpp(tmp_path / "model.gguf")
    for some in strings():
        assert llama.encode(some) == [words.bos_id, *words.encode(some)], repr(some)
    prompt = [words.bos_id, *words.encode("Shall I compare thee")]
    decoded = llama.greedy(prompt, 12)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + decoded]))[0, len(prompt) - 1 : -1]
    logits[:, [words.eos_id, *range(words.vocabulary_size, rows)]] = -torch.inf
    assert logits.argmax(-1).tolist() == decoded


def test_a_space_before_the_text_as_llama_2_has_it(tmp_path: Path) -> None:
    words = like_gemma([read_work("sonnets")[0]], 2000, prefix=True)
    weights.save(Gemma2(Gemma2Config(**(TINY | {"vocabulary_size": 2000}))).initialise(0), tmp_path / "model")
    tokenize.save(words, tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "model.gguf", "gguf", "f32")
    llama = LlamaCpp(tmp_path / "model.gguf")
    for some in strings():
        assert llama.encode(some) == [words.bos_id, *words.encode(some)], repr(some)


def changed(words: Tokenizer, change) -> Tokenizer:
    content = json.loads(words.inner.to_str())
    change(content)
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)))


def test_what_llama_cpp_would_tokenize_otherwise_is_refused() -> None:
    gemma, llama3 = like_gemma([read_work("sonnets")[0]], 800), like_llama3([read_work("sonnets")[0]], 800)
    for words in (gemma, llama3):
        check_exportable(words)

    def swap(content):
        merges = content["model"]["merges"]
        merges[0], merges[-1] = merges[-1], merges[0]

    def split(content):
        content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+"

    for words, change, said in (
        (gemma, lambda content: content["model"]["merges"].pop(), "does not merge"),
        (gemma, swap, "order"),
        (gemma, lambda content: content.update(normalizer={"type": "NFKC"}), "normalizer"),
        (gemma, lambda content: content.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer"),
        (llama3, split, "pattern"),
        (llama3, lambda content: content["model"].update(ignore_merges=False), "ignore_merges"),
        (llama3, lambda content: content.update(normalizer={"type": "Lowercase"}), "Lowercase"),
    ):
        with pytest.raises(RequestError, match=said):
            check_exportable(changed(words, change))
