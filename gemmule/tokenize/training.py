"""Trains a tokenizer: byte-level BPE with Gemma's control tokens at fixed ids.

- Text is first cut by the pattern that llama.cpp calls `qwen2`, so that the same ids come out of tokenizers,
  transformers and llama.cpp. Every digit is a token by itself.
- The alphabet is all 256 bytes: there is no unknown text, and every Unicode string comes back exactly.
- `<pad> <eos> <bos> <unk>` are 0 to 3, `<start_of_turn> <end_of_turn>` 106 and 107, as in Gemma.
- Merges are learned within the pattern's pieces only, and no piece holds a whole `<bos>`: so BPE can never learn a
  control token as a word, and a control token written in text stays text.

Byte-pair encoding: Sennrich et al. 2016 (arXiv 1508.07909); on bytes: Radford et al. 2019 (GPT-2).
"""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count, islice
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers

from gemmule.base.errors import RequestError
from gemmule.base.signals import INTERRUPTED
from gemmule.base.vocabulary import CONTROL_TOKENS, SMALLEST_VOCABULARY
from gemmule.tokenize.parts import line_ends, word_ends
from gemmule.tokenize.tokenizer import Tokenizer

# llama.cpp's `qwen2`: contractions; letters with what leads them; one digit; signs; line ends; other white space.
SPLIT_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

PART = 2**14  # characters that the library is handed at a time
RUN, WORD = (
    60,
    256,
)  # characters: of a stretch that is no word (or a line of DNA), and of the pieces that it is cut into
RUNS_LEARNED = 2**21  # characters
LONG_RUN = re.compile(
    rf"(?<![^\W\d_])[^\W\d_]{{{RUN},}}|(?<!_|[^\w\s])(?:_|[^\w\s]){{{RUN},}}|(?<!\s)\s{{{RUN},}}"
)  # of letters, of signs, of white space
HEARING, PATIENCE = 0.1, 1.0  # seconds between looks for a signal, and for reading to end after one


class VocabularyTooLarge(RequestError):
    """A text has too few different words for so many tokens; `largest` is how many it can have."""

    def __init__(self, wanted: int, largest: int) -> None:
        self.largest = largest
        super().__init__(
            f"vocabulary_size {wanted} is larger than this text supports; "
            f"the maximum is {largest}: give more text or a smaller vocabulary"
        )


def train(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Learns a vocabulary of exactly `vocabulary_size` tokens, control tokens included, from `texts`.

    The texts are read once and not kept. The result depends on how often each piece occurs in them, not on their order;
    but of stretches of RUN and more characters without a boundary (DNA, a long line of signs), in pieces of WORD, as
    many different ones count as RUNS_LEARNED characters hold: all of them are in memory.

    Raises RequestError if `vocabulary_size` is under 262 (256 bytes and 6 control tokens), VocabularyTooLarge if it is
    larger than the text supports.
    """
    if vocabulary_size < SMALLEST_VOCABULARY:
        raise RequestError(
            f"vocabulary_size {vocabulary_size} is too small: every byte and control token needs an id; "
            f"the minimum is {SMALLEST_VOCABULARY}"
        )
    learner = _pipeline(models.BPE())
    # The trainer would put control tokens at 0 to 5: it learns without them, and _renumber makes room afterwards.
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - len(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    _learn(learner, trainer, texts)
    largest = learner.get_vocab_size() + len(CONTROL_TOKENS)
    if largest < vocabulary_size:
        raise VocabularyTooLarge(vocabulary_size, largest)
    learned = json.loads(learner.to_str())["model"]
    vocabulary = _renumber(learned["vocab"])
    merges = [(left, right) for left, right in learned["merges"]]
    return Tokenizer(assemble(vocabulary, merges))


def _learn(learner: tokenizers.Tokenizer, trainer: trainers.BpeTrainer, texts: Iterable[str]) -> None:
    """Has `learner` learn in a thread: the library's one long call would be deaf to Ctrl-C and all other signals."""
    stop, done = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def feed() -> Iterator[str]:
        for text in _bounded(texts):
            if stop.is_set():
                raise InterruptedError
            yield text

    def learn() -> None:
        try:
            learner.train_from_iterator(feed(), trainer)
        except BaseException as error:  # told by the thread that waits
            raised.append(error)
        finally:
            done.set()

    threading.Thread(target=learn, name="tokenizer", daemon=True).start()
    try:
        while not done.wait(HEARING):
            pass
    except BaseException as error:
        stop.set()  # reading ends at the next text; merging can't be stopped, and ends with the process
        if not done.wait(PATIENCE):
            atexit.register(_leave, done, error.code if isinstance(error, SystemExit) else INTERRUPTED)
        raise
    if raised:
        raise raised.pop()


def _leave(done: threading.Event, status: Any) -> None:
    """Ends a process whose tokenizer still learns: if it came back while Python ends, that would abort."""
    if not done.is_set():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status if isinstance(status, int) else 1)


def _bounded(texts: Iterable[str]) -> Iterator[str]:
    """The texts in parts that end where pieces end, and long stretches in pieces, as far as they count."""
    seen: set[int] = set()  # hashes of the pieces of stretches: so many different ones are in memory while it learns
    for text in texts:
        for part in _parts(text):
            words = part.split()
            if len(part) < RUN or (max(map(len, words), default=0) < RUN and 2 * sum(map(len, words)) > len(part)):
                yield part
                continue
            end = 0
            for match in LONG_RUN.finditer(part):
                yield part[end : match.start()]
                end = match.end()
                for start in range(match.start(), end, WORD):
                    piece = part[start : min(end, start + WORD)]
                    if len(seen) < RUNS_LEARNED // WORD:
                        seen.add(hash(piece))
                    if hash(piece) in seen:
                        yield piece
            yield part[end:]


def _parts(text: str) -> Iterator[str]:
    """Parts of a text that end where SPLIT_PATTERN's pieces do: after a line, or before a space, that stands alone."""
    start = 0
    while len(text) - start > PART:
        low, high = start + PART // 2, start + PART
        end = next(line_ends(text, low, high), 0) or next(word_ends(text, low, high), high)
        yield text[start:end]
        start = end
    yield text[start:]


def _renumber(learned: dict[str, int]) -> dict[str, int]:
    """Gives the control tokens their ids and the learned ones the ids that are left, in the order learned."""
    taken = set(CONTROL_TOKENS.values())
    free = (number for number in count() if number not in taken)
    tokens = sorted(learned, key=learned.__getitem__)
    return {**CONTROL_TOKENS, **dict(zip(tokens, islice(free, len(tokens)), strict=True))}


def assemble(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """The finished pipeline around a vocabulary: `<bos>` goes in front where special tokens are asked for."""
    inner = _pipeline(models.BPE(vocab=vocabulary, merges=merges))
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROL_TOKENS])
    bos = ("<bos>", CONTROL_TOKENS["<bos>"])
    inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[bos])
    return inner


def _pipeline(model: models.BPE) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    return inner
