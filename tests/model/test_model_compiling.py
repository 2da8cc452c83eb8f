"""When compiling is tried, and what happens where it can't work."""

import pytest
import torch

from gemmule.model import compiling
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(compiling, "_given_up", False)
    yield
    torch.compiler.set_stance("default")


@pytest.mark.parametrize(
    ("wish", "device", "expected"),
    [("auto", "cpu", False), ("auto", "meta", True), (True, "cpu", True), (False, "meta", False)],
)
def test_training_is_compiled_on_demand_or_off_the_cpu(wish, device, expected):
    with torch.device(device):
        model = Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8))
    compiling.prepare(model, wish)
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
    compiling.prepare(model, True)
    assert not compiling.pays_for_generating(model, 10**12)
    assert model.model._compiled_call_impl is None


def test_other_failures_are_not_swallowed():
    def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compiling.eager_if_it_fails(work)


def test_generating_is_compiled_where_the_tokens_pay_for_it():
    model = Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8))
    assert not compiling.pays_for_generating(model, 1000)
    assert compiling.pays_for_generating(model, 10**8)
