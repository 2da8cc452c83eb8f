"""Vocabularies: the same tokens under other ids, and a teacher restricted to those that its student knows.

A student's tokenizer may be its teacher's own, that with a table of more rows than tokens (Qwen's 151,936), or one that
was pruned from it (`tokenizer/prune.py`). In each case a text's tokens are the teacher's tokens, and only ids differ.

What the teacher gives to tokens that its student lacks: the restricted teacher is the teacher conditioned on the tokens
that both know, p(x) / sum of p over the kept. Its logits are the kept rows of its head, so that is exact, a true
distribution that the student can reach, and as much cheaper as the vocabulary is smaller. Of a served teacher only the
top k is known: those of it that the student lacks are conditioned away in the same manner, and the rest of the mass,
of which nobody knows where it lies, stays the bucket that it was. `lost_mass` measures what is conditioned away.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemmule.base.errors import RequestError
from gemmule.base.progress import say
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions
from gemmule.teach.teachers.teacher import LiveTeacher, Teacher, Wrapper
from gemmule.tokenize.tokenizer import Tokenizer
from gemmule.tokenize.windows import Windows

TEACHER_IDS = "teacher_ids.npy"  # in an outside model's folder, where its ids are not the run's
SAMPLED_WINDOWS = 4  # to measure the lost mass
ROWS = 64  # of whole logits at once


class Restricted(Wrapper):
    """A teacher of another vocabulary, asked and answering in the ids of its student: conditioned on these tokens."""

    def __init__(self, teacher: Teacher, teacher_ids: Tensor) -> None:
        """`teacher_ids` [V]: the teacher's id of each of the student's tokens."""
        super().__init__(teacher, len(teacher_ids))
        self.teacher_ids = teacher_ids.to(self.device)
        self._head: tuple[Tensor, Tensor | None] | None = None  # [V, D'] and [V]: the kept rows, once they are known
        self._our_ids: Tensor | None = None  # [V']: the student's id of each of the teacher's tokens, or -1

    @torch.no_grad()
    def expect(self, ids: Tensor, documents: Tensor | None = None) -> DenseTeacher | SparseDistributions:
        whole = self._whole(ids, documents)
        if isinstance(whole, SparseDistributions):
            return self._kept(whole)[0]
        if whole.weight is None:
            return replace(whole, hidden=whole.hidden[..., self.teacher_ids])
        if self._head is None:
            bias = None if whole.bias is None else whole.bias[self.teacher_ids]
            self._head = whole.weight[self.teacher_ids], bias
        return replace(whole, weight=self._head[0], bias=self._head[1])

    def _whole(self, ids: Tensor, documents: Tensor | None) -> DenseTeacher | SparseDistributions:
        whole = self.teacher.expect(self.teacher_ids[ids], documents)
        if isinstance(whole, Mixture):
            raise RequestError("an ensemble can't be pruned; its members can")
        return whole

    def _kept(self, top: SparseDistributions) -> tuple[SparseDistributions, Tensor]:
        """The entries that the student knows, scaled up; and what the others had, [N]."""
        if self._our_ids is None:
            self._our_ids = torch.full((self.teacher.vocabulary_size,), -1, device=self.device)
            self._our_ids[self.teacher_ids] = torch.arange(self.vocabulary_size, device=self.device)
        ids, rows = self._our_ids[top.ids], top.rows
        kept = ids >= 0
        lost = top.probabilities.new_zeros(len(top)).index_add(0, rows[~kept], top.probabilities[~kept])
        order = (rows[kept] * self.vocabulary_size + ids[kept]).argsort()  # within a row, ids ascend
        rows, ids = rows[kept][order], ids[kept][order]
        p = top.probabilities[kept][order] / (1 - lost)[rows].clamp(min=1e-9)
        counts = torch.bincount(rows, minlength=len(top))
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return SparseDistributions(offsets, ids, p, rest=top.rest), lost

    @torch.no_grad()
    def lost_mass(self, ids: Tensor, documents: Tensor | None = None) -> Tensor:
        whole = self._whole(ids, documents)
        if isinstance(whole, SparseDistributions):
            return self._kept(whole)[1]
        whole = whole.flatten()
        parts = (whole[start : start + ROWS].logits() for start in range(0, len(whole), ROWS))
        return 1 - torch.cat([part.softmax(-1)[:, self.teacher_ids].sum(-1) for part in parts])


def restrict(teacher: Teacher, folder: Path | None) -> Teacher:
    """The teacher in the run's ids, where the folder of its outside model says that its own are others."""
    teacher_ids = None if folder is None else read_teacher_ids(folder)
    return teacher if teacher_ids is None else Restricted(teacher, teacher_ids)


def read_teacher_ids(folder: Path) -> Tensor | None:
    """The id that an outside model has for each of the run's tokens, [V] int64; None where they are the run's."""
    file = folder / TEACHER_IDS
    return torch.from_numpy(np.load(file)) if file.is_file() else None


def say_lost_mass(name: str, teacher: LiveTeacher, windows: Windows) -> None:
    """Says what a teacher, or each member of an ensemble, gives to tokens that its student lacks, if it lacks any.

    That is measured on a few windows spread over the text.
    """
    for number, (_, member) in enumerate(teacher.members, 1):
        _say_lost_mass(name if len(teacher.members) == 1 else f"{name}, member {number}", member, windows)


def _say_lost_mass(name: str, teacher: Teacher, windows: Windows) -> None:
    spread = np.unique(np.linspace(0, len(windows) - 1, SAMPLED_WINDOWS).astype(np.int64))
    parts = []
    for window in spread:  # one at a time: windows may be long
        batch = windows.window_batch([window])
        mass = teacher.lost_mass(**batch.model_inputs(teacher.device))
        if mass is None:
            return
        parts.append(mass.cpu()[torch.from_numpy(batch.mask.ravel())])
    lost = torch.cat(parts)
    often = lost.quantile(0.99)
    say(
        f"{name}: {lost.mean():.2%} of its probability is on tokens that the student lacks, over {often:.1%} at one "
        "position in a hundred; the rest is scaled up to 1"
    )


def align(name: str, theirs: Tokenizer, rows: int, ours: Tokenizer) -> NDArray[np.int64] | None:
    """The id in `theirs` of each of the tokens of `ours`, [V]; None where all `rows` of the teacher's table are these.

    `ours` must be the same tokenizer, or that restricted to some of its tokens: the same steps before BPE, and of its
    merges exactly those between the kept tokens, in the same order.

    Raises RequestError naming the teacher `name` and what differs.
    """
    teacher_ids = _teacher_ids(name, theirs, ours)
    if teacher_ids.max() >= rows:
        raise RequestError(
            f"teacher {name}: its embedding has {rows} rows and its tokenizer {teacher_ids.max() + 1} tokens; "
            "its folder holds another model's tokenizer"
        )
    return None if np.array_equal(teacher_ids, np.arange(rows)) else teacher_ids


def _teacher_ids(name: str, theirs: Tokenizer, ours: Tokenizer) -> NDArray[np.int64]:
    if theirs.content_hash == ours.content_hash:
        return np.arange(ours.vocabulary_size)
    difference = _difference(json.loads(theirs.inner.to_str()), json.loads(ours.inner.to_str()))
    if difference:
        raise RequestError(
            f"teacher {name}: its tokenizer is not the recipe's ({difference}); set tokenizer.from to it, with "
            f"tokenizer.prune = true for a small vocabulary, or learn across tokenizers: models.{name}.by_bytes = true"
        )
    numbers = theirs.inner.get_vocab(with_added_tokens=True)
    names = ours.inner.get_vocab(with_added_tokens=True)
    teacher_ids = np.full(ours.vocabulary_size, -1)
    for token, number in names.items():
        teacher_ids[number] = numbers[token]
    if teacher_ids.min() < 0:
        raise RequestError(f"teacher {name}: the recipe's tokenizer has ids without a token, so it can't be aligned")
    return teacher_ids


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str | None:
    """Why texts may come out as other tokens, None if they come out as the same wherever `ours` has them."""
    for part in ("normalizer", "pre_tokenizer"):
        if theirs[part] != ours[part]:
            return f"its {part} differs"
    model, restricted = theirs["model"], ours["model"]
    settings = [{key: entry[key] for key in entry.keys() - {"vocab", "merges"}} for entry in (model, restricted)]
    if settings[0] != settings[1] or model["type"] != "BPE":
        return "its model differs"
    added = [{token["content"]: token | {"id": 0} for token in entry["added_tokens"]} for entry in (theirs, ours)]
    known = restricted["vocab"].keys() | added[1].keys()
    if unknown := known - model["vocab"].keys() - added[0].keys():
        return f"it lacks {len(unknown):,} of the tokens, {min(unknown)!r} among them"
    if {name: token for name, token in added[0].items() if name in known} != added[1]:
        return "its added tokens differ"
    pairs = ((left, right) for left, right in model["merges"])
    if [[a, b] for a, b in pairs if a in known and b in known and a + b in known] != restricted["merges"]:
        return "its merges differ"
    return None
