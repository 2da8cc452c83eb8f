"""A teacher with another tokenizer, asked and answering in the student's tokens, by the bytes that tokens stand for.

The student's window is text, which the teacher's tokenizer cuts anew. After any of the student's tokens the text stands
at some byte; the teacher's last token before it ended at that byte or before, and left r, the bytes since. Of what the
teacher expected there, the tokens that begin with r and go on can still come. Each of them stands for the student's
token that its bytes after r begin with, and gives it its probability; together they make 1. A vocabulary in the order
of its bytes has those that begin with r side by side.

Which of the student's tokens comes first depends on what follows as well: after the teacher's "k" may come "ing", and
"king" be one token of the student's. So for each token of the teacher's (and r) it is counted once, in the training
text, how often the student's next token was which; where a token was never seen, its bytes alone are cut.

So a student with 2,000 tokens learns whole distributions from a teacher with 262,144, live or stored, by any loss. It
is the conversion between vocabularies by bytes (Phan et al. 2024, arXiv 2410.09303; Vieira et al. 2024,
arXiv 2412.03719) along the one way in which the teacher reads the text, without the sum over all other ways:

- That the teacher's token did not end where the student's did (r is not empty), or did, is taken from the text. So at
  a place where a word may end or go on the student learns from the text how often, and from the teacher how.
- Where the teacher can't be asked (a window begins within a character, its tokenizer changes the text) the text's own
  next token takes the place of an answer.

B windows of T tokens, V the student's vocabulary, V' the teacher's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemmule.base.errors import RequestError
from gemmule.losses.targets import DenseTeacher
from gemmule.teach.teachers.alm import END, encode_text, first_character, token_bytes
from gemmule.teach.teachers.teacher import Teacher, Wrapper
from gemmule.tokenize.tokenizer import Tokenizer

SMALLEST = 1e-9  # probability of a token that can't come: its logarithm is to be a number
ROWS = 64  # of the teacher's logits at once


class ByBytes(Wrapper):
    """A teacher of another vocabulary, in the ids of its student."""

    def __init__(self, teacher: Teacher, theirs: Tokenizer, ours: Tokenizer) -> None:
        """Raises RequestError for a tokenizer whose tokens are not pieces of the text."""
        super().__init__(teacher, ours.vocabulary_size)
        self.window = None  # in the teacher's own tokens
        self.theirs, self.ours = theirs, ours
        self.their_bytes, self.our_bytes = token_bytes(theirs), token_bytes(ours)
        self._single = {piece[0]: number for number, piece in enumerate(self.our_bytes) if len(piece) == 1}
        # no control tokens; and no byte 255, which no text has, and which stands for <eos> here
        known = [n for n, piece in enumerate(self.their_bytes) if piece and (piece != END or n == theirs.eos_id)]
        self._order = sorted(known, key=lambda number: self.their_bytes[number])  # by their bytes
        self._sorted = [self.their_bytes[number] for number in self._order]
        self._seen: dict[bytes, Counter[tuple[int, int]]] = defaultdict(Counter)  # by r: (the teacher's, ours)
        self._shares: dict[bytes, tuple[Tensor, Tensor, Tensor]] = {}  # by r

    def look_at(self, windows: Iterable[list[int]]) -> None:
        """Counts which of the student's tokens stand for which of the teacher's, in text; before it is asked."""
        for given in windows:
            window = _Window(given, self)
            for place, (after, following) in enumerate(zip(window.after.tolist(), given[1:], strict=False)):
                if 0 <= after < len(window.ids):
                    self._seen[window.since[place]][window.ids[after], following] += 1

    @torch.no_grad()
    def expect(self, ids: Tensor, documents: Tensor | None = None) -> DenseTeacher:
        """What the teacher expects after each token of `ids` [B, T]: N = B * T distributions, as log probabilities."""
        if documents is not None:
            raise RequestError("a teacher by bytes can't keep documents apart: leave data.separate_documents out")
        windows = [_Window(row, self) for row in ids.tolist()]
        length = 1 + max(len(window.ids) for window in windows)
        opening = (self.theirs.opening or [self.theirs.eos_id])[0]
        read = torch.full((len(windows), length), self.theirs.pad_id)
        for row, window in enumerate(windows):
            read[row, : len(window.ids) + 1] = torch.tensor([opening, *window.ids])
        whole = self.teacher.expect(read.to(self.device))
        if not isinstance(whole, DenseTeacher):
            raise RequestError("a teacher by bytes has to give whole distributions: not a served one, or an ensemble")
        answers = torch.cat(
            [self._answer(window, whole[row * length : (row + 1) * length]) for row, window in enumerate(windows)]
        )
        return DenseTeacher(answers.clamp(min=SMALLEST).log(), None)

    def _answer(self, window: _Window, expected: DenseTeacher) -> Tensor:
        """The distributions after each of a window's tokens, [T, V]; `expected` after each of the teacher's."""
        answers = torch.zeros(len(window.given), self.vocabulary_size, device=self.device)
        for first in range(0, int(window.after.max(initial=-1)) + 1, ROWS):
            p = expected[first : first + ROWS].logits().softmax(-1)  # [rows, V']
            here = (window.after >= first) & (window.after < first + ROWS)
            for place in np.flatnonzero(here).tolist():
                theirs, ours, shares = self._shares_after(window.since[place])
                given = p[window.after[place] - first].index_select(0, theirs).mul_(shares)
                answers[place].scatter_add_(0, ours, given)  # many times as fast as a sparse product
        total = answers.sum(-1, keepdim=True)
        unasked = torch.from_numpy(window.after < 0).to(self.device)[:, None] | (total <= SMALLEST)
        text = torch.tensor(window.given[1:] + window.given[-1:], device=self.device)  # the last one's is not known
        return torch.where(unasked, torch.nn.functional.one_hot(text, self.vocabulary_size), answers / total)

    def _going_on(self, r: bytes) -> tuple[int, int]:
        """Where in the order those tokens stand that begin with r and go on after it."""
        low = bisect_right(self._sorted, r)
        return low, bisect_left(self._sorted, r + b"\xff" * 64, lo=low) if r else len(self._sorted)

    def _shares_after(self, r: bytes) -> tuple[Tensor, Tensor, Tensor]:
        """To which of the student's tokens the teacher's that go on after r give how much of theirs.

        Of each such gift the teacher's token, the student's, and the share.
        """
        if r not in self._shares:
            low, high = self._going_on(r)
            seen: dict[int, Counter[int]] = defaultdict(Counter)
            for (theirs, ours), times in self._seen[r].items():
                seen[theirs][ours] += times
            unseen = [number for number in self._order[low:high] if number not in seen]
            cut = self._first_tokens([self.their_bytes[number][len(r) :] for number in unseen])
            entries = [(theirs, ours, 1.0) for theirs, ours in zip(unseen, cut, strict=True)]
            for theirs, counts in seen.items():
                total = counts.total()
                entries += [(theirs, ours, times / total) for ours, times in counts.items()]
            entries.sort(key=lambda entry: entry[1])  # so that what is added to one token comes in a row
            given, taken, shares = (torch.tensor(column, device=self.device) for column in zip(*entries, strict=True))
            self._shares[r] = given, taken, shares
        return self._shares[r]

    def _first_tokens(self, pieces: list[bytes]) -> list[int]:
        """The student's first token of each of these bytes; of bytes that are no text, that of the first byte."""
        texts = [_decoded(piece) for piece in pieces]
        encoded = iter(self.ours.encode_batch([text for text in texts if text is not None]))
        firsts = []
        for piece, text in zip(pieces, texts, strict=True):
            if piece == END:
                firsts.append(self.ours.eos_id)
            else:
                firsts.append(next(encoded)[0] if text is not None else self._single[piece[0]])
        return firsts


class _Window:
    """A window of the student's tokens, and how the teacher reads its text."""

    def __init__(self, given: list[int], sides: ByBytes) -> None:
        """For each of the T tokens: how many of the teacher's `ids` ended before it or with it (-1: it can't be said),
        and the bytes since.
        """
        self.given = given
        pieces = [sides.our_bytes[token] for token in given]
        text = b"".join(pieces)
        ends = np.cumsum([len(piece) for piece in pieces])
        # a window may begin within a character: these bytes are nothing to ask about
        begin = first_character(text)
        self.ids = encode_text(text[begin:], sides.theirs)
        read = [sides.their_bytes[token] for token in self.ids]
        bounds = begin + np.concatenate([[0], np.cumsum([len(piece) for piece in read], dtype=np.int64)])
        self.after: NDArray[np.int64] = np.searchsorted(bounds, ends, side="right") - 1
        # its tokenizer changed the text, as Gemma's does with U+2581; or cut it off within a character
        if not text[begin:].startswith(b"".join(read)):
            self.after[:] = -1
        self.since = [
            text[bounds[n] : end] if n >= 0 else b"" for n, end in zip(self.after, ends.tolist(), strict=True)
        ]


def _decoded(piece: bytes) -> str | None:
    """Bytes as text; None if they are none."""
    try:
        return piece.decode() or None
    except UnicodeDecodeError:
        return None
