"""When compiling is tried, and what happens where it can't work."""

import pytest
import torch

from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.train import compiling


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(compiling, "_given_up", False)
    yield
    torch.compiler.set_stance("default")


@pytest.mark.parametrize(
    ("wish", "flops", "expected"),
    [("auto", 1e12, False), ("auto", 1e15, True), (True, 1.0, True), (False, 1e15, False)],
)
def test_compiling_is_for_long_work_or_on_demand(wish, flops, expected):
    model = Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8))
    compiling.prepare(model, wish, flops)
    assert (model.model._compiled_call_impl is not None) is expected


def test_a_failure_to_compile_is_said_once_and_the_work_done_uncompiled(capsys):
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 1:
            raise torch._inductor.exc.InductorError(RuntimeError("no compiler"), "x")
        return "done"

    assert compiling.eager_if_it_fails(work) == "done"
    assert compiling.eager_if_it_fails(work) == "done"
    assert capsys.readouterr().err.count("uncompiled") == 1
    model = Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8))
    compiling.prepare(model, True, 1e15)
    assert model.model._compiled_call_impl is None


def test_other_failures_are_not_swallowed():
    def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compiling.eager_if_it_fails(work)


def test_short_work_is_said_to_run_uncompiled_once(capsys):
    compiling._say_that_it_would_not_pay.cache_clear()
    model = Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8))
    for _ in range(2):
        compiling.prepare(model, "auto", 1e12)
    assert capsys.readouterr().err.count("uncompiled") == 1
