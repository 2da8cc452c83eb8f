"""A pruned tokenizer: the text of its making tokenizes as before, any other comes back, transformers reads it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from large_tokenizers import NASTY, like_gemma, like_gpt2, like_llama3, read_work
from tokenizers import models
from transformers import AutoTokenizer

from gemmule.base.errors import RequestError
from gemmule.tokenize import Tokenizer, load_tokenizer, train
from gemmule.tokenize.prune import prune, used_ids

KINDS: dict[str, Callable[..., Tokenizer]] = {
    "gemma": like_gemma,
    "llama2": lambda texts, size: like_gemma(texts, size, prefix=True),
    "gpt2": like_gpt2,
    "llama3": like_llama3,
    "qwen": train,
}


@pytest.fixture(scope="module")
def text() -> str:
    """What is pruned to, with two of the tags and a run of line ends of the vocabulary in it."""
    return read_work("sonnets")[0][:30_000] + "\n\n\n\n<b>café\tnaïve 日本</b> don't 1609"


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(kind: str) -> Tokenizer:
    return KINDS[kind](read_work("hamlet", "sonnets"), 3000)


@pytest.fixture(scope="module")
def pruned(whole: Tokenizer, text: str, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return prune(whole, used_ids([text], whole), tmp_path_factory.mktemp("pruned"))


def in_whole(ids: list[int], pruned: Tokenizer, whole: Tokenizer) -> list[int]:
    return [whole.inner.token_to_id(pruned.inner.id_to_token(number)) for number in ids]


def test_its_text_tokenizes_as_before(text: str, whole: Tokenizer, pruned: Tokenizer) -> None:
    assert in_whole(pruned.encode(text), pruned, whole) == whole.encode(text)
    assert pruned.vocabulary_size < 0.8 * whole.vocabulary_size
    assert sorted(pruned.inner.get_vocab().values()) == list(range(pruned.vocabulary_size))


def test_what_lies_on_the_way_is_needed(kind: str, text: str, whole: Tokenizer, pruned: Tokenizer) -> None:
    """Taking away a token that is kept only for others changes the text, unless another way happens to be there."""
    names = {whole.inner.id_to_token(number) for number in used_ids([text], whole)}
    on_the_way = [
        name for name in pruned.inner.get_vocab() if name not in names and len(name) > 1 and not name.startswith("<")
    ]
    assert on_the_way
    content = json.loads(pruned.inner.to_str())
    changes = 0
    for name in on_the_way[:: max(1, len(on_the_way) // 5)]:
        fewer = json.loads(json.dumps(content))
        fewer["model"]["merges"] = [pair for pair in fewer["model"]["merges"] if name not in (*pair, "".join(pair))]
        without = tokenizers.Tokenizer.from_str(json.dumps(fewer))
        without.encode_special_tokens = True
        changes += without.encode(text, add_special_tokens=False).ids != pruned.encode(text)
    assert changes >= 3 or kind == "llama3"  # there words that are tokens need no merges


def test_control_tokens_are_kept_and_fillers_are_not(kind: str, pruned: Tokenizer) -> None:
    vocabulary = pruned.inner.get_vocab()
    if kind != "qwen":
        assert {"<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>"} <= vocabulary.keys()
        assert not any("<unused" in name for name in vocabulary)
    if kind == "gemma":
        assert {"<b>", "</b>", "\n\n\n\n"} <= vocabulary.keys()
        assert not {"<table>", "\t\t", "\n\n\n\n\n"} & vocabulary.keys()
        assert [pruned.pad_id, pruned.eos_id, pruned.bos_id] == [0, 1, 2]


def test_other_text_comes_back_as_well_as_from_the_whole_one(whole: Tokenizer, pruned: Tokenizer) -> None:
    generator = random.Random(0)
    pieces = [*NASTY, "▁", " ", "\n", "Hamlet", "ü", "😀"]
    texts = [
        "".join(
            generator.choice(pieces) if generator.random() < 0.5 else chr(generator.randrange(1, 0xD800))
            for _ in range(generator.randrange(8))
        )
        for _ in range(500)
    ]
    for some in [*NASTY, *texts]:
        back = pruned.decode(pruned.encode(some), skip_special_tokens=False)
        assert back == whole.decode(whole.encode(some), skip_special_tokens=False)
        if "▁" not in some and "Prepend" not in whole.inner.to_str():
            assert back == some


def test_transformers_gives_the_same_ids(text: str, pruned: Tokenizer, tmp_path: Path) -> None:
    assert pruned.folder
    theirs = AutoTokenizer.from_pretrained(pruned.folder)
    for some in [text, *NASTY]:
        assert theirs(some, split_special_tokens=True)["input_ids"] == [pruned.bos_id, *pruned.encode(some)]
    roles = [theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id]
    assert roles == [pruned.bos_id, pruned.eos_id, pruned.pad_id]
    assert load_tokenizer(pruned.folder).encode(text) == pruned.encode(text)


def test_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    for model, name in (
        (models.Unigram([("<unk>", 0.0), ("<bos>", -1.0), ("<eos>", -1.0)], 0), "Unigram"),
        (models.WordPiece({"[UNK]": 0, "<bos>": 1, "<eos>": 2}, unk_token="[UNK]"), "WordPiece"),
        (models.BPE({"<bos>": 0, "<eos>": 1, "a": 2}, []), "bytes"),
    ):
        with pytest.raises(RequestError, match=name):
            prune(Tokenizer(tokenizers.Tokenizer(model)), [0], tmp_path / "none")
        assert not (tmp_path / "none").exists()
