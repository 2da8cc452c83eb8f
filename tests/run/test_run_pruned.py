"""A family whose tokenizer is pruned from that of a teacher from outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from large_tokenizers import save_teacher

from gemmule import tokenize
from gemmule.model import weights
from gemmule.teach.targets.store import TargetStore
from gemmule.teach.teachers.vocabulary import TEACHER_IDS
from gemmule.tokenize.shards import TokenShards

RECIPE = """
name = "pruned"
[data]
sources = ["texts"]
sequence_length = 16
validation_fraction = 0.2
[tokenizer]
from = "big"
prune = true
[models.big]
from = "teacher"
worse_than_unigram = "allow"  # its weights are random
[models.live]
architecture = { layers = 1, width = 16 }
learn_from = "big"
train = { tokens = 512, batch_tokens = 256 }
[models.stored]
like = "live"
distill = { targets = { bytes_per_token = 30 } }
[evaluate]
sample_tokens = 3
[machine]
compile = false
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A Gemma 2 folder of 998 tokens whose table has 1,024 rows."""
    folder = tmp_path_factory.mktemp("outside") / "teacher"
    save_teacher(folder, 1024)
    return folder


def test_students_learn_in_the_teachers_tokens_that_the_text_uses(run, text_folder, teacher, capsys):
    base = text_folder.parent
    (base / "pruned.toml").write_text(RECIPE.replace('"teacher"', f'"{teacher}"'))
    out = base / "run"
    assert run("run", base / "pruned.toml", "--out", out) == 0
    said = capsys.readouterr().err
    assert "of 998: those that the text uses" in said
    assert "of its 1,024 tokens are kept" in said
    assert said.count("tokens that the student lacks") == 2  # stored and live

    whole, pruned = tokenize.load_tokenizer(teacher), tokenize.load_tokenizer(out / "tokenizer")
    assert pruned.vocabulary_size < 600
    teacher_ids = np.load(out / "models" / "big" / "source" / TEACHER_IDS)
    for split in ("train", "validation"):
        stream = TokenShards(out / "tokens" / split)
        ids = stream[: len(stream)]
        text = pruned.decode(ids, skip_special_tokens=True)
        assert teacher_ids[ids][ids != pruned.eos_id].tolist() == whole.encode(text)

    # what is stored is the teacher given the kept tokens: its expectations, from the whole model itself
    store, ids = TargetStore(out / "targets" / "big"), TokenShards(out / "tokens" / "train")[:16]
    inputs = torch.from_numpy(teacher_ids[[pruned.bos_id, *ids[:-1]]])[None]
    with torch.no_grad():
        kept = weights.load(teacher)(inputs)[0][:, teacher_ids]  # [16, V]
    expected = torch.log_softmax(kept, -1)
    torch.testing.assert_close(store[0:16].entropy, -(expected.exp() * expected).sum(-1), rtol=0, atol=2e-4)
    models = json.loads((out / "summary.json").read_text())["models"]
    assert models["live"]["kl_to_teacher"] > 0
    assert weights.read_config(out / "models" / "live" / "final").vocabulary_size == pruned.vocabulary_size
    assert run("inspect", out / "models" / "stored" / "final") == 0


def test_a_student_starts_from_the_rows_of_the_tokens_that_are_kept(run, text_folder, teacher, capsys):
    """Whole, it is its teacher given the kept tokens; or it is cut down as well."""
    base, out = text_folder.parent, text_folder.parent / "run"
    start = RECIPE.replace("architecture = { layers = 1, width = 16 }", 'start_from = "teacher"')
    start = start.replace("train = { tokens = 512,", "train = { learning_rate = 1e-9, tokens = 512,")
    start = start.replace("distill = { targets", "architecture = { width = 8 }\ndistill = { targets")
    (base / "pruned.toml").write_text(start.replace('"teacher"', f'"{teacher}"'))
    assert run("estimate", base / "pruned.toml", "--out", out) == 0
    assert run("run", base / "pruned.toml", "--out", out) == 0
    whole, source = weights.load(teacher), np.load(out / "models" / "big" / "source" / TEACHER_IDS)
    live = weights.load(out / "models" / "live" / "final")
    torch.testing.assert_close(live.state_dict()["model.embed_tokens.weight"],
                               whole.state_dict()["model.embed_tokens.weight"][source])  # fmt: skip
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        torch.testing.assert_close(live(ids), whole(torch.from_numpy(source)[ids])[..., source], atol=1e-5, rtol=1e-5)
    models = json.loads((out / "summary.json").read_text())["models"]
    assert abs(models["live"]["kl_to_teacher"]) < 1e-5
    assert weights.read_config(out / "models" / "stored" / "final").width == 8
    assert f"8 of {whole.config.width} channels, {len(source)} of 1,024 tokens" in capsys.readouterr().err


def test_prune_needs_a_tokenizer_from_outside(run, recipe, capsys):
    assert run("run", recipe, "--set", "tokenizer.prune=true") == 2
    assert "prune is for a tokenizer with from" in capsys.readouterr().err
