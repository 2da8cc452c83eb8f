"""A served teacher against the same model beside it, through a real HTTP server that speaks as vLLM does."""

from __future__ import annotations

import threading

import pytest
import torch
from served_model import FakeServer

from gemmule.distill import served
from gemmule.distill.served import ServedTeacher
from gemmule.errors import RequestError, WorkError
from gemmule.evaluate.figures import likeliest
from gemmule.model.config import Gemma2Config
from gemmule.model.head import token_losses
from gemmule.model.transformer import Gemma2

V, K = 40, 5
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return Gemma2(Gemma2Config(V, 2, 16, 2, 1, 8, 32, 8)).initialise(0).eval()


@pytest.fixture
def server(model, monkeypatch):
    monkeypatch.setattr(served, "FIRST_PAUSE", 0.01)
    monkeypatch.delenv(served.API_KEY, raising=False)
    fake = FakeServer(model)
    yield fake
    fake.stop()


@pytest.fixture
def ids():
    return torch.randint(V, (3, 9), generator=torch.Generator().manual_seed(0))


def assert_local_top_k(model, ids, expected, k=K):
    with torch.no_grad():
        local = model(ids).flatten(0, 1).softmax(-1).topk(k)
    assert expected.rest
    assert len(expected) == ids.numel()
    for row in range(len(expected)):
        entries = slice(int(expected.offsets[row]), int(expected.offsets[row + 1]))
        mine = dict(zip(expected.ids[entries].tolist(), expected.probabilities[entries].tolist(), strict=True))
        theirs = dict(zip(local.indices[row].tolist(), local.values[row].tolist(), strict=True))
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_the_top_k_at_every_position_and_what_was_sent(model, server, ids, monkeypatch):
    monkeypatch.setenv(served.API_KEY, "secret")
    teacher = ServedTeacher(server.url, V, CPU, top_k=K)
    expected = teacher.expect(ids)
    assert_local_top_k(model, ids, expected)
    ((wish, key),) = server.asked
    assert [prompt[:-1] for prompt in wish["prompt"]] == ids.tolist()
    assert (wish["model"], wish["temperature"], wish["prompt_logprobs"]) == ("tiny", 1.0, K)
    assert key == "Bearer secret"
    with torch.no_grad():
        logits = model(ids).flatten(0, 1)
    assert torch.equal(likeliest(expected), logits.argmax(-1))
    assert token_losses(logits, expected).abs().max() < 1e-5


def test_a_smaller_k_is_taken_where_the_server_wants_it_and_said_once(model, server, ids, capsys):
    server.largest_k = 3
    teacher = ServedTeacher(server.url, V, CPU, top_k=9)
    for _ in range(2):
        assert_local_top_k(model, ids, teacher.expect(ids), k=3)
    assert capsys.readouterr().err.count("the top 3 at most, and not 9") == 1


def test_what_may_pass_is_tried_again(model, server, ids, capsys):
    server.hindrances = [503, 0, 429]
    assert_local_top_k(model, ids, ServedTeacher(server.url, V, CPU, top_k=K).expect(ids))
    said = capsys.readouterr().err
    assert "503" in said
    assert "429" in said
    assert said.count("trying again in") == 3


def test_a_server_that_dies_and_comes_back_leaves_no_hole(model, server, ids):
    teacher = ServedTeacher(server.url, V, CPU, top_k=K)
    server.hindrances = [0] * 10**6  # as one that is being killed
    found = []
    asking = threading.Thread(target=lambda: found.append(teacher.expect(ids)))
    asking.start()
    asking.join(0.1)
    server.stop()
    asking.join(0.3)
    assert asking.is_alive()
    again = FakeServer(model, server.port)
    asking.join(10)
    again.stop()
    assert_local_top_k(model, ids, found[0])


def test_a_server_that_stays_away_is_given_up(server, ids):
    teacher = ServedTeacher(server.url, V, CPU, top_k=K, patience=0.2)
    server.hindrances = [500] * 10**6
    with pytest.raises(WorkError, match=r"/v1: no answer in .*status 500.*same command goes on"):
        teacher.expect(ids)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "GEMMULE_API_KEY"), (404, "status 404.*not now"), (400, "not now")]
)
def test_a_refusal_is_said_at_once(server, ids, status, words):
    server.hindrances = [status]
    with pytest.raises(RequestError, match=words):
        ServedTeacher(server.url, V, CPU).expect(ids)


def test_a_vocabulary_that_is_not_the_servers_is_noticed(server, ids):
    with pytest.raises(RequestError, match=r"vocabulary of 10: tokenizer\.from is not the tokenizer of tiny"):
        ServedTeacher(server.url, 10, CPU).expect(ids)


def test_a_server_without_prompt_log_probabilities_is_refused(server, ids, monkeypatch):
    monkeypatch.setattr(server, "choice", lambda index, *_: {"index": index, "text": "x"})
    with pytest.raises(RequestError, match=r"no prompt_logprobs: vLLM gives them"):
        ServedTeacher(server.url, V, CPU).expect(ids)


def test_an_answer_with_holes_is_not_taken(model, server, ids, monkeypatch):
    whole = server.choice

    def holed(*arguments):
        answer = whole(*arguments)
        answer["prompt_logprobs"][4] = None
        return answer

    monkeypatch.setattr(server, "choice", holed)
    with pytest.raises(WorkError, match=r"8 of a prompt's 9 places"):
        ServedTeacher(server.url, V, CPU).expect(ids)
