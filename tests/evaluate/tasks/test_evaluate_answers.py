"""Answers right and wrong by hand; what counts as the same; records of each format, and what is wrong with them."""

from __future__ import annotations

import gzip
import json

import pytest
from oracles import asked, writer

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks.answers import answer_in, run
from gemmule.evaluate.tasks.records import read_records

GSM8K = [
    {"question": "How many eggs?", "answer": "She sells 9.\nThat is $<<9*2=18>>18 a day.\n#### 18"},
    {"question": "How much is the house?", "answer": "It is a lot: #1.\n#### 70,000"},
    {"question": "How cold?", "answer": "Minus.\n\nCold.\n#### -5"},
]
GOOD = '{"question": "x", "answer": "y"}'
PLAIN = [{"question": "The capital of France?", "answer": "Paris"}, {"question": "6 times 7?", "answer": "42"}]


def answering(**answers: str):
    """Answers by the first words of a question."""
    return writer(lambda prompt: next(text for word, text in answers.items() if word in prompt))


@pytest.mark.parametrize(
    ("answers", "right", "answered"),
    [
        ({"eggs": "It is 9.\n#### 18", "house": "#### 70000", "cold": "####-5"}, 3, 3),
        ({"eggs": "#### 18 dollars.", "house": "so\n#### $70,000.00.\n", "cold": "#### -5\n\n#### 9"}, 3, 3),
        ({"eggs": "18", "house": "#### 7000", "cold": "x\n\n#### -5"}, 0, 1),  # no mark, another number, too late
        ({"eggs": "#### 18\n#### 19", "house": "#### 70", "cold": "#### none"}, 1, 3),  # the first mark counts
        ({"eggs": "", "house": "#### ", "cold": "5"}, 0, 0),
    ],
)
def test_answers_as_gsm8k_has_them(answers, right, answered):
    figures = run(asked(answering(**answers), records=GSM8K))
    assert (figures["exact_match"], figures["answered"]) == (right / 3, answered / 3)
    assert (figures["count"], figures["too_long"]) == (3, 0)
    assert figures["interval"][0] <= right / 3 <= figures["interval"][1]
    json.dumps(figures, allow_nan=False)


def test_plain_answers_are_the_first_line():
    model = answering(France=" paris.\nIt lies on the Seine.", times="42.0")
    assert run(asked(model, records=PLAIN))["exact_match"] == 1
    assert run(asked(answering(France="Paris, I think", times="The answer is 42"), records=PLAIN))["exact_match"] == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234,567", "1234567"), ("$1,000", "1000"), ("-$3.50", "-3.5"), ("18.", "18"), ("18.00", "18"),
        ("100", "100"), ("0.0", "0"), ("", None), ("  New   York. ", "new york"), ("red, blue", "red, blue"),
        ("10 apples", "10 apples"),
    ],
)  # fmt: skip
def test_what_does_not_count(text, found):
    assert answer_in(text, "plain") == found


def test_no_more_than_200_tokens_or_the_contexts_room():
    """One token a byte: "The capital of France?" with <bos> and a newline has 24."""
    late = answering(France="." * 197 + "####", times="")
    records = [{"question": PLAIN[0]["question"], "answer": "#### 5"}, PLAIN[1]]
    run(asked(late, records=records))
    assert late.longest == 24 + 199
    run(asked(short := answering(France="." * 400, times="." * 400), records=records, context=60))
    assert short.longest == 59


def test_a_question_that_fills_the_context_is_wrong():
    records = [PLAIN[1], {"question": "x" * 30, "answer": "y"}]
    figures = run(asked(answering(times="42", x="y"), records=records, context=20))
    assert (figures["exact_match"], figures["count"], figures["too_long"]) == (0.5, 2, 1)
    with pytest.raises(RequestError, match="the model reads 10 tokens, and the shortest question has 12"):
        run(asked(answering(times="42"), records=records, context=10))
    with pytest.raises(RequestError, match="needs records with a question and its answer"):
        run(asked(answering(times="42")))


# --- records --------------------------------------------------------------------------------------------------------


def test_records_of_each_format(tmp_path):
    lines = "".join(json.dumps(record) + "\n" for record in GSM8K)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.json").write_text(json.dumps([{"prompt": r["question"], "completion": r["answer"]} for r in GSM8K]))
    rows = "".join(f'{r["question"]},x,"{r["answer"]}"\n' for r in GSM8K)
    (tmp_path / "a.csv").write_text("prompt,completion,answer\n" + rows)  # an answer goes before a completion
    for name in ("a.jsonl", "a.jsonl.gz", "a.json", "a.csv"):
        assert read_records(tmp_path / name) == GSM8K


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "question", r"a\.txt: holds no records"),
        ("a.odd", "question", r"a\.odd: holds no records"),
        ("a.jsonl", '{"text": "x", "id": 3}', "need the fields question and answer, or prompt .* they have id, text"),
        ("a.jsonl", f'{GOOD}\n{{"question": "x"}}\n', r"line 2: has no field 'answer' \(its fields: question\)$"),
        ("a.jsonl", f'{GOOD}\n{{"question": "x"', r"line 2: not JSON"),
        ("a.jsonl", '{"question": "x", "answer": 7}', "line 1: field 'answer' is not a text but a number"),
        ("a.jsonl", f'{GOOD}\n\n{{"question": " ", "answer": "y"}}', "record 2: its question is empty"),
        ("a.json", '[{"prompt": "x", "answer": ""}]', "record 1: its answer is empty"),
        ("a.jsonl", "", "no text"),
        ("a.jsonl", "\n\n", "holds no records"),
        ("a.json", "[]", "holds no records"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_records(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(RequestError, match=words) as error:
        read_records(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "data.field" not in str(error.value)
