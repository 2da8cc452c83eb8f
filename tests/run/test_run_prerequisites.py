"""An extra or a device that is missing is said before any work; what is made already needs none."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch

from gemmule.convert.exporting import export_model

RECIPE = """
name = "p"
data = {{ sources = ["texts"], sequence_length = 16 }}
tokenizer = {{ from = "{tokenizer}" }}
[models.t]
from = "{teacher}"
[models.s]
architecture = {{ layers = 1, width = 8 }}
learn_from = "t"
train = {{ tokens = 256, batch_tokens = 256 }}
[evaluate]
sample_tokens = 1
[machine]
compile = false
"""


@pytest.fixture
def recipe(text_folder, tmp_path, final):
    def write(teacher, tokenizer=final):
        path = tmp_path / "r.toml"
        path.write_text(RECIPE.format(teacher=teacher, tokenizer=tokenizer))
        return path

    return write


@pytest.fixture
def llama(final, tmp_path):
    folder = tmp_path / "llama"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(final / name, folder / name)
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 280}')
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("kind", "missing", "extra"),
    [
        ("llama", ["transformers"], "transformers: pip install 'gemmule[huggingface]'"),
        ("server", ["httpx2"], "httpx2: pip install 'gemmule[served]'"),
        ("own gguf", ["gguf"], "gguf: pip install 'gemmule[gguf]'"),
        ("gguf", ["gguf", "accelerate"], "gguf and accelerate: pip install 'gemmule[gguf,huggingface]'"),
        ("gguf", ["transformers"], "transformers: pip install 'gemmule[gguf,huggingface]'"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "teach", "train"])
def test_a_missing_extra_is_said_before_any_work(
    run, recipe, llama, final, tmp_path, capsys, monkeypatch, verb, kind, missing, extra
):
    sources = {"llama": llama, "server": "http://127.0.0.1:9/v1"}
    sources |= {name: tmp_path / f"{name}.gguf" for name in ("own gguf", "gguf")}
    export_model(final, sources["own gguf"], "gguf", "f32")
    sources["gguf"].write_bytes(
        sources["own gguf"].read_bytes().replace(b"gemmule.query_scale", b"another.query_scale")
    )
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    path = recipe(sources[kind])
    if verb == "teach":
        path.write_text(
            path.read_text().replace("[evaluate]", "distill = { targets = { k = 3, kind = 'top-k' } }\n[evaluate]")
        )
    assert run(verb, path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"{sources[kind]}: needs {extra}" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out" / "documents").exists()


def test_a_model_that_scores_documents_needs_its_extra(run, recipe, llama, final, tmp_path, capsys, monkeypatch):
    path = recipe(final)
    score = f'[refine]\nteacher_score = {{ model = "judge" }}\n[models.judge]\nfrom = "{llama}"\n[models.t]'
    path.write_text(path.read_text().replace("[models.t]", score))
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert run("refine", path, "--out", tmp_path / "out") == 2
    assert f"{llama}: needs transformers: pip install 'gemmule[huggingface]'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "candidates").exists()


def test_a_tokenizer_in_a_gguf_needs_them_too(run, recipe, final, tmp_path, capsys, monkeypatch):
    export_model(final, tmp_path / "t.gguf", "gguf", "f32")
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert run("tokenize", recipe(final, tmp_path / "t.gguf"), "--out", tmp_path / "out") == 2
    assert "t.gguf: needs gguf: pip install 'gemmule[gguf]'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "documents").exists()


def test_a_hub_id_is_looked_up_before_any_work(run, recipe, llama, tmp_path, capsys, monkeypatch):
    asked = []

    def snapshot(name, allow_patterns, local_files_only):
        asked.append((name, allow_patterns))
        if name == "owner/nothing":
            raise ConnectionError("no such repository")
        return str(llama)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name, words in (("owner/nothing", "no such repository"), ("owner/llama", "owner/llama: needs transformers")):
        assert run("run", recipe(name), "--out", tmp_path / "out") == 2
        assert words in capsys.readouterr().err
    assert asked == [("owner/nothing", ["config.json"]), ("owner/llama", ["config.json"])]
    assert not (tmp_path / "out" / "documents").exists()
    assert run("refine", recipe("owner/nothing"), "--out", tmp_path / "out") == 0
    assert len(asked) == 2


def test_a_folder_cut_short_is_named(run, recipe, llama, tmp_path, capsys):
    assert run("run", recipe(llama), "--out", tmp_path / "out") == 1
    assert "model.safetensors: damaged or cut short" in capsys.readouterr().err
    assert not (tmp_path / "out" / "documents").exists()


def test_text_alone_needs_no_extra(run, recipe, llama, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert run("refine", recipe(llama), "--out", tmp_path / "out") == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_device_is_said_before_any_work(run, recipe, final, tmp_path, capsys):
    path = recipe(final)
    assert run("run", path, "--out", tmp_path / "out", "--set", "machine.device=cuda") == 2
    assert "machine.device 'cuda': not available on this machine" in capsys.readouterr().err
    assert not (tmp_path / "out" / "documents").exists()
    assert run("refine", path, "--out", tmp_path / "out", "--set", "machine.device=cuda") == 0


def test_a_finished_run_needs_neither(run, copy, capsys, monkeypatch):
    for module in ("transformers", "httpx2", "gguf"):
        monkeypatch.setitem(sys.modules, module, None)
    recipe = copy / "tiny.toml"
    assert run("run", recipe, "--out", copy / "run", "--set", "machine.device=cuda") == 0
    assert "nothing to do" in capsys.readouterr().err
