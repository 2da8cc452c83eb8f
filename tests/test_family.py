"""Whole runs on tiny recipes, through the command line: made, skipped, refused, remade, interrupted, resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import gemmule
from gemmule import artifact, cli
from gemmule.distill.targets import TargetStore
from gemmule.generate.sampling import generate_ids

RECIPE = """
name = "tiny"
seed = 1
[data]
sources = ["texts"]
sequence_length = 16
validation_fraction = 0.2
[tokenizer]
vocabulary_size = 280
[models.teacher]
architecture = { layers = 2, width = 32 }
train = { tokens = 4096, batch_tokens = 256 }
[models.student]
architecture = { layers = 2, width = 16 }
learn_from = "teacher"
train = { tokens = 2048, batch_tokens = 256 }
[models.cached]
like = "student"
distill = { targets = { bytes_per_token = 30 } }
[models.control]
like = "student"
learn_from = "none"
[evaluate]
sample_tokens = 5
[machine]
device = "cpu"
compile = false
"""


def run(*arguments: object) -> int:
    """The command in this process; gives its exit status."""
    sys.argv = ["gemmule", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


@pytest.fixture
def recipe(text_folder) -> Path:
    path = text_folder.parent / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, texts):
    """A recipe and its finished run; copied by those who change it."""
    base = tmp_path_factory.mktemp("finished")
    (base / "texts").mkdir()
    for number, text in enumerate(texts):
        (base / "texts" / f"{number:02}.txt").write_text(text)
    (base / "tiny.toml").write_text(RECIPE)
    assert run("run", base / "tiny.toml", "--out", base / "run") == 0
    return base


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- a finished run ----------------------------------------------------------------------------------------------


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
    tokens = gemmule.data.shards.TokenShards(finished / "run" / "tokens" / "train")
    targets = gemmule.distill.targets.TargetStore(finished / "run" / "targets" / "teacher")
    assert len(targets) == len(tokens)
    assert len(targets[5:9]) == 4
    assert isinstance(gemmule.generate(model, words, "the king", max_new_tokens=4), str)


FOREIGN = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt = sys.argv[1:]
model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
assert "gemmule" not in sys.modules
ids = words(prompt, return_tensors="pt").input_ids
torch.save({"ids": ids, "logits": model(ids).logits.detach(),
            "greedy": model.generate(ids, max_new_tokens=24, do_sample=False)}, sys.argv[1] + "/../out.pt")
"""


def test_transformers_opens_a_final_folder_without_gemmule(finished):
    final = finished / "run" / "models" / "student" / "final"
    prompt = "the king said <bos> to the fool"
    subprocess.run([sys.executable, "-c", FOREIGN, final, "the king said to the fool"], check=True)
    theirs = torch.load(final.parent / "out.pt", weights_only=True)
    (final.parent / "out.pt").unlink()
    model, words = gemmule.load(final), gemmule.load_tokenizer(final)
    prompt = "the king said to the fool"
    ids = torch.tensor([[words.bos_id, *words.encode(prompt)]])
    assert ids.tolist() == theirs["ids"].tolist()
    mine = model(ids)
    assert (mine - theirs["logits"]).abs().max() / max(1, mine.abs().max()) <= 2e-5
    greedy = list(generate_ids(model, ids, max_new_tokens=24, temperature=0, stop=[words.eos_id]))
    expected = theirs["greedy"][0, ids.shape[1] :].tolist()
    assert greedy == [token for token in expected if token != words.eos_id]


def test_nothing_to_do_is_said_at_once_without_torch(finished):
    before = contents(finished / "run")
    command = [sys.executable, "-X", "importtime", "-m", "gemmule", "run", finished / "tiny.toml"]
    started = time.monotonic()
    done = subprocess.run([*command, "--out", finished / "run"], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 3
    assert "nothing to do" in done.stderr
    assert " torch\n" not in done.stderr
    assert " transformers\n" not in done.stderr
    assert contents(finished / "run") == before


def test_the_recipe_in_the_run_folder_runs_from_there(finished, capsys):
    assert run("run", finished / "run" / "recipe.toml", "--out", finished / "run") == 0
    assert "nothing to do" in capsys.readouterr().err


# --- changed settings --------------------------------------------------------------------------------------------


def test_changed_settings_are_named_and_nothing_is_touched(copy, capsys):
    before = contents(copy / "run")
    wish = ("--set", "models.teacher.train.clip=0.5", "--out", copy / "run")
    assert run("run", copy / "tiny.toml", *wish) == 2
    said = capsys.readouterr().err
    assert "models.teacher.train.clip: 1.0 -> 0.5" in said
    for follower in ("models/student/final", "targets/teacher", "models/cached/final", "models/control/evaluation"):
        assert follower in said
    assert "models/control/final" not in said  # it learned without the teacher
    assert "--remake" in said
    assert contents(copy / "run") == before


def test_remake_moves_the_old_and_keeps_the_rest(copy):
    out = copy / "run"
    student, control = (contents(out / "models" / name / "final") for name in ("student", "control"))
    tokens = (out / "tokens" / "train" / "manifest.json").stat().st_mtime_ns
    assert run("run", copy / "tiny.toml", "--set", "models.student.train.clip=0.5", "--out", out, "--remake") == 0
    assert contents(out / "old" / "models" / "student-1" / "final") == student
    assert contents(out / "models" / "student" / "final") != student
    assert (out / "old" / "models" / "cached-1").is_dir()  # like = "student"
    assert contents(out / "old" / "models" / "control-1" / "final") == control
    assert (out / "tokens" / "train" / "manifest.json").stat().st_mtime_ns == tokens
    assert "clip = 0.5" in (out / "recipe.toml").read_text()
    assert run("run", copy / "tiny.toml", "--out", out) == 2  # now the recipe as written is the other one


def test_changed_text_is_noticed(copy, capsys):
    with (copy / "texts" / "03.txt").open("a") as file:
        file.write("a new line\n")
    assert run("run", copy / "tiny.toml", "--out", copy / "run") == 2
    assert "documents: data.sources: " in capsys.readouterr().err


def test_what_is_missing_is_made_again_alike(copy):
    out = copy / "run"
    final = contents(out / "models" / "student" / "final")
    shutil.rmtree(out / "models" / "student")
    (out / "report.html").unlink()
    assert run("run", copy / "tiny.toml", "--out", out) == 0
    again = contents(out / "models" / "student" / "final")
    assert again["model.safetensors"] == final["model.safetensors"]
    assert (out / "report.html").exists()


def test_a_damaged_artifact_is_named(copy, capsys):
    file = copy / "run" / "models" / "teacher" / "final" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    assert run("run", copy / "tiny.toml", "--out", copy / "run") == 1
    assert str(file) in capsys.readouterr().err


def test_settings_that_make_nothing_stale(copy, capsys):
    assert run("run", copy / "tiny.toml", "--out", copy / "run", "--set", "models.student.train.checkpoint_every=3",
               "--set", "machine.compile=true") == 0  # fmt: skip
    assert "nothing to do" in capsys.readouterr().err


# --- one step, one model -----------------------------------------------------------------------------------------


def test_verbs_make_their_step_and_what_it_needs(recipe, capsys):
    out = recipe.parent / "run"
    assert run("refine", recipe, "--out", out) == 0
    assert sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) == ["documents", "recipe.toml"]
    assert run("tokenize", recipe, "--out", out) == 0
    assert (out / "tokens" / "validation" / "manifest.json").exists()
    assert run("train", recipe, "--model", "control", "--out", out) == 0
    assert [p.name for p in (out / "models").iterdir()] == ["control"]
    assert run("teach", recipe, "--out", out) == 0
    assert len(TargetStore(out / "targets" / "teacher")) > 0
    assert not (out / "models" / "student").exists()
    assert run("evaluate", recipe, "--model", "control", "--out", out) == 0
    assert (out / "models" / "control" / "evaluation" / "evaluation.json").exists()
    assert run("train", recipe, "--model", "controll", "--out", out) == 2
    assert "controll: no such model" in capsys.readouterr().err


def test_inspect_tells_the_ancestry_and_finds_damage(copy, capsys):
    final = copy / "run" / "models" / "cached" / "final"
    assert run("inspect", final) == 0
    said = capsys.readouterr().out
    for word in (
        "targets: targets",
        "teacher: model",
        "documents: documents",
        "verified",
        "models.cached.train.tokens",
    ):
        assert word in said
    assert run("inspect", copy / "run", "--json") == 0
    kinds = {entry["kind"] for entry in json.loads(capsys.readouterr().out)}
    assert kinds == {"documents", "tokenizer", "tokens", "targets", "model", "checkpoint", "evaluation"}
    card = final / "README.md"
    card.write_bytes(card.read_bytes().replace(b"Gemma", b"gemma"))
    assert run("inspect", final) == 1
    assert "README.md" in capsys.readouterr().err
    assert run("inspect", copy / "texts") == 2


def test_generate_is_reproducible_by_seed(finished, capsys):
    final = finished / "run" / "models" / "student" / "final"
    wishes = ("generate", final, "the king", "--max-new-tokens", "20", "--seed")
    said = []
    for seed in (3, 3, 4):
        assert run(*wishes, seed) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("the king")
    assert run(*wishes, 3, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "the king" + told["text"] + "\n" == said[0]
    assert run("generate", finished / "texts", "x") == 2
    assert run("generate", final, "x", "--temperature", "-1") == 2


# --- models from outside -----------------------------------------------------------------------------------------


def outside_recipe(path: Path, final: Path, extra: str = "") -> Path:
    path.write_text(f"""
name = "outside"
[data]
sources = ["texts"]
sequence_length = 16
[tokenizer]
from = "{final}"
[models.big]
from = "{final}"
[models.small]
architecture = {{ layers = 1, width = 8 }}
learn_from = "big"
train = {{ tokens = 512, batch_tokens = 256 }}
[evaluate]
sample_tokens = 3
[machine]
compile = false
{extra}
""")
    return path


def test_an_outside_teacher_and_starting_weights(finished, text_folder):
    final = finished / "run" / "models" / "teacher" / "final"
    more = f'[models.longer]\nstart_from = "{final}"\ntrain = {{ tokens = 512, batch_tokens = 256 }}'
    recipe = outside_recipe(text_folder.parent / "o.toml", final, more)
    out = text_folder.parent / "run"
    assert run("run", recipe, "--out", out) == 0
    models = json.loads((out / "summary.json").read_text())["models"]
    assert models["small"]["kl_to_teacher"] > 0
    assert models["big"]["train_tokens"] is None
    assert models["longer"]["perplexity"] < models["big"]["perplexity"] * 1.05
    first = json.loads((out / "models" / "longer" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] < 4  # from random weights it would be log 280 = 5.6
    assert run("inspect", out / "models" / "small" / "final") == 0


def test_a_teacher_of_another_tokenizer_is_refused(finished, text_folder, capsys):
    final = finished / "run" / "models" / "teacher" / "final"
    recipe = outside_recipe(text_folder.parent / "o.toml", final)
    recipe.write_text(
        recipe.read_text().replace(f'[tokenizer]\nfrom = "{final}"', "[tokenizer]\nvocabulary_size = 270")
    )
    assert run("run", recipe, "--out", text_folder.parent / "run") == 2
    said = capsys.readouterr().err
    assert "big" in said
    assert "tokenizer" in said
    assert not (text_folder.parent / "run" / "tokens").exists()


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ('start_from = "nowhere"', "no such folder"),
        ('start_from = "texts"', "config.json"),
        ('start_from = "FINAL"\narchitecture = { layers = 3, width = 32 }', "architecture.layers is 3 and there 2"),
    ],
)
def test_starting_weights_that_do_not_fit_are_refused(finished, text_folder, capsys, start, words):
    final = finished / "run" / "models" / "teacher" / "final"
    more = f"[models.longer]\n{start.replace('FINAL', str(final))}\ntrain = {{ tokens = 512 }}"
    recipe = outside_recipe(text_folder.parent / "o.toml", final, more)
    assert run("run", recipe, "--out", text_folder.parent / "run") == 2
    assert words in capsys.readouterr().err
    assert not (text_folder.parent / "run").exists()


# --- what users bring --------------------------------------------------------------------------------------------


def one_text(recipe: Path, text: str) -> None:
    shutil.rmtree(recipe.parent / "texts")
    (recipe.parent / "only.txt").write_text(text)
    recipe.write_text(RECIPE.replace('"texts"', '"only.txt"').replace("sequence_length = 16", "sequence_length = 256"))


def test_one_short_document_is_refused_in_words(recipe, capsys):
    """RWKV-PEFT#52: 300 bytes of text, sequence length 256."""
    one_text(recipe, "so it goes " * 27 + "\n\n")
    assert run("run", recipe, "--out", recipe.parent / "run") == 2
    said = capsys.readouterr().err
    assert "1 document" in said
    assert "at least 2" in said
    assert not (recipe.parent / "run" / "documents").exists()


def test_300_bytes_in_two_documents_run(recipe):
    """RWKV-PEFT#52, the other way: shorter than one window, it still trains on what there is."""
    one_text(recipe, "so it goes on and on and on. " * 5)
    recipe.write_text(recipe.read_text().replace('"only.txt"', '"only.txt", "other.txt"').replace("= 280", "= 262"))
    (recipe.parent / "other.txt").write_text("and then it stops, as all things do. " * 4)
    assert run("run", recipe, "--out", recipe.parent / "run") == 0
    models = json.loads((recipe.parent / "run" / "summary.json").read_text())["models"]
    assert all(figures["perplexity"] > 1 for figures in models.values())


def test_one_long_file_is_enough(recipe, texts):
    paragraphs = "\n\n".join(line for text in texts for line in text.splitlines())
    one_text(recipe, paragraphs * (70_000 // len(paragraphs) + 1))
    assert run("tokenize", recipe, "--out", recipe.parent / "run") == 0


def test_a_tokenizer_larger_than_the_text_supports(recipe, capsys):
    assert run("run", recipe, "--out", recipe.parent / "run", "--set", "tokenizer.vocabulary_size=5000") == 2
    said = capsys.readouterr().err
    largest = int(said.split("largest possible is ")[1].split(":")[0])
    assert 262 < largest < 5000
    assert run("tokenize", recipe, "--out", recipe.parent / "run", "--set", f"tokenizer.vocabulary_size={largest}") == 0


@pytest.mark.parametrize(
    ("prepare", "status", "words"),
    [
        (lambda texts: (texts / "empty.txt").write_bytes(b""), 2, "empty.txt"),
        (lambda texts: (texts / "latin.txt").write_bytes(b"ok\nca\xe9\n"), 2, "latin.txt, line 2"),
        (lambda texts: (texts / "x.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n'), 2, "x.jsonl, line 2"),
        (
            lambda texts: (texts / "cut.txt.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"),
            1,
            "cut.txt.gz",
        ),
    ],
)
def test_text_that_can_not_be_read_is_named(recipe, capsys, prepare, status, words):
    prepare(recipe.parent / "texts")
    assert run("run", recipe, "--out", recipe.parent / "run") == status
    assert words in capsys.readouterr().err
    assert not (recipe.parent / "run" / "documents").exists()


def test_a_place_that_can_not_be_written(recipe, capsys):
    (recipe.parent / "file").write_text("")
    assert run("run", recipe, "--out", recipe.parent / "file") in (1, 2)
    said = capsys.readouterr().err
    assert str(recipe.parent / "file") in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [["fly"], ["run"], ["run", "x.toml", "--sett", "a=b"], ["generate", "x"]])
def test_wrong_arguments(arguments, capsys):
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_traceback(recipe):
    with pytest.raises(gemmule.errors.RequestError):
        run("run", recipe.parent / "nowhere.toml", "--debug")


# --- interruptions -----------------------------------------------------------------------------------------------


def test_ctrl_c_twice_and_the_same_command_finishes_the_rest(finished, recipe):
    """Two interruptions while the teacher trains; the weights are those of a run that was never disturbed."""
    out = recipe.parent / "run"
    command = [sys.executable, "-m", "gemmule", "run", str(recipe), "--out", str(out)]
    for attempt in range(2):
        log = out / "models" / "teacher" / "metrics.jsonl"
        lines = log.read_text().count("\n") if log.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (log.exists() and log.read_text().count("\n") >= lines + 2):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130, said
        assert f"Go on with: gemmule run {recipe} --out {out}" in said
        assert not (out / "models" / "teacher" / "final").exists()
        assert attempt == 0 or "going on from step" in said
    assert run("run", recipe, "--out", out) == 0
    for model in ("teacher", "student"):
        path = Path("models") / model / "final" / "model.safetensors"
        assert (out / path).read_bytes() == (finished / "run" / path).read_bytes()


def test_interrupted_training_does_not_go_on_with_other_settings(recipe, capsys):
    out = recipe.parent / "run"
    assert run("train", recipe, "--model", "control", "--out", out) == 0
    shutil.rmtree(out / "models" / "control" / "final")
    assert run("train", recipe, "--model", "control", "--out", out, "--set", "models.student.train.clip=0.3") == 2
    assert "models.control.train.clip: 1.0 -> 0.3" in capsys.readouterr().err


def test_a_second_run_in_the_same_folder_is_refused(finished, capsys):
    with artifact.lock(finished / "run"):
        assert run("run", finished / "tiny.toml", "--out", finished / "run") == 2
    assert f"process {os.getpid()}" in capsys.readouterr().err


def test_without_a_compiler_it_is_said_once_and_goes_on(recipe):
    """GLiNER#148: no C++ compiler, cold cache."""
    path = Path(sys.executable).parent
    environment = os.environ | {
        "CXX": "/nonexistent",
        "PATH": str(path),
        "TORCHINDUCTOR_CACHE_DIR": str(recipe.parent / "cache"),
    }
    command = [path / "python", "-m", "gemmule", "run", recipe, "--set", "machine.compile=true"]
    done = subprocess.run(
        [*command, "--out", recipe.parent / "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("going on uncompiled") == 1
    assert (recipe.parent / "run" / "report.html").exists()
