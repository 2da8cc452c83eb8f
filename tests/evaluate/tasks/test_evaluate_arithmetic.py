"""A model that calculates, one that nearly does; the questions and their examples."""

from __future__ import annotations

import json
from random import Random

import pytest
from oracles import asked, byte_tokenizer, writer

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks.arithmetic import DIGITS, OPERATIONS, _problems, run


def calculated(prompt: str) -> int:
    a, sign, b, _ = prompt.splitlines()[-1].split()
    return {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]


def test_who_calculates_is_right():
    model = writer(lambda prompt: f" {calculated(prompt)}\n1 + 1")
    figures = run(asked(model))
    assert (figures["exact_match"], figures["count"], len(figures["by_kind"])) == (1, 360, 9)
    assert figures["interval"][0] == pytest.approx(0.98944, abs=1e-5)  # 1 / (1 + z^2 / 360)
    assert {kind["count"] for kind in figures["by_kind"]} == {40}
    json.dumps(figures, allow_nan=False)
    for prompt in model.prompts:
        *examples, question = byte_tokenizer().decode(prompt).split("\n")
        assert len(examples) == 4
        assert all(int(line.split("=")[1]) == calculated(line.split("=")[0] + "=") for line in examples)
        assert question.split("=")[0] not in {line.split("=")[0] for line in examples}
        assert question.endswith(" =")
    assert len(set(map(tuple, model.prompts))) == 360
    assert run(asked(model)) == figures
    before = model.prompts[:360]
    run(asked(model, seed=1))
    assert model.prompts[720:] != before


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        (lambda prompt: f"{calculated(prompt)}", 1),  # no space, no end of the line
        (lambda prompt: f" {calculated(prompt) + 1}\n", 0),
        (lambda prompt: f" {calculated(prompt)}.\n", 0),
        (lambda prompt: f"\n{calculated(prompt)}\n", 0),
        (lambda prompt: " 1" if calculated(prompt) == 1 else "", None),
    ],
)
def test_the_first_line_is_the_answer(answer, share):
    figures = run(asked(writer(answer)))
    if share is None:
        assert 0 < figures["exact_match"] < 0.1
    else:
        assert figures["exact_match"] == share


def test_by_kind():
    figures = run(asked(writer(lambda prompt: f" {calculated(prompt) if '*' in prompt else 'a lot'}\n")))
    assert figures["exact_match"] == pytest.approx(1 / 3)
    for kind in figures["by_kind"]:
        assert kind["exact_match"] == (kind["operation"] == "*")


@pytest.mark.parametrize("seed", range(20))
def test_problems_are_of_their_kind_and_all_different(seed):
    for sign in OPERATIONS:
        for digits in DIGITS:
            lines = _problems(sign, digits, Random(seed))
            pairs = [tuple(sorted(map(int, line.split("=")[0].split(sign)))) for line in lines]
            assert len(lines) == len(set(pairs)) == 44
            assert {len(str(number)) for pair in pairs for number in pair} == {digits}
            assert all(int(line.split("=")[1]) == calculated(line.split("=")[0] + "=") for line in lines)
            assert all(calculated(line.split("=")[0] + "=") >= 0 for line in lines)


def test_a_model_that_reads_little_sees_fewer_examples():
    model = writer(lambda prompt: f" {calculated(prompt)}\n")
    figures = run(asked(model, context=50))
    assert figures["exact_match"] == 1
    # characters: a question "23 + 5 =" of d digits has 2d + 5 and <bos>, its answer 10; an example up to 4d + 7
    assert [kind["examples"] for kind in figures["by_kind"]] == [3, 2, 1] * 3
    assert model.longest <= 50
    with pytest.raises(RequestError, match="reads 16 tokens, and a question with its answer takes up to 18"):
        run(asked(model, context=16))
