"""When compiling is tried, and what happens where it can't work."""

import os
from pathlib import Path

import pytest
import torch
import torch._dynamo  # as where something is compiled

from gemmule.model.config import Gemma2Config
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(compiling, "_given_up", False)
    compiling.why_no_cache.cache_clear()
    yield
    compiling.why_no_cache.cache_clear()
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


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    """A folder for the compiler's cache that can't be made, for a file is in its way."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compiling.CACHE, str(tmp_path / "file" / "cache"))


def test_a_cache_that_can_not_be_written_is_said_once_and_nothing_is_compiled(no_cache, capsys):
    model = Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8))
    compiling.prepare(model, True)
    assert not compiling.pays_for_generating(model, 10**12)
    compiling.prepare(model, True)
    assert model.model._compiled_call_impl is None
    said = capsys.readouterr().err
    assert said.count("uncompiled") == said.count("\n") == 1
    assert "file/cache" in said


def test_where_nothing_is_compiled_a_missing_cache_is_not_worth_a_word(no_cache, capsys):
    """But the folder is another then: PyTorch makes it for recomputed activations too."""
    compiling.prepare(Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8)), False)
    assert capsys.readouterr().err == ""
    assert Path(os.environ[compiling.CACHE]).is_dir()


def test_a_disk_that_fills_while_it_compiles_ends_compiling_and_not_the_work(capsys):
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return "done"

    assert compiling.eager_if_it_fails(work) == "done"
    assert "No space left on device" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space"):
        compiling.eager_if_it_fails(lambda: calls.clear() or work())
