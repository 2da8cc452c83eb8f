"""What can't fit into this machine is refused before any work, and with --force it is tried."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

from gemmule import recipe as recipes
from gemmule.base.errors import RequestError
from gemmule.estimate import fits, machine
from gemmule.plan.plan import Plan


@pytest.fixture
def there(monkeypatch):
    """Says how many bytes of memory and disk there are, and on which device the run would compute."""

    def there(memory: int = 10**12, disk: int = 10**12, device: str = "cpu") -> None:
        monkeypatch.setattr(fits, "total_memory", lambda: memory)
        monkeypatch.setattr(fits, "free_disk", lambda _: disk)
        monkeypatch.setattr(fits, "_device", lambda _: device)

    return there


LARGE = ("--set", "models.control.train.batch_tokens=100M", "--set", "models.control.train.micro_batch_tokens=100M")


@pytest.mark.parametrize("verb", ["run", "train", "evaluate"])
def test_what_cannot_fit_is_refused_before_anything_is_made(run, recipe, capsys, there, verb):
    there(25 * 10**9)
    out = recipe.parent / "out"
    assert run(verb, recipe, "--out", out, *LARGE) == 2
    what, remedy = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"gemmule: Memory: training control takes about [0-9]+ GB, and this machine has 25 GB.", what)
    assert "models.control.train.micro_batch_tokens = " in remedy
    assert "--force" in remedy
    assert not out.exists()


def test_what_is_advised_fits(run, recipe, capsys, there):
    there(25 * 10**9)
    assert run("run", recipe, "--out", recipe.parent / "out", *LARGE) == 2
    wish = re.findall(r"models\.control\.train\.micro_batch_tokens = [0-9]+", capsys.readouterr().err)[0]
    plan = Plan(recipes.read(recipe, ["models.control.train.batch_tokens=100M", wish]), recipe)
    fits.check(plan, plan.steps)
    there(16 * 10**9)
    with pytest.raises(RequestError, match="training control"):
        fits.check(plan, plan.steps)


def test_only_what_is_still_to_be_made_counts(run, copy, there, capsys):
    there(10**6)  # nothing at all would fit
    assert run("run", copy / "tiny.toml", "--out", copy / "run") == 0
    assert "nothing to do" in capsys.readouterr().err
    changed = ("--set", "models.control.train.clip=0.5", "--out", copy / "run")
    assert run("run", copy / "tiny.toml", *changed) == 2
    assert "--remake" in capsys.readouterr().err  # that comes first
    assert run("run", copy / "tiny.toml", *changed, "--remake") == 2
    assert "Memory: " in capsys.readouterr().err
    assert not (copy / "run" / "old").exists()
    assert run("teach", copy / "tiny.toml", "--out", copy / "new", "--worker", "1/2") == 2
    assert "Memory: " in capsys.readouterr().err


def test_force_goes_on(run, recipe, there):
    there(10**6, 10**3)
    assert run("refine", recipe, "--out", recipe.parent / "out") == 0  # of which nothing is counted
    assert run("train", recipe, "--model", "control", "--out", recipe.parent / "out") == 2
    assert run("train", recipe, "--model", "control", "--out", recipe.parent / "out", "--force") == 0


def test_a_full_disk_is_seen_beforehand(run, recipe, there, capsys):
    there(disk=10**4)
    assert run("run", recipe, "--out", recipe.parent / "out") == 2
    assert re.search(r"Disk: checkpoints and weights take [0-9.]+ MB, and 10 kB are free", capsys.readouterr().err)
    assert not (recipe.parent / "out").exists()


def test_of_a_gpu_the_states_must_fit(run, recipe, there, capsys, monkeypatch):
    there(10**6, device="cuda")  # where the machine's own memory does not matter
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 10**9))
    large = ("--set", "models.teacher.architecture={layers = 100, width = 8192}", "--set", "machine.device=auto")
    assert run("run", recipe, "--out", recipe.parent / "out", *large) == 2
    assert re.search(r"training teacher takes [0-9.]+ (GB|TB) and more, and the GPU has 80", capsys.readouterr().err)


def test_containers_bound_the_memory(monkeypatch, tmp_path):
    whole = machine.total_memory()
    inner = tmp_path / "job" / "step"
    inner.mkdir(parents=True)
    monkeypatch.setattr(machine, "_groups", lambda: iter([(inner, "memory.max")]))
    (inner / "memory.max").write_text("max\n")
    assert machine.total_memory() == whole
    (tmp_path / "job" / "memory.max").write_text("123000000\n")
    assert machine.total_memory() == 123_000_000 == machine.free_memory()


def test_the_memory_of_windows(monkeypatch):
    """Of a machine without /proc, os.sysconf and resource: GlobalMemoryStatusEx fills a structure."""
    import ctypes
    import os

    def fill(reference):
        status = reference._obj
        assert status.length == 64
        status.sizes[0], status.sizes[1] = 8 * 10**9, 3 * 10**9

    windows = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=fill))
    monkeypatch.setattr(ctypes, "windll", windows, raising=False)
    monkeypatch.setattr(ctypes, "c_ulong", ctypes.c_uint32)  # as it is there
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(machine, "_meminfo", lambda _: 0)
    monkeypatch.setattr(machine, "_limits", lambda: iter([2**63]))
    assert (machine.total_memory(), machine.free_memory()) == (8 * 10**9, 3 * 10**9)
