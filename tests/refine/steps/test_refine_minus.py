"""A without B (datatrove#376): what another collection has goes from this one alone, and is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from corpora import Letters, corpus_of, decided

from gemmule.base.encodings import BadRecord
from gemmule.base.processes import Workers
from gemmule.refine.sources import Document, SourceFile
from gemmule.refine.steps.minus import Minus
from gemmule.refine.steps.step import DocumentStep, Verdict


def collection(path: Path, texts: list[str]) -> list[SourceFile]:
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts) or "\n")
    return [SourceFile(path, path.name)]


class Upper(DocumentStep):
    name = "upper"

    def judge(self, document: Document) -> Verdict:
        if document.text == "leave out":
            return Verdict(None, "asked to")
        return Verdict(replace(document, text=document.text.upper()))


def test_what_the_other_has_goes(tmp_path: Path) -> None:
    letters = Letters()
    words = letters.words(204)  # 200 shingles
    near, far = words[:184] + letters.words(20), words[:164] + letters.words(40)  # 180 of 220, 160 of 240
    ours = [" ".join(near), "new", "new", " ".join(far), "old\n"]
    files = collection(tmp_path / "old.jsonl", ["unlike", "unlike", " ".join(words), "old"])
    step = Minus(files, "body", 0.8, [])
    decisions = step.decide(corpus_of(ours, tmp_path / "ours", 2))
    assert [(drop.number, drop.reason, drop.matched) for drop in decisions.dropped] == [
        (0, "0.82 of their 5-word shingles are shared", "old.jsonl:3"),
        (4, "the same text", "old.jsonl:4"),
    ]
    assert step.facts() == {"files": 1, "documents": 4}


def test_the_other_goes_through_the_steps_before(tmp_path: Path) -> None:
    files = collection(tmp_path / "old.jsonl", ["old", "leave out"])
    corpus = corpus_of(["OLD", "LEAVE OUT", "leave out"], tmp_path / "ours")
    assert decided(Minus(files, "body", 0.8, [Upper()]), corpus) == [(0, "old.jsonl:1")]


def test_the_number_of_processes_does_not_matter(tmp_path: Path) -> None:
    letters = Letters()
    texts = [letters.text(4000) for _ in range(200)]  # three batches
    files = collection(tmp_path / "old.jsonl", texts)
    ours = [*texts[150:], "new", *texts[:3]]
    expected = [(n, f"old.jsonl:{151 + n}") for n in range(50)] + [(51 + n, f"old.jsonl:{1 + n}") for n in range(3)]
    for count in (1, 2):
        with Workers(count) as workers:
            corpus = corpus_of(ours, tmp_path / f"{count}", 11, workers.in_order)
            assert decided(Minus(files, "body", 0.8, []), corpus) == expected
            assert len(list((tmp_path / f"{count}" / "minus").glob("*.arrow"))) == 4


def test_bad_records_of_the_other_are_refused_or_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text('{"text": 1}\n{"text": "old"}\n')
    files, corpus = [SourceFile(path, path.name)], corpus_of(["old"], tmp_path / "ours")
    with pytest.raises(BadRecord, match=r"old\.jsonl, line 1"):
        decided(Minus(files, "text", 0.8, []), corpus)
    assert decided(Minus(files, "text", 0.8, [], skip_bad=True), corpus) == [(0, "old.jsonl:2")]


@pytest.mark.parametrize(("theirs", "ours"), [([], []), ([], ["a", "a"]), (["a"], [])])
def test_empty_collections(tmp_path: Path, theirs: list[str], ours: list[str]) -> None:
    files = collection(tmp_path / "old.jsonl", theirs)
    assert decided(Minus(files, "body", 0.8, []), corpus_of(ours, tmp_path / "ours")) == []
