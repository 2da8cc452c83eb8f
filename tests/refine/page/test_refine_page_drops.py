"""What was dropped, grouped by rule."""

import pytest
from made_refinery import drop, step, write_refinery

from gemmule.refine.page import drops as module
from gemmule.refine.page.drops import NUMBER, Drops, read_drops
from gemmule.refine.page.told import recipe_lines


@pytest.mark.parametrize(
    ("reason", "figures"),
    [
        ("gopher: 12 words, fewer than 50", ["12", "50"]),
        ("3 of 4 lines end without a full stop (0.05, less than 0.12)", ["3", "4", "0.05", "0.12"]),
        ("1,234 words; 12,345.5 of them", ["1,234", "12,345.5"]),
        ("c4: utf8, v1.2.3, 5th", []),
        ("13 words of gsm8k.jsonl", ["13"]),
        ("Jaccard 0.83.", ["0.83"]),
    ],
)
def test_figures_are_found_and_names_are_none(reason, figures):
    assert NUMBER.findall(reason) == figures


def test_a_rule_counts_documents_and_bytes_and_shows_the_range():
    drops = Drops()
    for words, bytes in ((9, 90), (1_200, 10), (30, 5)):
        drops.count(f"{words:,} words, fewer than 50", 1, bytes)
    drops.count("no words", 2, 1)
    assert [(rule.words, rule.documents, rule.bytes) for rule in drops.ranked] == [
        ("9 to 1,200 words, fewer than 50", 3, 105),
        ("no words", 2, 1),
    ]


def test_what_is_matched_more_than_once_is_counted_however_much_else_is(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_MATCHES", 10)
    matched = ["often", *(f"once-{number}" for number in range(25))]
    found = [drop("minus", "a", number, "same", place) for number, place in enumerate(["often", *matched])]
    counted = read_drops(write_refinery(tmp_path, [step("minus", (99, 72), (9, 8))], found))["minus"]
    assert counted.most_matched(5) == [("often", 2)]
    assert len(counted.matched) == 1
    assert counted.ranked[0].documents == 27


def test_the_recipes_lines_are_those_of_the_step():
    flat = {"quality.gopher": True, "quality.boilerplate": False, "duplicates.near": 0.8, "languages": ["en", 'd"e']}
    assert recipe_lines(flat, ("quality.boilerplate",)) == ["quality.boilerplate = false"]
    assert recipe_lines(flat, ("quality",)) == ["quality.gopher = true", "quality.boilerplate = false"]
    assert recipe_lines(flat, ("languages", "language_threshold")) == ['languages = ["en", "d\\"e"]']
    whole = {"duplicates": {"exact": True, "near": False}, "teacher_score": {"model": "gemma", "drop_noisiest": 0.1}}
    assert recipe_lines(whole, ("duplicates.near",)) == ["duplicates = { exact = true, near = false }"]
    assert recipe_lines(whole, ("teacher_score",)) == ['teacher_score = { model = "gemma", drop_noisiest = 0.1 }']
