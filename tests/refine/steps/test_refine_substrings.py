"""Exact substrings: what is cut is what a search through all windows of words says, and the rest reads on."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from corpora import Letters, corpus_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmule.base.processes import Workers
from gemmule.refine import passages
from gemmule.refine.corpus import Corpus
from gemmule.refine.steps.step import Drop
from gemmule.refine.steps.substrings import Substrings


def left(corpus: Corpus, words: int) -> tuple[list[Drop], dict[int, str]]:
    decisions = Substrings(words).decide(corpus)
    return list(decisions.dropped), dict(decisions.changed)


def kept_by_hand(texts: list[str], length: int) -> list[list[str]]:
    """The words that stay, by a dictionary of all windows."""
    first: dict[tuple[str, ...], tuple[int, int]] = {}
    kept = []
    for number, text in enumerate(texts):
        words = text.split()
        gone: set[int] = set()
        for place in range(len(words) - length + 1):
            where, begin = first.setdefault(tuple(words[place : place + length]), (number, place))
            if where < number or begin + length <= place:
                gone.update(range(place, place + length))
        kept.append([word for place, word in enumerate(words) if place not in gone])
    return kept


def planted(seed: int, documents: int = 60) -> list[str]:
    """Texts into which passages of 1 to 70 words of a few are put anywhere."""
    letters, chance = Letters(seed), random.Random(seed)
    known = [letters.words(120) for _ in range(6)]
    texts = []
    for _ in range(documents):
        words = letters.words(chance.randrange(5, 150))
        for _ in range(chance.randrange(3)):
            begin, place = chance.randrange(50), chance.randrange(len(words))
            words[place:place] = chance.choice(known)[begin : begin + chance.randrange(1, 70)]
        texts.append(" ".join(words))
    return texts


@pytest.mark.parametrize("length", [10, 11, 25, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_cut_is_what_all_windows_say(tmp_path: Path, length: int, seed: int) -> None:
    texts = planted(seed)
    expected = kept_by_hand(texts, length)
    drops, changed = left(corpus_of(texts, tmp_path, 13), length)
    for number, text in enumerate(texts):
        if len(expected[number]) < 5 < len(text.split()):
            assert number in [drop.number for drop in drops]
        else:
            assert changed.get(number, text).split() == expected[number]
            assert (number in changed) == (expected[number] != text.split())
    assert len(changed) > 3


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text("ab", max_size=60), max_size=6), length=st.integers(10, 13))
def test_texts_of_two_words_that_repeat_all_the_time(texts: list[str], length: int) -> None:
    texts = [" ".join(text) for text in texts]
    expected = kept_by_hand(texts, length)
    with TemporaryDirectory() as folder:
        drops, changed = left(corpus_of(texts, Path(folder), 2), length)
    for number, text in enumerate(texts):
        if number in [drop.number for drop in drops]:
            assert len(expected[number]) < 5
        else:
            assert changed.get(number, text).split() == expected[number]


def test_the_first_stays_and_is_named(tmp_path: Path) -> None:
    passage = Letters().text(50)
    texts = [
        f"Some words before.\n\n{passage}",
        passage,
        f"three words left {passage}",
        f"It has five left: {passage} !",
    ]
    drops, changed = left(corpus_of(texts, tmp_path, 2), 50)
    assert drops == [
        Drop(1, "0 of 50 words are left without passages that stood before", "a:0"),
        Drop(2, "3 of 53 words are left without passages that stood before", "a:0"),
    ]
    assert changed == {3: "It has five left: !"}
    assert Substrings(50).decide(corpus_of(texts, tmp_path / "all")).counts == {"passages": 3, "words": 150}
    assert left(corpus_of(texts, tmp_path / "other"), 51) == ([], {})


def test_what_stays_reads_on(tmp_path: Path) -> None:
    passage = Letters().text(12)
    spaced = passage.replace(" ", "\n", 3).replace(" ", "  ", 2)
    rest = [
        ("  PASSAGE \n\nBegins with it, white space aside.\n", "  Begins with it, white space aside.\n"),
        ("A line ends so. PASSAGE\nNext.", "A line ends so.\nNext."),
        ("A paragraph begins thus:\n\nPASSAGE And on.", "A paragraph begins thus:\n\nAnd on."),
        ("The text ends with it.\n\n  PASSAGE  \n", "The text ends with it.  \n"),
        ("It stands PASSAGE twice PASSAGE in one sentence.", "It stands twice in one sentence."),
    ]
    texts = [passage, *(text.replace("PASSAGE", spaced) for text, _ in rest)]
    drops, changed = left(corpus_of(texts, tmp_path), 10)
    assert drops == []
    assert list(changed.values()) == [expected for _, expected in rest]


def test_earlier_in_the_same_document(tmp_path: Path) -> None:
    passage = Letters().text(20)
    texts = [f"{passage} and again: {passage} the end", "ha " * 200]
    drops, changed = left(corpus_of(texts, tmp_path), 10)
    assert drops == []
    assert changed == {0: f"{passage} and again: the end", 1: "ha " * 10}


def test_characters_count_where_no_spaces_are_written(tmp_path: Path) -> None:
    sentence = "吾輩は猫である。名前はまだ無い。"
    drops, changed = left(corpus_of([f"夏目漱石：{sentence}", f"これは「{sentence}」から始まる。"], tmp_path), 12)
    assert changed == {1: "これは「」から始まる。"}
    assert drops == []


@pytest.mark.parametrize("range_", [2**22, 64])
def test_parts_processes_and_ranges_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, range_: int) -> None:
    texts = planted(4)
    expected = left(corpus_of(texts, tmp_path / "one", 1000), 20)
    monkeypatch.setattr(passages, "RANGE", range_)
    with Workers(2) as workers:
        assert left(corpus_of(texts, tmp_path / "two", 7, workers.in_order), 20) == expected
    assert expected[1]


@pytest.mark.parametrize("texts", [[], ["alone"], ["", "word", "word"], ["a b c d e f g h i"] * 2])
def test_nothing_to_cut(tmp_path: Path, texts: list[str]) -> None:
    assert left(corpus_of(texts, tmp_path), 10) == ([], {})
