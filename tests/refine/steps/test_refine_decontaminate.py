"""Decontamination: 13 words in a row of an evaluation item, and no fewer, drop a document."""

import json
import pickle
import re
from pathlib import Path
from unicodedata import normalize

import pytest
from corpora import Letters

from gemmule.refine.sources import Document, SourceFile
from gemmule.refine.steps.decontaminate import Decontaminate

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def evaluation(path: Path, items: list[object]) -> SourceFile:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return SourceFile(path, path.name)


def prepared(folder: Path, *files: SourceFile) -> Decontaminate:
    step = Decontaminate(files)
    step.prepare(folder, None)
    return step


def matched(step: Decontaminate, text: str) -> str:
    verdict = step.judge(Document(text, "a", 0))
    assert (verdict.document is None) == bool(verdict.matched) == bool(verdict.counts)
    return verdict.matched


def test_thirteen_words_in_a_row(tmp_path: Path) -> None:
    step = prepared(tmp_path, evaluation(tmp_path / "e.jsonl", [{"q": f"Zero, {THIRTEEN} fourteen?"}]))
    assert matched(step, f"Before that: {THIRTEEN.upper().replace(' ', ', ')}! After") == "e.jsonl:1"
    assert matched(step, THIRTEEN) == "e.jsonl:1"
    assert matched(step, THIRTEEN.removeprefix("one ")) == ""
    assert matched(step, THIRTEEN.replace("seven", "7")) == ""
    assert matched(step, "") == ""


def test_items_are_composed_as_documents_are(tmp_path: Path) -> None:
    composed = THIRTEEN.replace("seven", "sépt")
    step = prepared(tmp_path, evaluation(tmp_path / "e.jsonl", [normalize("NFD", composed)]))
    assert matched(step, composed) == "e.jsonl:1"


def test_every_text_of_an_item_counts_by_itself(tmp_path: Path) -> None:
    words = THIRTEEN.split()
    choices = {"question": "Which?", "choices": ["a", THIRTEEN], "answer": 1}
    parted = {"question": " ".join(words[:7]), "answer": " ".join(words[7:])}
    assert matched(prepared(tmp_path, evaluation(tmp_path / "c.jsonl", [parted, choices])), THIRTEEN) == "c.jsonl:2"
    assert matched(prepared(tmp_path, evaluation(tmp_path / "p.jsonl", [parted])), THIRTEEN) == ""


def test_the_report_is_by_set_and_item(tmp_path: Path) -> None:
    other = Letters().text(20)
    first = evaluation(tmp_path / "first.jsonl", ["too short", f"{THIRTEEN} and more of it", THIRTEEN])
    second = evaluation(tmp_path / "second.jsonl", [{"text": other}, {"text": f"so {THIRTEEN}"}])
    step = prepared(tmp_path, first, second)
    assert step.facts() == {
        "items": 5, "too_short": 1, "first.jsonl: items": 3, "first.jsonl: too_short": 1,
        "second.jsonl: items": 2, "second.jsonl: too_short": 0,
    }  # fmt: skip
    verdict = step.judge(Document(f"See: {THIRTEEN}, and more.", "a", 0))
    assert verdict.reason == "shares 15 words in a row with an evaluation item"
    assert verdict.matched == "first.jsonl:2"
    assert verdict.counts == {
        "first.jsonl": 1, "second.jsonl": 1, "first.jsonl:2": 1, "first.jsonl:3": 1, "second.jsonl:2": 1,
    }  # fmt: skip


def test_characters_count_where_no_spaces_are_written(tmp_path: Path) -> None:
    step = prepared(tmp_path, evaluation(tmp_path / "e.jsonl", [{"問": "吾輩は猫である。名前はまだ無い。"}]))
    assert matched(step, "「吾輩は猫である名前はまだ無い」と彼は言った。") == "e.jsonl:1"
    assert matched(step, "吾輩は猫である名前はまだ、です") == ""  # 12


def test_it_is_what_a_search_for_words_finds(tmp_path: Path) -> None:
    """Against sets of tuples, over random texts of few words in which runs of 5 to 20 words of items are planted."""
    letters = Letters()
    items = [letters.text(30) for _ in range(50)]
    texts = [letters.words(60) for _ in range(200)]
    for number, words in enumerate(texts):
        start, length = number % 11, 5 + number % 16
        words[20 : 20 + length] = items[number % 50].split()[start : start + length]
    step = prepared(tmp_path, evaluation(tmp_path / "e.jsonl", items))
    again = pickle.loads(pickle.dumps(step))

    def tuples(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text)
        return {tuple(words[n : n + 13]) for n in range(len(words) - 12)}

    of_items = [tuples(item) for item in items]
    found = 0
    for words in texts:
        text = " ".join(words)
        expected = [f"e.jsonl:{n}" for n, each in enumerate(of_items, start=1) if each & tuples(text)]
        verdict = again.judge(Document(text, "a", 0))
        assert [name for name in verdict.counts if ":" in name] == expected
        assert verdict.counts == step.judge(Document(text, "a", 0)).counts
        found += bool(expected)
    assert 50 < found < 150


@pytest.mark.parametrize("items", [[], ["short"]])
def test_sets_without_long_items(tmp_path: Path, items: list[object]) -> None:
    path = evaluation(tmp_path / "e.jsonl", [*items, "?"])
    assert matched(prepared(tmp_path, path), THIRTEEN) == ""
