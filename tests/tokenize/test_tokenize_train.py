"""The trained tokenizer: its ids, its round trip, what it refuses."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmule.base.errors import RequestError
from gemmule.refine.compressed import read_blocks
from gemmule.refine.sources import BUNDLED, resolve
from gemmule.tokenize import Tokenizer, train

CONTROL = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<start_of_turn>": 106, "<end_of_turn>": 107}
NASTY = [
    "", " ", "  two  spaces  ", "\n\n\n", "\r\n\r\n", "a\rb", "\t\tx", "▁ literal U+2581 ▁▁", "Ġ Ċ ĉ", "<bos>",
    "<eos><pad>", "say <end_of_turn>\n<start_of_turn>model\n", "naïve café", "e\u0301 é", "日本語のテキスト",
    "\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea", "\u2028\u2029\u0085\x0c\x0b", "\ufeffbom", "\x00\x01\x7f",
    "\ufffd", "\U0010ffff", "１２３ ٣٤ ²³", "it's IT'S we'Ll 'S", "a\u200bb\u00a0c", "--- ... !!!\n\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(shakespeare: list[str]) -> Tokenizer:
    return train(shakespeare, 2048)


@pytest.fixture(scope="module")
def shakespeare() -> list[str]:
    works = [file for file in resolve([BUNDLED], base=Path()) if "hamlet" in file.name or "sonnets" in file.name]
    assert len(works) == 2
    years = " ".join(str(year) for year in range(1500, 2100)) * 3  # what merges across digits would be learned from
    return [*(b"".join(read_blocks(work.path, work.name)).decode() for work in works), years]


def test_control_ids_are_fixed_and_the_vocabulary_exact(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.inner.get_vocab()
    assert {name: vocabulary[name] for name in CONTROL} == CONTROL
    assert sorted(vocabulary.values()) == list(range(2048))
    assert (tokenizer.vocabulary_size, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (2048, 2, 1, 0)
    specials = [token for token in tokenizer.inner.get_added_tokens_decoder().values() if token.special]
    assert sorted(token.content for token in specials) == sorted(CONTROL)
    assert not any(token.normalized for token in specials)


@pytest.mark.parametrize("text", NASTY)
def test_nasty_strings_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert not set(ids) & set(CONTROL.values())


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_unicode_string_round_trips(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*CONTROL, "<", "bos", ">", " ", "\n", "x", "1", "'s"])).map("".join))
def test_control_tokens_in_text_are_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(CONTROL.values())


def test_digits_stand_one_by_one(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("1234567 and 1999999")
    digits = [tokenizer.decode([number]) for number in ids]
    assert digits[:7] == list("1234567")
    assert digits[-7:] == list("1999999")
    assert all(
        len(name) == 1 for name in tokenizer.inner.get_vocab() if any(character in "0123456789" for character in name)
    )


def test_no_token_crosses_the_split_of_qwen2(tokenizer: Tokenizer, shakespeare: list[str]) -> None:
    """The pattern itself, by another engine: every token lies within one of its pieces."""
    pattern = (
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    text = shakespeare[0][:20_000] + shakespeare[-1][:100] + "".join(NASTY)
    pieces = regex.findall(pattern, text)
    assert "".join(pieces) == text
    model = json.loads(tokenizer.inner.to_str())["model"]
    ranks = {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}
    one_by_one = [model["vocab"][symbol] for piece in pieces for symbol in _merge(ranks, piece)]
    assert tokenizer.encode(text) == one_by_one


def _merge(ranks: dict[tuple[str, str], int], piece: str) -> list[str]:
    """Byte-pair encoding of one piece by its definition: the earliest learned merge first, over and over."""
    symbols = [BYTE_CHARACTERS[byte] for byte in piece.encode()]
    while True:
        pairs = enumerate(pairwise(symbols))
        possible = [(ranks[pair], place) for place, pair in pairs if pair in ranks]
        if not possible:
            return symbols
        _, place = min(possible)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where printable, else the next free one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + place) for place, byte in enumerate(others)}


BYTE_CHARACTERS = _byte_characters()


def test_training_is_deterministic(shakespeare: list[str], tokenizer: Tokenizer) -> None:
    again = train(reversed(shakespeare), 2048)
    assert again.inner.to_str() == tokenizer.inner.to_str()
    assert again.content_hash == tokenizer.content_hash


def test_smallest_vocabulary_is_bytes_and_control_tokens() -> None:
    tokenizer = train(["anything"], 262)
    assert sorted(tokenizer.inner.get_vocab().values()) == list(range(262))
    assert len(tokenizer.encode("héllo")) == 6
    with pytest.raises(RequestError, match="262"):
        train(["anything"], 261)


def test_larger_than_the_text_supports_names_the_largest_possible() -> None:
    # pieces: "aaa", " bbb", " aaa"; "aaa" whole takes 2 merges, " aaa" one more, " bbb" 3
    largest = 262 + 6
    with pytest.raises(RequestError, match=f"the maximum is {largest}:"):
        train(["aaa bbb aaa"], 2048)
    assert train(["aaa bbb aaa"], largest).vocabulary_size == largest
    with pytest.raises(RequestError, match=f"the maximum is {largest}:"):
        train(["aaa bbb aaa"], largest + 1)


def test_errors_of_the_texts_come_through() -> None:
    def texts():
        yield "a"
        raise RequestError("file, line 3: bad")

    with pytest.raises(RequestError, match="line 3"):
        train(texts(), 262)


def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match=r"U\+D800 at character 2"):
        tokenizer.encode("ab\ud800")
    with pytest.raises(RequestError, match=r"U\+DFFF at character 0"):
        tokenizer.encode_batch(["fine", "\udfff"])
