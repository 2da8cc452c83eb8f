"""A served teacher against the same model beside it, through a real HTTP server that speaks as vLLM does."""

from __future__ import annotations

import json
import socket
import threading

import pytest
import torch
from served_model import FakeServer, ScriptedServer

from gemmule.base.errors import RequestError, WorkError
from gemmule.evaluate.looking import likeliest
from gemmule.losses.head import token_losses
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers import served
from gemmule.teach.teachers.served import ServedTeacher

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
    with pytest.raises(WorkError, match=r"/v1: no response in .*status 500.*same command resumes"):
        teacher.expect(ids)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "GEMMULE_API_KEY"), (404, "status 404.*not now"), (400, "not now")]
)
def test_a_refusal_is_said_at_once(server, ids, status, words):
    server.hindrances = [status]
    with pytest.raises(RequestError, match=words):
        ServedTeacher(server.url, V, CPU).expect(ids)


def test_a_vocabulary_that_is_not_the_servers_is_noticed(server, ids):
    with pytest.raises(WorkError, match=r"vocabulary of 10: tokenizer\.from is not the server's tokenizer"):
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


MODELS = json.dumps({"data": [{"id": "tiny"}]}).encode()


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def lie_by(scripted, ids, *scripts, **settings):
    """Asks a server that names its model and then answers by the scripts."""
    server = scripted(answer(MODELS), *scripts)
    teacher = ServedTeacher(server.url, V, CPU, K, **settings)
    return server, teacher


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr(served, "FIRST_PAUSE", 0.001)
    servers = []

    def start(*scripts):
        servers.append(ScriptedServer(*scripts))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (answer(b"<html><body>Welcome to \x1b[31mnginx"), r"not JSON.*<html><body>Welcome to \\x1b"),
        (answer(b""), "not JSON"),
        (answer(b"[" * 10**6), "not JSON"),
        (answer(b"[1]"), r"no JSON object: \[1\]"),
        (answer(b'{"choices": 1, "choices": 2}'), "a key twice"),
        (answer(b'{"error": {"message": "no"}}'), "has no choices.*no"),
        (answer(b'{"choices": []}'), r"returned 0 of 3 prompts"),
        (answer(MODELS, "200 OK", "Content-Encoding: gzip"), "compressed.*gzip.*not requested"),
    ],
    ids=["HTML", "nothing", "nested", "list", "repeated key", "error", "no choices", "gzip"],
)  # fmt: skip
def test_what_is_no_answer_is_refused_at_once(scripted, ids, script, words):
    server, teacher = lie_by(scripted, ids, script)
    with pytest.raises(WorkError, match=words) as caught:
        teacher.expect(ids)
    assert str(caught.value).startswith(server.url)
    assert len(str(caught.value)) < 500
    assert server.answered == 2


@pytest.mark.parametrize("data", [b"{}", b'{"data": []}', b'{"data": [{}]}', b'{"data": [{"id": 5}]}', b'{"data": {}}'])
def test_a_server_that_names_no_model(scripted, data):
    server = scripted(answer(data))
    with pytest.raises(WorkError, match=r"/models: names no model.*It sent: "):
        ServedTeacher(server.url, V, CPU, K)
    assert server.answered == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [("302 Found", r"302 \(to http://elsewhere/: name the address itself\)"), ("404 Not Found", "status 404"),
     ("422 No", "status 422"), ("308 Permanent", "308")],
)  # fmt: skip
def test_what_waiting_can_not_mend_is_not_tried_again(scripted, ids, status, words):
    server, teacher = lie_by(scripted, ids, answer(b"", status, "Location: http://elsewhere/"))
    with pytest.raises(RequestError, match=words):
        teacher.expect(ids)
    assert server.answered == 2


def test_an_endless_answer_is_read_up_to_a_size(scripted, ids, monkeypatch):
    monkeypatch.setattr(served, "SMALL_ANSWER", 10_000)
    server, teacher = lie_by(scripted, ids, (b"HTTP/1.1 200 OK\r\n\r\n{", b" " * 2**16, None))
    with pytest.raises(WorkError, match=r"larger than [0-9,]+ bytes.*it begins \{"):
        teacher.expect(ids)
    assert server.answered == 2


def test_a_dripping_answer_is_given_up(scripted, ids, monkeypatch):
    _, teacher = lie_by(scripted, ids, (b"HTTP/1.1 200 OK\r\n\r\n", b" ", None))
    monkeypatch.setattr(served, "TIMEOUT", 0.05)
    with pytest.raises(WorkError, match=r"bytes of its response in 0 s: giving up"):
        teacher.expect(ids)


def test_an_answer_that_is_always_cut_short_is_asked_for_five_times(scripted, ids, capsys):
    server, teacher = lie_by(scripted, ids, answer(b"{", length=10))
    with pytest.raises(WorkError, match=r"no response in .*without sending complete"):
        teacher.expect(ids)
    assert server.answered == 1 + 5
    assert capsys.readouterr().err.count("trying again") == 4


def test_a_server_that_asks_for_a_pause_gets_it(scripted, ids, capsys):
    _, teacher = lie_by(scripted, ids, answer(b"", "429 Slow", "Retry-After: 9"), patience=5)
    with pytest.raises(WorkError, match=r"no response in 0 s \(status 429, asks for 9 s\)"):
        teacher.expect(ids)
    assert "trying again" not in capsys.readouterr().err


def test_a_server_that_never_was_there_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(served, "FIRST_PATIENCE", 0.05)
    monkeypatch.setattr(served, "FIRST_PAUSE", 0.01)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(WorkError, match=r"no response in .*refused"):
            ServedTeacher(url, V, CPU)


@pytest.mark.parametrize("url", ["https://127.0.0.1:PORT/v1", "http://nobody.invalid/v1"])
def test_tls_and_names_that_fail_stay_so(scripted, url, capsys):
    server = scripted(answer(MODELS))
    with pytest.raises(WorkError, match=r"(?i)ssl|name|address|service"):
        ServedTeacher(url.replace("PORT", str(server.port)), V, CPU)
    assert "trying again" not in capsys.readouterr().err


def test_a_key_that_is_none(scripted, monkeypatch):
    monkeypatch.setenv(served.API_KEY, "a\nb")
    with pytest.raises(RequestError, match=r"^GEMMULE_API_KEY: contains characters that are not allowed in a key$"):
        ServedTeacher("http://127.0.0.1:9/v1", V, CPU)


def test_fewer_than_k_named_stay_fewer(model, server, ids, monkeypatch):
    whole = server.choice

    def fewer(*arguments):
        found = whole(*arguments)
        found["prompt_logprobs"][3] = {"7": {"logprob": -0.5}, "8": {"logprob": float("-inf")}}
        return found

    monkeypatch.setattr(server, "choice", fewer)
    expected = ServedTeacher(server.url, V, CPU, K).expect(ids[:1])
    assert expected.offsets.diff().tolist() == [5, 5, 1, 5, 5, 5, 5, 5, 5]
    assert expected.ids[10] == 7
    assert expected.probabilities[10].item() == pytest.approx(0.60653, rel=1e-4)
