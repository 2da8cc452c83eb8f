"""A compiled step gives what a plain one gives, before the ring is full and after, and falls back where it can't."""

import shutil

import pytest
import torch

from gemmule.generate import reading
from gemmule.generate.sampling import generate_batch
from gemmule.model.config import Gemma2Config
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2
from gemmule.recipe.generation import Sampling

PROMPTS = [[2, 5, 9], [2, 8, 8, 8, 8, 11, 3]]


@pytest.fixture(scope="module")
def model():
    return Gemma2(Gemma2Config(64, 4, 32, 4, 2, 8, 64, window=8)).initialise(3).eval()


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(compiling, "_given_up", False)
    reading._compiled.cache_clear()
    yield
    torch.compiler.set_stance("default")


def text(model, prompts, compile):
    steps = generate_batch(model, prompts, max_new_tokens=20, compile=compile, sampling=Sampling(temperature=0))
    return list(steps)


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS])
def test_the_graph_of_a_compiled_step_is_right(monkeypatch, model, prompts):
    """Traced whole (`fullgraph`), run without a C++ compiler, which takes seconds."""
    graphs = []

    def traced(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile(function, backend=traced, fullgraph=True))
    assert text(model, prompts, True) == text(model, prompts, False)
    assert 1 <= len(graphs) <= 3  # a layer with a ring and one without, and the head: not one for each layer


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_step_gives_the_same_tokens(model):
    assert text(model, PROMPTS[:1], True) == text(model, PROMPTS[:1], False)
    assert not compiling._given_up


def test_where_compiling_fails_the_text_goes_on(monkeypatch, model, capsys):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile(function, backend=broken))
    assert text(model, PROMPTS, True) == text(model, PROMPTS, False)
    assert capsys.readouterr().err.count("running uncompiled") == 1
