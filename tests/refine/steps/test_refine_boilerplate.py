"""Boilerplate goes, and what only looks like it stays."""

import pickle
from pathlib import Path
from random import Random

import pytest
from corpora import corpus_of

from gemmule.base.processes import Workers
from gemmule.recipe.refining import Boilerplate as Settings
from gemmule.refine.sources import BUNDLED, Document, read_documents, resolve
from gemmule.refine.steps.boilerplate import Boilerplate
from gemmule.refine.steps.step import Verdict
from gemmule.studies.noise import plant, speeches, works

BANNER = "We use cookies to give you the best experience on our pages."
FOOTER = "Copyright 2024 The Harbour Gazette. All rights reserved. No part may be copied."
LETTERS = [
    "We thank you for your order and are glad to have you as our customer.",
    "Your parcel has left our house today and will be with you in three days.",
    "Should anything be wrong with it then please write to us at any time.",
]


def bodies(count: int) -> list[str]:
    """Texts of their own of about 100 words in two lines."""
    random = Random(0)
    words = [f"{first}{second}" for first in ("ba", "ko", "li", "mu", "re") for second in ("nt", "rd", "st", "lm")]
    return ["\n".join(" ".join(random.choices(words, k=50)) + "." for _ in range(2)) for _ in range(count)]


def judged(texts: list[str], folder: Path, source: str = "a.txt", **settings: int | float) -> list[Verdict]:
    corpus = corpus_of(texts, folder, source=source)
    step = Boilerplate(Settings(**settings))
    step.prepare(folder, corpus)
    return [step.judge(document) for document in corpus]


def left(texts: list[str], folder: Path, source: str = "a.txt", **settings: int | float) -> list[str | None]:
    return [each.document and each.document.text for each in judged(texts, folder, source, **settings)]


@pytest.mark.parametrize(("times", "goes"), [(8, True), (7, False)])
def test_a_line_goes_from_so_many_documents_on(tmp_path, times, goes):
    own = bodies(20)
    texts = [f"{BANNER}\n\n{text}\n{FOOTER}\n" if number < times else text for number, text in enumerate(own)]
    expected = [f"\n{text}\n" if number < times and goes else whole for number, (text, whole) in
                enumerate(zip(own, texts, strict=True))]  # fmt: skip
    verdicts = judged(texts, tmp_path)
    assert [each.document and each.document.text for each in verdicts] == expected
    assert verdicts[0].counts == ({"lines": 2} if goes else {})


def test_the_threshold_grows_with_the_documents(tmp_path):
    texts = [f"{text}\n{FOOTER}" if number < 15 else text for number, text in enumerate(bodies(80))]
    assert left(texts, tmp_path / "some", min_share=0.18)[0] == bodies(1)[0] + "\n"  # of 80: 14.4
    assert left(texts, tmp_path / "more", min_share=0.2)[0] == texts[0]  # 16


def test_copies_of_a_document_count_once(tmp_path):
    (text,) = bodies(1)
    assert left([text] * 20, tmp_path) == [text] * 20


@pytest.mark.parametrize(
    "line",
    [
        "Answer:",
        "Answer the question with the help of the text:",
        "HAMLET, prince of Denmark",
        "[Exeunt]",
        "}",
        "from __future__ import annotations",
        ">>> model = load_model('a', tokens=b, seed=0)",
        "| name | city | year of the visit | cost |",
        "    while (left < right && values[left] < values[right]) {",
    ],
)
def test_labels_code_and_tables_stay(tmp_path, line):
    texts = [f"{line}\n{text}\n{FOOTER}" for text in bodies(12)]
    assert left(texts, tmp_path) == [text.removesuffix(FOOTER) for text in texts]


def test_form_letters_stay_whole(tmp_path):
    """Of each, 60% is what all have."""
    texts = [f"{LETTERS[0]}\n{body[:160]}\n{LETTERS[1]}\n{LETTERS[2]}" for body in bodies(30)]
    assert all(2 * sum(map(len, LETTERS)) > len(text) for text in texts)
    assert left(texts, tmp_path) == texts


def test_a_short_document_of_nothing_else_is_dropped(tmp_path):
    texts = [f"{BANNER}\n{text}\n{FOOTER}" for text in bodies(12)]
    verdicts = judged([*texts, f"Page 7\n{BANNER}\n{FOOTER}"], tmp_path)
    assert verdicts[-1].document is None
    assert verdicts[-1].reason == "nothing but lines that 8 documents or more have"
    assert all(each.document is not None for each in verdicts[:-1])


def test_a_long_text_that_many_have_is_left_to_the_duplicates(tmp_path):
    article = "\n".join(bodies(12))
    texts = [f"Printed on day {number}\n{article}" for number in range(10)]
    assert left(texts, tmp_path) == texts


def test_of_code_only_comments_go(tmp_path):
    licence = "# Licensed under the Apache License, Version 2.0; see the file LICENSE."
    statement = "raise ValueError('the value has to be a number of at least one')"
    bodies_of_code = [f"def f{number}(x):\n    return {text[:200]!r}\n" for number, text in enumerate(bodies(10))]
    texts = [f"{licence}\n{statement}\n{body}" for body in bodies_of_code]
    assert left(texts, tmp_path / "code", "a.py") == [text.removeprefix(f"{licence}\n") for text in texts]


def test_japanese_lines_have_no_words_to_count(tmp_path):
    line = "当サイトではクッキーを使用しています。詳しくはこちら。"
    texts = [f"{line}\n{text}" for text in bodies(10)]
    assert left(texts, tmp_path) == bodies(10)


def test_shakespeare_stays(tmp_path):
    documents = [each for file in resolve([BUNDLED], Path()) for each in read_documents(file)]
    texts = [document.text for document in documents]
    assert left(texts, tmp_path) == texts


def test_planted_lines_are_found_and_others_are_not(tmp_path):
    """Sites of 20 pages over real text: a line is in 13 of them."""
    noisy = plant([each for work in works().values() for each in speeches(work)][:600], {("boilerplate", ""): 200}, 0)
    texts = left([each.text for each in noisy], tmp_path)
    planted = right = gone = 0
    for each, text in zip(noisy, texts, strict=True):
        assert text is not None
        went = {*each.text.split("\n")} - {*text.split("\n")}
        planted, gone, right = planted + len(each.planted), gone + len(went), right + len(went & {*each.planted})
    assert planted == 800
    assert right >= 0.98 * planted
    assert right == gone


def test_it_is_the_same_in_any_number_of_processes(tmp_path):
    texts = [f"{BANNER}\n{text}" for text in bodies(30)]
    with Workers(2) as workers:
        step = Boilerplate(Settings())
        step.prepare(tmp_path, corpus_of(texts, tmp_path, in_order=workers.in_order))
    step = pickle.loads(pickle.dumps(step))
    assert [*step.facts().values()] == [1, 8, 30]
    assert step.judge(Document(texts[0], "a", 0)).document == Document(bodies(1)[0], "a", 0)
