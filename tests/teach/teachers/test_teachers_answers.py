"""A server's answers: what a distribution can't be is refused by name, what it can be comes through as it was sent."""

from __future__ import annotations

import json
import math

import pytest

from gemmule.base.errors import WorkError
from gemmule.teach.teachers import answers

PROMPT, K, V, URL = [5, 6, 5], 3, 40, "http://host/v1"
PLACE = {"6": {"logprob": -5.0}, "1": {"logprob": -0.5}, "2": {"logprob": -1.5}, "3": {"logprob": -2.0}}
LAST = {"5": {"logprob": -0.1}}


def choice(place, **more):
    return {"index": 0, "prompt_logprobs": [None, place, LAST]} | more


def read(*choices, k=K, prompts=(PROMPT,)):
    sent = json.dumps({"choices": list(choices)}).encode()
    return answers.read(answers.parse(sent, URL), prompts, k, V, URL)


def test_the_top_k_without_the_prompts_own_token():
    assert read(choice(PLACE)) == [[(1, -0.5), (2, -1.5), (3, -2.0)], [(5, -0.1)]]
    assert read(choice(PLACE), k=4)[0] == [(1, -0.5), (2, -1.5), (3, -2.0), (6, -5.0)]


def test_rounding_is_allowed_and_no_more():
    assert read(choice({"1": {"logprob": 5e-4}}))[0] == [(1, 0.0)]
    with pytest.raises(WorkError, match="at most 0"):
        read(choice({"1": {"logprob": 5e-3}}))


def test_several_prompts_in_any_order():
    other = {"index": 1, "prompt_logprobs": [None, {"9": {"logprob": -1}}]}
    assert read(other, choice(PLACE), prompts=(PROMPT, [5, 9]))[2] == [(9, -1.0)]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"1": {"logprob": 12.0}, "2": {"logprob": 9.0}}, r"sent 12\.0 as the log-probability of token 1.*raw logits"),
        ({str(n): {"logprob": 0.0} for n in range(4)}, "sum to"),
        ({"1": {"logprob": -0.1}, "2": {"logprob": -2.0}}, r"sum to 1\.04017"),
        ({"1": {"logprob": -math.inf}}, "sum to 0"),
        ({"1": {"logprob": math.nan}}, "sent nan"),
        ({"1": {"logprob": math.inf}}, "sent inf"),
        ({"1": {"logprob": 10**400}}, "sent 1000"),
        ({"1": {"logprob": -(10**400)}}, "sum to 0"),
        ({"1": {"logprob": None}}, "no id and its log-probability"),
        ({"1": {"logprob": "-1"}}, "no id and its log-probability"),
        ({"1": {"logprob": True}}, "no id and its log-probability"),
        ({"1": {}}, "no id and its log-probability"),
        ({"1": -1.0}, "no id and its log-probability"),
        ({"-1": {"logprob": -1}}, r'"-1".*no id'),
        ({"1.0": {"logprob": -1}}, "no id"),
        ({"01": {"logprob": -1}}, "no id"),
        ({" 1": {"logprob": -1}}, "no id"),
        ({"1_0": {"logprob": -1}}, "no id"),
        ({"٣": {"logprob": -1}}, "no id"),
        ({"the\x1b[31m": {"logprob": -1}}, r"the\\u001b\[31m.*no id"),
        ({"40": {"logprob": -1}}, "names token 40 of a vocabulary of 40"),
        ({"1000000000": {"logprob": -1}}, "names token 1000000000 of a vocabulary of 40"),
        ({"9" * 30: {"logprob": -1}}, "no id"),
        ([{"token": 1, "logprob": -1}], r"no log-probabilities by id, but \[\{"),
        ("text", "no log-probabilities by id"),
        ({**PLACE, "7": {"logprob": -9}}, "named 5 tokens where 3 were requested"),
        ({str(n): {"logprob": -9} for n in range(4)}, "named 4 tokens where 3 were requested"),  # none the prompt's own
        (None, "1 of a prompt's 2 places"),
        ({}, "1 of a prompt's 2 places"),
    ],
)  # fmt: skip
def test_what_a_distribution_can_not_be(place, words):
    with pytest.raises(WorkError, match=words) as caught:
        read(choice(place))
    assert str(caught.value).startswith(URL)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([choice(PLACE, index=1)], r"1 of 1 prompts, with the numbers \[1\]"),
        ([choice(PLACE, index=True)], "with the numbers"),
        ([choice(PLACE, index="0")], "with the numbers"),
        ([choice(PLACE), choice(PLACE)], r"returned 2 of 1 prompts, with the numbers \[0, 0\]"),
        ([7], "has no choices"),
        ([choice(PLACE, prompt_logprobs=None)], "not a list"),
        ([choice(PLACE, prompt_logprobs={"0": PLACE})], "not a list"),
        ([choice(PLACE, prompt_logprobs=[None, PLACE])], "places"),
        ([choice(PLACE, prompt_logprobs=[None, PLACE, LAST, LAST])], "places"),
        ([choice(PLACE, prompt_token_ids=[5, 6, 7])], r"for a different prompt than was sent: \[5, 6, 7\]"),
    ],
)  # fmt: skip
def test_what_an_answer_can_not_be(choices, words):
    with pytest.raises(WorkError, match=words):
        read(*choices)
    assert read(choice(PLACE, prompt_token_ids=PROMPT))


def test_an_id_twice_is_no_object():
    sent = b'{"choices": [{"index": 0, "prompt_logprobs": [null, {"1": {"logprob": -1}, "1": {"logprob": -2}}]}]}'
    with pytest.raises(WorkError, match="a key twice"):
        answers.parse(sent, URL)
