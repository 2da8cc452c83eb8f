"""Words and their runs as hashes: equal where the words are, whatever stands around them."""

import re
import subprocess
import sys

import numpy as np
import pytest
from corpora import Letters
from hypothesis import given
from hypothesis import strategies as st

from gemmule.refine.words import plain_words, runs, shingles, written_words


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Hello, World!", "hello world"),
        ("«Où»—ÉTÉ (1984)…", "où été 1984"),
        ("snake_case's", "snake case s"),
        ("日本、語。", "日 本 語"),
        ("日本abc語", "日 本 abc 語"),
        ("ไทย", "ไ ท ย"),
        ("हिन्दी।", "हिन्दी"),
        ("tea🍵time", "tea time"),
        ("𠀀𠀁", "𠀀 𠀁"),
        ("...", ""),
        ("", " \n"),
    ],
)
def test_words_are_lower_case_without_punctuation(text: str, same: str) -> None:
    assert plain_words(text).tolist() == plain_words(same).tolist()
    assert len(plain_words(text)) == len(same.split())


def test_other_words_have_other_hashes() -> None:
    words = {*Letters().words(20_000), "été", "ete", "ab", "ba", "a", "aa", "aaa", "日", "本"}
    hashes = plain_words(" ".join(sorted(words)))
    assert len(np.unique(hashes)) == len(words) == len(hashes)


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_written_words_are_those_between_white_space(text: str) -> None:
    words = written_words(text)
    found = [text[start:end] for start, end in zip(words.starts, words.ends, strict=True)]
    assert "".join(found) == "".join(text.split())
    assert all(word == "".join(word.split()) for word in found)
    unspaced = re.compile("[\u3041-\u3096\u4e00-\u9fff]")
    assert all(len(word) == 1 for word in found if unspaced.search(word))
    if text.isascii():
        assert found == text.split()


def test_a_run_is_its_words_in_order() -> None:
    words = plain_words("a b c d a b c a c b")
    three = runs(words, 3).tolist()
    assert len(three) == 8
    assert three[0] == three[4]  # a b c
    assert len(set(three)) == 7
    assert runs(words, 11).tolist() == []
    assert runs(words, 1).tolist() != three


def test_shingles_are_a_set_of_five_words() -> None:
    assert len(shingles("a b c d e a b c d e")) == 5
    assert shingles("A b, c").tolist() == shingles("a B c!").tolist() != shingles("a c b").tolist()
    assert len(shingles("a b c")) == 1
    assert len(shingles("?!")) == 0


def test_hashes_are_those_of_every_process() -> None:
    code = "from gemmule.refine.words import shingles; print(shingles('to be or not to be').tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(shingles("To be, or not to be").tolist())
