"""A whole run on a tiny recipe: what it leaves, what opens it, what it skips and what it makes again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import gemmule
from gemmule.base import artifact
from gemmule.generate.sampling import generate_ids


def test_a_run_leaves_what_the_design_says(finished):
    out = finished / "run"
    for name in ("documents", "tokenizer", "tokens/train", "tokens/validation", "targets/teacher"):
        artifact.verify(artifact.read(out / name))
    for model in ("teacher", "student", "cached", "control"):
        artifact.verify(artifact.read(out / "models" / model / "final"))
        assert (out / "models" / model / "metrics.jsonl").stat().st_size
        assert list((out / "models" / model / "tensorboard").iterdir())
        assert (out / "models" / model / "checkpoints").is_dir()
    assert (out / "report.html").read_text().count("control") > 3
    assert not list(out.rglob(".*.tmp"))


def test_the_summary_holds_every_figure(finished):
    models = json.loads((finished / "run" / "summary.json").read_text())["models"]
    assert list(models) == ["teacher", "student", "cached", "control"]
    for name, figures in models.items():
        assert figures["perplexity"] > 1
        assert figures["bits_per_byte"] > 0
        assert 0 <= figures["ece"] <= 1
        assert figures["seconds"] > 0
        budget = 4096 if name == "teacher" else 2048
        assert budget - 16 < figures["train_tokens"] <= budget  # the last window of an epoch may be short
        assert figures["train_tokens_asked"] == budget
        assert figures["train_flops"] > 6 * figures["train_tokens"] * figures["parameters"] * 0.9
    assert models["teacher"]["kl_to_teacher"] is None
    assert models["control"]["kl_to_teacher"] > 0  # held against the teacher that it did without
    assert models["control"]["teacher_flops"] is None
    assert models["student"]["parameters"] == models["control"]["parameters"]


def test_student_and_control_start_and_read_alike(finished):
    """Same initial weights, same order: one step in, the control's weights and the student's are still close."""
    settings = {}
    for name in ("student", "control"):
        fields = artifact.read(finished / "run" / "models" / name / "final").settings
        settings[name] = {key.replace(f"models.{name}.", ""): value for key, value in fields.items()}
    differ = {key for key in settings["student"] | settings["control"]
              if settings["student"].get(key) != settings["control"].get(key)}  # fmt: skip
    assert all(key == "learn_from" or key.startswith("distill.") for key in differ)


def test_the_public_names_open_a_run(finished):
    final = finished / "run" / "models" / "student" / "final"
    model, words = gemmule.load(final), gemmule.load_tokenizer(final)
    ids = torch.tensor([[words.bos_id, *words.encode("the king")]])
    assert model(ids).shape == (1, ids.shape[1], 280)
    tokens = gemmule.tokenize.shards.TokenShards(finished / "run" / "tokens" / "train")
    targets = gemmule.teach.targets.store.TargetStore(finished / "run" / "targets" / "teacher")
    assert len(targets) == len(tokens)
    assert len(targets[5:9]) == 4
    assert isinstance(gemmule.generate(model, words, "the king", max_new_tokens=4), str)


FOREIGN = """
import sys
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt = sys.argv[1:]
model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
assert "gemmule" not in sys.modules
ids = words(prompt, return_tensors="pt").input_ids
save_file({"ids": ids, "logits": model(ids).logits.detach(),
            "greedy": model.generate(ids, max_new_tokens=24, do_sample=False)}, sys.argv[1] + "/../out.safetensors")
"""


def test_transformers_opens_a_final_folder_without_gemmule(finished):
    final = finished / "run" / "models" / "student" / "final"
    prompt = "the king said to the fool"
    subprocess.run([sys.executable, "-c", FOREIGN, final, prompt], check=True)
    theirs = load_file(final.parent / "out.safetensors")
    (final.parent / "out.safetensors").unlink()
    model, words = gemmule.load(final), gemmule.load_tokenizer(final)
    ids = torch.tensor([[words.bos_id, *words.encode(prompt)]])
    assert ids.tolist() == theirs["ids"].tolist()
    mine = model(ids)
    assert (mine - theirs["logits"]).abs().max() / max(1, mine.abs().max()) <= 2e-5
    greedy = list(generate_ids(model, ids, max_new_tokens=24, temperature=0, stop=[words.eos_id]))
    expected = theirs["greedy"][0, ids.shape[1] :].tolist()
    assert greedy == [token for token in expected if token != words.eos_id]


def test_nothing_to_do_is_said_at_once_without_torch(contents, finished):
    before = contents(finished / "run")
    del before["status.json"]  # which process looked last
    command = [sys.executable, "-X", "importtime", "-m", "gemmule", "run", finished / "tiny.toml"]
    done = subprocess.run([*command, "--out", finished / "run"], capture_output=True, text=True, check=True)
    assert "nothing to do" in done.stderr
    assert " torch\n" not in done.stderr
    assert " transformers\n" not in done.stderr
    after = contents(finished / "run")
    assert json.loads(after.pop("status.json"))["state"] == "done"
    assert after == before


def test_the_recipe_in_the_run_folder_runs_from_there(run, finished, capsys):
    assert run("run", finished / "run" / "recipe.toml", "--out", finished / "run") == 0
    assert "nothing to do" in capsys.readouterr().err


def test_what_is_missing_is_made_again_alike(run, contents, copy):
    out = copy / "run"
    final = contents(out / "models" / "student" / "final")
    shutil.rmtree(out / "models" / "student")
    (out / "report.html").unlink()
    assert run("run", copy / "tiny.toml", "--out", out) == 0
    again = contents(out / "models" / "student" / "final")
    assert again["model.safetensors"] == final["model.safetensors"]
    assert (out / "report.html").exists()


def test_a_damaged_artifact_is_named(run, copy, capsys):
    file = copy / "run" / "models" / "teacher" / "final" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    assert run("run", copy / "tiny.toml", "--out", copy / "run") == 1
    assert str(file) in capsys.readouterr().err


def test_without_a_compiler_it_is_said_once_and_goes_on(recipe):
    """GLiNER#148: no C++ compiler, cold cache."""
    path = Path(sys.executable).parent
    environment = os.environ | {
        "CXX": "/nonexistent",
        "PATH": str(path),
        "TORCHINDUCTOR_CACHE_DIR": str(recipe.parent / "cache"),
    }
    command = [path / "python", "-m", "gemmule", "train", recipe, "--model", "control", "--set", "machine.compile=true"]
    done = subprocess.run(
        [*command, "--out", recipe.parent / "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("running uncompiled") == 1
    assert (recipe.parent / "run" / "models" / "control" / "final").exists()
