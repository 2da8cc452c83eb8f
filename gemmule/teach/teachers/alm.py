"""A teacher with another tokenizer, asked for its loss of each chunk of text between ends that both share.

What a student learns from these is `gemmule/losses/alm.py`.

The student's own windows are read by both: the teacher's tokenizer cuts the text of a window anew, after its `<bos>`.
What the teacher says of a window is one number a chunk, so it is kept: later epochs don't ask again.
B windows of T tokens, N = B * T, C chunks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemmule.base.errors import RequestError
from gemmule.losses.alm import Chunks
from gemmule.losses.head import next_token_losses
from gemmule.losses.targets import DenseTeacher
from gemmule.teach.teachers.teacher import LiveTeacher, Teacher
from gemmule.tokenize.tokenizer import Tokenizer, byte_level_bytes
from gemmule.tokenize.windows import Batch

END = b"\xff"  # stands for <eos>: no text holds this byte


class ByteAligned(LiveTeacher):
    """A teacher with its own tokenizer, asked about windows in the student's tokens.

    It stays whole on each rank: which windows it is still to be asked about differs from rank to rank.
    """

    def __init__(self, teacher: Teacher, theirs: Tokenizer, ours: Tokenizer) -> None:
        """Raises RequestError for a tokenizer whose tokens are not pieces of the text."""
        self.teacher, self.tokenizer, self.device = teacher, theirs, teacher.device
        self.their_bytes, self.our_bytes = token_bytes(theirs), token_bytes(ours)

        self._known: dict[tuple[int, int], tuple[NDArray[np.int32], Tensor]] = {}  # by start, and tokens learned

    def targets(self, batch: Batch) -> Chunks:
        """The chunks of a batch of the student's windows."""
        windows = list(zip(batch.starts.tolist(), batch.mask.sum(axis=1).tolist(), strict=True))
        unknown = [row for row, window in enumerate(windows) if window not in self._known]
        if unknown:
            asked = self._ask([batch.targets[row][batch.mask[row]] for row in unknown])
            self._known |= {windows[row]: answer for row, answer in zip(unknown, asked, strict=True)}
        losses = torch.cat([self._known[window][1] for window in windows])
        of_token = np.full(batch.targets.shape, len(losses))
        first = 0
        for row, window in enumerate(windows):
            numbers, own = self._known[window]
            of_token[row, batch.mask[row]] = np.where(numbers < 0, len(losses), numbers + first)
            first += len(own)
        return Chunks(
            torch.from_numpy(batch.targets).to(self.device),
            torch.from_numpy(of_token).flatten().to(self.device),
            losses.to(self.device),
        )

    @torch.no_grad()
    def _ask(self, windows: list[NDArray[np.int64]]) -> list[tuple[NDArray[np.int32], Tensor]]:
        """For each window of the student's tokens the chunk of each, or -1, and the teacher's losses of the chunks."""
        aligned = [self._align(tokens) for tokens in windows]
        opening = (self.tokenizer.opening or [self.tokenizer.eos_id])[0]  # or the first token would have no loss
        length = max(len(ids) for ids, _, _ in aligned)
        inputs = np.full((len(windows), length), self.tokenizer.pad_id)
        targets = inputs.copy()
        for row, (ids, _, _) in enumerate(aligned):
            inputs[row, : len(ids)] = [opening, *ids[:-1]]
            targets[row, : len(ids)] = ids
        expected = self.teacher.expect(torch.from_numpy(inputs).to(self.device))
        if not isinstance(expected, DenseTeacher):
            raise RequestError("alm needs one teacher with whole distributions")
        following = torch.from_numpy(targets).to(self.device).flatten()
        losses = next_token_losses(expected, following).view(targets.shape).cpu()
        answers = []
        for row, (ids, theirs, ours) in enumerate(aligned):
            inside = torch.from_numpy(theirs >= 0)
            sums = torch.zeros(int(theirs.max(initial=-1)) + 1)
            sums.index_add_(0, torch.from_numpy(theirs)[inside], losses[row, : len(ids)][inside])
            answers.append((ours.astype(np.int32), sums))
        return answers

    def _align(self, tokens: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64], NDArray[np.int64]]:
        """The teacher's ids of a window's text, and the chunk of each of them and of the student's tokens, or -1.

        A window may begin or end within a character. These bytes are in no chunk.
        """
        pieces = [self.our_bytes[token] for token in tokens.tolist()]
        whole = b"".join(pieces)
        start = first_character(whole)
        ids = encode_text(whole[start:], self.tokenizer) or [self.tokenizer.eos_id]
        theirs = start + np.cumsum([len(self.their_bytes[token]) for token in ids])
        ours = np.cumsum([len(piece) for piece in pieces])
        read = b"".join(self.their_bytes[token] for token in ids)
        if not whole[start:].startswith(read):  # its tokenizer changed the text, as Gemma's does with U+2581
            return ids, np.full(len(ids), -1), np.full(len(ours), -1)
        ends = np.intersect1d(theirs, ours)
        return ids, _chunk_of(theirs, start, ends), _chunk_of(ours, start, ends)


def _chunk_of(token_ends: NDArray[np.int64], start: int, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the chunk that each token lies in, -1 after the last end; the first chunk begins at `start`."""
    numbers = np.searchsorted(ends, token_ends, side="left")
    begins = np.concatenate([[0], token_ends[:-1]])
    return np.where((numbers < len(ends)) & (begins >= start), numbers, -1)


def first_character(text: bytes) -> int:
    """Where the first character begins in text that may have been cut within one; `END` counts as a character."""
    return next((place for place, byte in enumerate(text) if byte & 0xC0 != 0x80 or byte == END[0]), len(text))


def encode_text(text: bytes, tokenizer: Tokenizer) -> list[int]:
    """The ids of text with `END` for each `<eos>`; what is left of a character at the end is left out."""
    ids: list[int] = []
    for encoded in tokenizer.encode_batch([part.decode(errors="ignore") for part in text.split(END)]):
        ids += [*encoded, tokenizer.eos_id]
    return ids[:-1]


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of text that each token stands for; `END` for `<eos>`, none for other control tokens."""
    inner = tokenizer.inner
    pieces = [b""] * tokenizer.vocabulary_size
    added = inner.get_added_tokens_decoder()
    model = str(inner.pre_tokenizer)
    byte_level = "ByteLevel" in model
    if not byte_level and inner.token_to_id("<0x00>") is None:
        raise RequestError(f"{tokenizer.folder or 'this tokenizer'}: its tokens can't be aligned with others by bytes")
    for name, number in inner.get_vocab(with_added_tokens=True).items():
        if number in added:
            pieces[number] = b"" if added[number].special else name.encode()
        elif byte_level:
            pieces[number] = byte_level_bytes(name)
        elif len(name) == 6 and name.startswith("<0x"):
            pieces[number] = bytes.fromhex(name[3:5])
        else:
            pieces[number] = name.replace("▁", " ").encode()
    pieces[tokenizer.eos_id] = END
    return pieces
