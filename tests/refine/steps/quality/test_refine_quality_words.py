"""Words are what spaCy's blank English tokenizer gives (3.8, asked once); sentences are its sentencizer's."""

import pytest

from gemmule.refine.steps.quality.c4 import sentences
from gemmule.refine.steps.quality.words import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I’m don’t it’s he’ll dog’s can't y'all", "I ’m do n’t it ’s he ’ll dog ’s ca n't y' all"),
        ("O'Neil ’twas 'tis rock'n'roll whore ill", "O'Neil ’ twas ' tis rock'n'roll whore ill"),
        ("10km $5 U.S. U.S.A. e.g. end.Next", "10 km $ 5 U.S. U.S.A. e.g. end . Next"),
        ("http://a.com/c-d a.b-c foo/bar=baz", "http://a.com/c-d a.b - c foo / bar = baz"),
        ('(hello)... 5." [Exit HAMLET:)', '( hello ) ... 5 . " [ Exit HAMLET :)'),
        (
            "a 5pm well-known 3-4 x,y 1,000 “Yes,” he said—no",
            "a 5 pm well - known 3 - 4 x , y 1,000 “ Yes , ” he said — no",
        ),
        ("==== ---- ____", "= = = = ---- _ _ _ _"),
    ],
)
def test_words_are_spacys(text, words):
    assert words_of(text) == words.split()


def test_scripts_without_spaces_are_counted_by_characters():
    assert words_of("日本語の text です。") == ["日", "本", "語", "の", "text", "で", "す", "。"]


def test_a_long_run_of_signs_takes_no_time():
    assert len(words_of("(" * 100_000)) == 100_000


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("One. Two? Three!", 3),
        ('He said "Go." Then he went.', 2),
        ("No end", 1),
        ("A... b.", 1),
        ("Mr. Smith came.", 1),
    ],
)
def test_sentences(line, count):
    assert sentences(line) == count
