"""Teachers of other ids: aligned by content, restricted exactly, or refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from large_tokenizers import like_gemma, read_work
from served_model import FakeServer

from gemmule.base.errors import RequestError
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.served import ServedTeacher
from gemmule.teach.teachers.teacher import Ensemble, probabilities
from gemmule.teach.teachers.vocabulary import TEACHER_IDS, Restricted, align, restrict, say_lost_mass
from gemmule.tokenize import Tokenizer, train
from gemmule.tokenize.prune import prune, used_ids

TEXT = "To be, or not to be: that is the question.\n\nWhether 'tis nobler <b>in</b> the mind to suffer"
ROWS = 900


@pytest.fixture(scope="module")
def theirs() -> Tokenizer:
    return like_gemma(read_work("sonnets"), 800)


@pytest.fixture(scope="module")
def ours(theirs: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return prune(theirs, used_ids([TEXT], theirs), tmp_path_factory.mktemp("pruned"))


@pytest.fixture(scope="module")
def teacher() -> Gemma2Teacher:
    config = Gemma2Config(
        vocabulary_size=ROWS, layers=2, width=16, heads=2, kv_heads=1, head_dim=8, ffn_width=32, window=4,
        context_length=64,
    )  # fmt: skip
    model = Gemma2(config).initialise(0)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(3)
    return Gemma2Teacher(model.eval())


def changed(tokenizer: Tokenizer, **parts: object) -> Tokenizer:
    content = json.loads(tokenizer.inner.to_str())
    for part, value in parts.items():
        (content["model"] if part in content["model"] else content)[part] = value
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)))


def test_a_pruned_vocabulary_is_found_by_its_strings(theirs: Tokenizer, ours: Tokenizer) -> None:
    teacher_ids = align("t", theirs, ROWS, ours)
    assert teacher_ids is not None
    assert teacher_ids[ours.encode(TEXT)].tolist() == theirs.encode(TEXT)
    assert len(set(teacher_ids.tolist())) == ours.vocabulary_size


def test_the_same_tokenizer_needs_ids_only_where_the_table_is_padded(theirs: Tokenizer) -> None:
    assert align("t", theirs, theirs.vocabulary_size, theirs) is None
    padded = align("t", theirs, ROWS, theirs)
    assert padded is not None
    assert padded.tolist() == list(range(theirs.vocabulary_size))
    with pytest.raises(RequestError, match=f"{ROWS - 200} rows"):
        align("t", theirs, ROWS - 200, theirs)


def test_tokens_added_at_the_end_of_the_teachers_change_nothing(theirs: Tokenizer) -> None:
    more = changed(theirs)
    more.inner.add_special_tokens(["<image>"])
    teacher_ids = align("t", Tokenizer(more.inner), ROWS, theirs)
    assert teacher_ids is not None
    assert teacher_ids.tolist() == list(range(theirs.vocabulary_size))
    with pytest.raises(RequestError, match="lacks 1 of the tokens, '<image>'"):
        align("t", theirs, ROWS, Tokenizer(more.inner))


def test_other_tokenizers_are_refused_with_what_differs(theirs: Tokenizer, ours: Tokenizer) -> None:
    merges = json.loads(ours.inner.to_str())["model"]["merges"]
    with pytest.raises(RequestError, match=r"t: .*normalizer differs.*tokenizer\.prune"):
        align("t", theirs, ROWS, train([TEXT * 3], 270))
    for name, other in (
        ("normalizer", changed(ours, normalizer=None)),
        ("model", changed(ours, byte_fallback=False)),
        ("merges", changed(ours, merges=merges[:-1])),
        ("merges", changed(ours, merges=[merges[1], merges[0], *merges[2:]])),
        ("added tokens", changed(ours, added_tokens=json.loads(ours.inner.to_str())["added_tokens"][:-1])),
    ):
        with pytest.raises(RequestError, match=f"{name} differ"):
            align("t", theirs, ROWS, other)


def test_the_restricted_teacher_is_the_teacher_given_the_kept_tokens(
    teacher: Gemma2Teacher, theirs: Tokenizer, ours: Tokenizer, tmp_path: Path
) -> None:
    """Against the whole distributions, by definition: p(x) / sum of p over the kept."""
    teacher_ids = align("t", theirs, ROWS, ours)
    assert teacher_ids is not None
    np.save(tmp_path / TEACHER_IDS, teacher_ids)
    restricted = restrict(teacher, tmp_path)
    assert isinstance(restricted, Restricted)
    assert restricted.vocabulary_size == ours.vocabulary_size
    ids = torch.tensor([[ours.bos_id, *ours.encode(TEXT)][:24]]).reshape(2, 12)
    expected = probabilities(restricted.expect(ids))  # [24, V]

    whole = torch.softmax(teacher.model(torch.from_numpy(teacher_ids)[ids]).detach().double(), -1).flatten(0, 1)
    kept = whole[:, teacher_ids]
    torch.testing.assert_close(expected.double(), kept / kept.sum(-1, keepdim=True), rtol=1e-4, atol=1e-9)
    lost = restricted.lost_mass(ids)
    assert 0.1 < lost.mean() < 0.9
    torch.testing.assert_close(lost.double(), 1 - kept.sum(-1), rtol=1e-4, atol=1e-6)


def test_a_served_teachers_top_k_is_given_the_kept_tokens_too(
    teacher: Gemma2Teacher, theirs: Tokenizer, ours: Tokenizer
) -> None:
    """Of the top k at each place, from the whole distributions: those kept, over 1 less the others' mass."""
    teacher_ids = align("t", theirs, ROWS, ours)
    assert teacher_ids is not None
    server = FakeServer(teacher.model)
    served = ServedTeacher(server.url, ROWS, torch.device("cpu"), top_k=6)
    restricted = Restricted(served, torch.from_numpy(teacher_ids))
    ids = torch.tensor([[ours.bos_id, *ours.encode(TEXT)][:24]]).reshape(2, 12)
    expected, lost = restricted.expect(ids), restricted.lost_mass(ids)
    server.stop()

    sent = [prompt[:-1] for prompt in server.asked[0][0]["prompt"]]
    assert sent == torch.from_numpy(teacher_ids)[ids].tolist()
    whole = torch.softmax(teacher.model(torch.tensor(sent)).detach(), -1).flatten(0, 1)
    known = {number: place for place, number in enumerate(teacher_ids.tolist())}
    assert expected.rest
    assert 0.05 < lost.mean() < 0.9
    for row in range(len(whole)):
        top = {int(number): float(whole[row, number]) for number in whole[row].topk(6).indices}
        gone = sum(p for number, p in top.items() if number not in known)
        mine = expected[row : row + 1]
        wanted = sorted((known[number], p / (1 - gone)) for number, p in top.items() if number in known)
        assert mine.ids.tolist() == [number for number, _ in wanted]
        assert mine.probabilities.tolist() == pytest.approx([p for _, p in wanted], rel=1e-3)
        assert float(lost[row]) == pytest.approx(gone, rel=1e-3, abs=1e-6)


def test_the_lost_mass_of_each_member_of_an_ensemble_is_said(
    teacher: Gemma2Teacher, theirs: Tokenizer, ours: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher_ids = align("t", theirs, ROWS, ours)
    assert teacher_ids is not None
    restricted = Restricted(teacher, torch.from_numpy(teacher_ids))
    batch = SimpleNamespace(
        model_inputs=lambda device: {"ids": torch.arange(24).reshape(2, 12) % ours.vocabulary_size},
        mask=np.ones((2, 12), bool),
    )
    windows: Any = type("Some", (list,), {"window_batch": lambda self, numbers: batch})([0])
    say_lost_mass("small's teacher", Ensemble([(0.5, restricted), (0.5, restricted)]), windows)
    said = capsys.readouterr().err.splitlines()
    assert [re.split(r": [\d.]+% of its", line)[0] for line in said] == [f"small's teacher, member {n}" for n in (1, 2)]


def test_wrappers_and_ensembles_hand_on(teacher: Gemma2Teacher, theirs: Tokenizer) -> None:
    """What is sharded, counted and written is the teacher's own; of an ensemble each member's layers are sharded."""
    restricted = Restricted(teacher, torch.arange(5, 60))
    assert restricted.vocabulary_size == 55
    assert restricted.sizes(16) == teacher.sizes(16)
    (backbone, layers), *others = restricted.backbones()
    assert (backbone, len(layers), others) == (teacher.model.model, 2, [])
    asked = {"max_new_tokens": 4, "temperature": 1.0, "seed": 3}
    assert restricted.write(theirs, "To be", **asked) == teacher.write(theirs, "To be", **asked) != ""
    both = Ensemble([(0.5, teacher), (0.5, Restricted(teacher, torch.arange(ROWS)))])
    assert [found for found, _ in both.backbones()] == [teacher.model.model] * 2
    assert [share for share, _ in both.members] == [0.5, 0.5]
