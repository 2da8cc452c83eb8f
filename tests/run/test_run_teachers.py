"""Recipes whose teachers are of other kinds: another architecture, an ensemble, a GGUF file, a server."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from served_model import FakeServer

import gemmule
from gemmule.convert.exporting import export_model
from gemmule.teach.targets.store import TargetStore

HEAD = """
name = "teachers"
[data]
sources = ["texts"]
sequence_length = 16
[tokenizer]
from = "{final}"
[evaluate]
sample_tokens = 3
[machine]
device = "cpu"
compile = false
"""
STUDENT = """
[models.small]
architecture = {{ layers = 1, width = 8 }}
learn_from = {teachers}
train = {{ tokens = 512, batch_tokens = 256 }}
"""


@pytest.fixture
def gpt2(final, tmp_path):
    """A folder of another architecture, with the run's tokenizer."""
    config = transformers.GPT2Config(vocab_size=280, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(final / name, tmp_path / "gpt2" / name)
    return tmp_path / "gpt2"


@pytest.fixture
def write(text_folder, final):
    def write(models: str, teachers: str):
        path = text_folder.parent / "r.toml"
        path.write_text(HEAD.format(final=final) + models + STUDENT.format(teachers=teachers))
        return path

    return write


def figures(out):
    return json.loads((out / "summary.json").read_text())["models"]


def test_an_ensemble_with_another_architecture_teaches_live_and_stored(run, write, gpt2, final, tmp_path):
    models = f'[models.a]\nfrom = "{final}"\n[models.b]\nfrom = "{gpt2}"\nworse_than_unigram = "allow"\n'
    stored = '[models.stored]\nlike = "small"\ndistill = { targets = { bytes_per_token = 30 } }\n'
    out = tmp_path / "run"
    assert run("run", write(models + stored, "{ a = 0.7, b = 0.3 }"), "--out", out) == 0
    models = figures(out)
    assert models["b"]["parameters"] == transformers.AutoModelForCausalLM.from_pretrained(gpt2).num_parameters()
    assert 100 < models["b"]["perplexity"] < 400  # random weights over 280 tokens
    assert models["small"]["kl_to_teacher"] > 0
    assert models["small"]["teacher_flops"] > 512 * 2 * models["b"]["parameters"] * 0.5
    assert (out / "targets" / "a+b" / "manifest.json").exists()
    evaluation = json.loads((out / "models" / "b" / "evaluation" / "evaluation.json").read_text())
    assert all(sample["text"] for sample in evaluation["samples"])
    assert run("run", write(models_of(final, gpt2) + stored, "{ a = 0.6, b = 0.4 }"), "--out", out) == 2


def models_of(final, gpt2):
    return f'[models.a]\nfrom = "{final}"\n[models.b]\nfrom = "{gpt2}"\nworse_than_unigram = "allow"\n'


def test_a_teacher_that_expects_nothing_in_front(run, write, gpt2, final, tmp_path):
    """As Qwen: its windows begin with the text, and so does what its student writes."""
    config = json.loads((gpt2 / "tokenizer_config.json").read_text()) | {"bos_token": None}
    (gpt2 / "tokenizer_config.json").write_text(json.dumps(config))
    stored = '[models.stored]\nlike = "small"\ndistill = { targets = { bytes_per_token = 30 } }\n'
    recipe = write(f'[models.b]\nfrom = "{gpt2}"\nworse_than_unigram = "allow"\n' + stored, '"b"')
    written = recipe.read_text().replace("train = {", "train = { learning_rate = 0.01,")
    recipe.write_text(written.replace(f'from = "{final}"', f'from = "{gpt2}"'))
    out = tmp_path / "run"
    assert run("run", recipe, "--out", out) == 0
    assert figures(out)["stored"]["kl_to_teacher"] == pytest.approx(figures(out)["small"]["kl_to_teacher"], rel=0.05)
    student = out / "models" / "small" / "final"
    assert json.loads((student / "config.json").read_text())["bos_token_id"] is None
    assert gemmule.load_tokenizer(student).opening == []
    assert gemmule.generate(gemmule.load(student), gemmule.load_tokenizer(student), "", max_new_tokens=3) is not None


def test_a_served_teacher_and_a_gguf_file(run, write, final, tmp_path, capsys):
    server = FakeServer(gemmule.load(final))
    export_model(final, tmp_path / "t.gguf", "gguf")
    models = f'[models.far]\nfrom = "{server.url}"\ntop_k = 5\n[models.file]\nfrom = "{tmp_path / "t.gguf"}"\n'
    out = tmp_path / "run"
    assert run("run", write(models, '"far"'), "--out", out) == 0, capsys.readouterr().err
    server.stop()
    models = figures(out)
    assert models["small"]["kl_to_teacher"] > 0
    assert models["far"]["perplexity"] is None
    assert models["file"]["perplexity"] < 100


def test_a_served_teacher_of_a_pruned_vocabulary_is_asked_in_its_own_tokens(run, write, final, tmp_path, capsys):
    server = FakeServer(gemmule.load(final))
    recipe = write(f'[models.far]\nfrom = "{server.url}"\ntop_k = 9\nworse_than_unigram = "allow"\n', '"far"')
    (tmp_path / "few.jsonl").write_text(
        "".join(json.dumps({"text": "To be, or not " * n}) + "\n" for n in range(9, 49))
    )
    recipe.write_text(
        recipe.read_text()
        .replace('sources = ["texts"]', f'sources = ["{tmp_path / "few.jsonl"}"]')
        .replace("[evaluate]", "prune = true\n[evaluate]")
        + 'distill = { targets = { kind = "top-k", k = 9 } }\n'
    )
    out = tmp_path / "run"
    assert run("run", recipe, "--out", out) == 0, capsys.readouterr().err
    server.stop()
    whole, pruned = gemmule.load_tokenizer(final), gemmule.load_tokenizer(out / "tokenizer")
    assert pruned.vocabulary_size < whole.vocabulary_size
    prompts = [prompt for wish, _ in server.asked for prompt in wish["prompt"]]
    assert any("be, or not" in whole.decode(prompt) for prompt in prompts)
    far = TargetStore(out / "targets" / "far")[:]
    assert far.ids.max() < pruned.vocabulary_size
    assert "is on tokens that the student lacks" in capsys.readouterr().err
    assert figures(out)["small"]["kl_to_teacher"] > 0


def test_a_server_that_dies_half_way_leaves_no_hole_in_the_targets(run, write, final, tmp_path, capsys):
    """Its finished targets are the local teacher's top k, position by position, and the rest as one bucket."""
    server = FakeServer(gemmule.load(final))
    served = f'[models.far]\nfrom = "{server.url}"\ntop_k = 5\n'
    stored = 'distill = { targets = { kind = "top-k", k = 5 } }\n'
    answer, calls = server.choice, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 40:
            server.hindrances += [0, 503, 0]
        return answer(*arguments)

    server.choice = dying
    recipe = write(served, '"far"')
    recipe.write_text(recipe.read_text() + stored)
    assert run("teach", recipe, "--out", tmp_path / "served") == 0, capsys.readouterr().err
    server.stop()
    assert not server.hindrances
    assert "trying again" in capsys.readouterr().err
    recipe = write(f'[models.far]\nfrom = "{final}"\n', '"far"')
    recipe.write_text(recipe.read_text() + stored)
    assert run("teach", recipe, "--out", tmp_path / "local") == 0
    far, local = (TargetStore(tmp_path / name / "targets" / "far")[:] for name in ("served", "local"))
    assert far.rest
    assert set(far.offsets.diff().tolist()) == {5}
    dense = [torch.zeros(len(some), 280).index_put((some.rows, some.ids), some.probabilities) for some in (far, local)]
    torch.testing.assert_close(*dense, rtol=1e-2, atol=1e-4)  # as stored


def test_where_a_server_names_fewer_than_k_fewer_are_stored(run, write, final, texts, tmp_path, capsys):
    server = FakeServer(gemmule.load(final))
    whole = server.choice

    def fewer(index, ids, k):
        found = whole(index, ids, k)
        found["prompt_logprobs"][1:] = [dict([*place.items()][-2:]) for place in found["prompt_logprobs"][1:]]
        return found

    server.choice = fewer
    recipe = write(f'[models.far]\nfrom = "{server.url}"\ntop_k = 5\nworse_than_unigram = "allow"\n', '"far"')
    (tmp_path / "few.txt").write_text(texts[0])
    (tmp_path / "more.txt").write_text(texts[1][:200])
    recipe.write_text(
        recipe.read_text().replace('["texts"]', '["few.txt", "more.txt"]')
        + 'distill = { targets = { kind = "top-k", k = 5 } }\n'
    )
    assert run("train", recipe, "--out", tmp_path / "out") == 0, capsys.readouterr().err
    server.stop()
    stored = TargetStore(tmp_path / "out" / "targets" / "far")[:]
    assert stored.rest
    assert set(stored.offsets.diff().tolist()) <= {1, 2}
    assert stored.mass.max() < 0.9


@pytest.mark.parametrize(
    ("teachers", "extra", "words"),
    [
        ("{ far = 0.5, near = 0.5 }", "", "far is served and provides its top k only: it can't be in an ensemble"),
        ('"far"', 'distill = { loss = "jsd" }', "models.small.distill: far is served"),
        ('"far"', "distill = { temperature = 2.0 }", "models.small.distill: far is served"),
        ('"far"', "distill = { targets = { bytes_per_token = 30 } }", "far is served and provides its top 20 only"),
        ('"far"', 'distill = { targets = { kind = "top-k", k = 21 } }', "with k up to 20"),
        ("{ near = 0.5, other = 0.6 }", "", "weights that sum to 1.1"),
        ('"near"', "top_k = 5", "top_k is for a model behind a server"),
    ],
)
def test_what_a_teacher_can_not_do_is_refused(run, write, final, tmp_path, capsys, teachers, extra, words):
    models = f'[models.far]\nfrom = "http://127.0.0.1:9/v1"\n[models.near]\nfrom = "{final}"\n'
    recipe = write(models + f'[models.other]\nfrom = "{final}"\n', teachers)
    recipe.write_text(recipe.read_text() + extra + "\n")
    assert run("run", recipe, "--out", tmp_path / "run") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("lacking", ["tokenizer.json", "model.safetensors", "model-00002-of-00003.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_before_work(run, write, gpt2, tmp_path, capsys, lacking):
    if "-of-" in lacking:
        (gpt2 / "model.safetensors").rename(gpt2 / "model-00001-of-00003.safetensors")
        parts = {f"t{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
        (gpt2 / "model-00003-of-00003.safetensors").touch()
        (gpt2 / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    else:
        (gpt2 / lacking).unlink()
    assert run("run", write(f'[models.b]\nfrom = "{gpt2}"\n', '"b"'), "--out", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert lacking in said
    assert "models.b.from" in said
    assert not (tmp_path / "run").exists()
