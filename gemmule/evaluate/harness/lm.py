"""A model as EleutherAI's lm-evaluation-harness asks it: how likely texts are, and what it writes after them.

- A text begins with exactly one `<bos>`, in every window of it: of a long document not the first one alone (lm-eval's
  `hf` has it twice in the first window and not in the others: its issues 2382 and 3333), of a text that is cut because
  it is too long too, and whatever the text itself begins with, for a written "<bos>" is text here.
- Likelihoods are those of gemmule's own tasks (`tasks/likelihood.py`).

All else is as `hf` does it, and gives its numbers. A module of its own, for it can't be imported without lm-eval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows

from gemmule.base.errors import RequestError
from gemmule.base.progress import Meter, say_once
from gemmule.evaluate.amounts import LARGEST_READ, tokens_at_once
from gemmule.evaluate.looking import Looking
from gemmule.evaluate.tasks.likelihood import Window, batches, scores
from gemmule.losses.targets import Mixture, SparseDistributions
from gemmule.teach.teachers.teacher import Expected, Teacher
from gemmule.tokenize.tokenizer import Tokenizer

WRITTEN, WRITTEN_ELSEWHERE = 2**13, 2**16  # tokens of a batch that is written, prompts included; on a CPU, elsewhere
NEW_TOKENS = 256  # of an answer whose task doesn't say: lm-eval's default
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # as tasks call it; the first counts
OF_SAMPLING = {"top_k", "top_p", "min_p", "typical_p", "early_stopping"}  # that nothing hangs on while writing greedily
NEUTRAL = {"num_beams": 1, "repetition_penalty": 1, "length_penalty": 1, "no_repeat_ngram_size": 0}


@dataclass(frozen=True)
class Writing:
    """How a task wants to be answered: before which texts an answer ends, and after how many tokens."""

    until: tuple[str, ...]
    max_new_tokens: int


class TeacherLM(LM):
    """Any model that gives whole distributions, by the ids of its tokenizer; it reads `context` tokens at most."""

    def __init__(self, model: Teacher, tokenizer: Tokenizer, context: int) -> None:
        super().__init__()
        if context < 2:
            raise RequestError(f"a context of {context} tokens is too short for any task")
        self._model, self._tokenizer, self._context = model, tokenizer, context
        self._looking = Looking(model.vocabulary_size, model.device)
        cheap = _makes_no_logits(model.expect(torch.tensor([[tokenizer.eos_id]], device=model.device)))
        self._read = LARGEST_READ if cheap else tokens_at_once(model.vocabulary_size)  # tokens of a batch
        written = WRITTEN if model.device.type == "cpu" else WRITTEN_ELSEWHERE
        self._written = written if cheap else self._read

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of (context, continuation) pairs the continuation's log-probability, and whether it is the likeliest text."""
        pairs = [_spaces_moved(*request.args) for request in requests]
        texts = sorted({text for context, continuation in pairs for text in (context, context + continuation)})
        ids = dict(zip(texts, self._tokenizer.encode_batch(texts), strict=True))
        return self._score([self._window(ids[a], ids[a + b]) for a, b in pairs])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of whole documents: each token once, after as much of its document as there is room for.

        The windows are lm-eval's, with `<bos>` in the place of their first token.
        """
        opening, windows, owners = self._tokenizer.opening, [], []
        documents = self._tokenizer.encode_batch([request.args[0] for request in requests])
        for number, document in enumerate(documents):
            prefix = self._prefix[0]
            for ids, targets in get_rolling_token_windows(document, prefix, self._context, context_len=1):
                windows.append(Window(opening + ids[len(opening) :], targets))
                owners.append(number)
        sums = [0.0] * len(requests)
        for number, (log_probability, _) in zip(owners, self._score(windows), strict=True):
            sums[number] += log_probability
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context, greedily, up to the first of the texts that its task names."""
        wanted = [self._fitting(writing(request.args[1])) for request in requests]
        encoded = self._tokenizer.encode_batch([request.args[0] for request in requests])
        prompts = [
            self._cut(self._tokenizer.opening + ids or self._prefix, self._context - how.max_new_tokens)
            for ids, how in zip(encoded, wanted, strict=True)
        ]
        answers = [""] * len(requests)
        with Meter("tasks: answers", max(1, len(requests)), unit="answers") as meter:
            done = 0
            for how in dict.fromkeys(wanted):
                numbers = [number for number, one in enumerate(wanted) if one == how]
                lengths = {number: len(prompts[number]) + how.max_new_tokens for number in numbers}
                for batch in batches(lengths, self._written):
                    given = [prompts[number] for number in batch]
                    for number, answer in zip(batch, self._answers(given, how), strict=True):
                        answers[number] = answer
                    meter.update(done := done + len(batch))
        return answers

    @property
    def _prefix(self) -> list[int]:
        """What a text without anything before it is read after, as lm-eval has it: `<bos>`, else `<eos>`."""
        return self._tokenizer.opening or [self._tokenizer.eos_id]

    def _window(self, context: list[int], whole: list[int]) -> Window:
        """Of the ids of a context, and of that with its continuation."""
        if context == whole:  # nothing follows
            return Window([], [])
        if len(context) >= len(whole):  # the continuation is a part of the context's last token
            context = whole[:-1]
        targets = whole[len(context) :]
        if len(targets) > self._context:
            raise RequestError(
                f"a task has a continuation of {len(targets)} tokens, and this model reads {self._context}"
            )
        front = self._tokenizer.opening if context else self._prefix
        return Window(self._cut(front + context + targets[:-1], self._context), targets)

    def _cut(self, ids: list[int], room: int) -> list[int]:
        """The last `room` of them, of which the first stays `<bos>`."""
        if len(ids) <= room:
            return ids
        opening = self._tokenizer.opening
        return opening + ids[len(ids) - room + len(opening) :]

    def _fitting(self, how: Writing) -> Writing:
        """With fewer new tokens where they would leave no room for a prompt."""
        if how.max_new_tokens < self._context:
            return how
        room = self._context // 2
        say_once(
            f"tasks: up to {how.max_new_tokens} new tokens are asked for, and this model reads {self._context}: it "
            f"writes up to {room}, after the last {self._context - room} tokens of a prompt"
        )
        return Writing(how.until, room)

    def _answers(self, prompts: list[list[int]], how: Writing) -> list[str]:
        decode = self._tokenizer.decode
        tail = max((len(text.encode()) for text in how.until), default=0) + 8  # tokens: each is a byte of text or more

        def ended(ids: Sequence[int]) -> bool:
            text = decode(ids[-tail:])
            return any(stop in text for stop in how.until)

        stop = {self._tokenizer.eos_id}
        written = self._model.continuations(prompts, how.max_new_tokens, stop, ended=ended if how.until else None)
        return [_before(decode(ids), how.until) for ids in written]

    def _score(self, windows: Sequence[Window]) -> list[tuple[float, bool]]:
        return scores(self._model, self._looking, windows, self._read, "tasks: likelihoods")


def writing(settings: Mapping[str, Any]) -> Writing:
    """By a task's `generation_kwargs`. Raises RequestError for what is not greedy."""
    for key, value in settings.items():
        greedy = (
            key in {"until", *LIMITS, *OF_SAMPLING}
            or (key == "do_sample" and not value)
            or (key == "temperature" and (not value or settings.get("do_sample") is False))
            or (key in NEUTRAL and value == NEUTRAL[key])
        )
        if not greedy:
            raise RequestError(f"generation_kwargs: {key} = {value}: tasks are answered greedily here")
    until = settings.get("until") or []
    limits = [settings[key] for key in LIMITS if settings.get(key) is not None]
    return Writing(
        tuple(filter(None, [until] if isinstance(until, str) else until)), int(limits[0]) if limits else NEW_TOKENS
    )


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """Spaces at the end of a context begin the continuation, whose first token they most likely are a part of."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def _before(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _makes_no_logits(expected: Expected) -> bool:
    """Whether a model gives hidden states and a head, which need little memory. Raises RequestError for a top k."""
    if isinstance(expected, SparseDistributions):
        raise RequestError("a model that provides only its top k can't be evaluated on tasks")
    parts = [member for _, member in expected.members] if isinstance(expected, Mixture) else [expected]
    return all(part.weight is not None for part in parts)
