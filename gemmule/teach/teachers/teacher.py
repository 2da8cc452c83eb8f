"""Teachers: what a larger model expects at every token.

A teacher is asked about windows of token ids, a micro-batch at a time, and answers with distributions over the
vocabulary. It runs beside its student ("live") or once beforehand (`targets/`); either way it sees exactly the windows
that its student sees.

What is asked of a teacher stands here, each with an answer for those that have nothing special to say. Wrappers hand on
what they don't change. Torch is not imported, so that a kind's file can be read before any work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from gemmule.base.errors import RequestError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions
    from gemmule.teach.teachers.shape import Sizes
    from gemmule.tokenize.tokenizer import Tokenizer
    from gemmule.tokenize.windows import Batch

Expected: TypeAlias = "DenseTeacher | Mixture | SparseDistributions"


class LiveTeacher(ABC):
    """What a student learns from while it trains."""

    device: torch.device  # where it wants its ids

    @abstractmethod
    def targets(self, batch: Batch) -> Any:
        """What the student's loss takes of a micro-batch. No gradient flows."""

    @property
    def members(self) -> Sequence[tuple[float, Teacher]]:
        """The teachers of an ensemble with their weights of sum 1; of one teacher, itself; none in other tokens."""
        return ()

    def backbones(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        """The models that it runs, each with those of its layers that are sharded over ranks.

        Without any it stays whole on each rank.
        """
        return iter(())


class Teacher(LiveTeacher):
    """A model that gives distributions over a vocabulary."""

    vocabulary_size: int  # of the ids that it reads and of its distributions
    top_k: int | None = None  # how many tokens it names at each position; None: all, in whole distributions
    window: int | None = None  # keys that its local layers see; None: it has no such layers, or they are not known

    @abstractmethod
    def expect(self, ids: Tensor, documents: Tensor | None = None) -> Expected:
        """What the teacher expects after each token of `ids` [B, T] (int64): N = B * T distributions.

        `documents` [B, T] are the numbers of the tokens' documents, where these are kept apart. No gradient flows.
        """

    def targets(self, batch: Batch) -> Expected:
        return self.expect(**batch.model_inputs(self.device))

    @property
    def members(self) -> Sequence[tuple[float, Teacher]]:
        return ((1.0, self),)

    @property
    def context(self) -> int | None:
        """The tokens that it reads at most, or was trained to read; None where nobody knows."""
        return None

    def lost_mass(self, ids: Tensor, documents: Tensor | None = None) -> Tensor | None:
        """[B * T]: its probability, after each token of `ids`, on tokens that its student lacks; None if it lacks none.

        As far as it is known.
        """
        return None

    def sizes(self, sequence_length: int) -> Sizes | None:
        """Parameters, and the FLOPs of a window's forward pass per token; None where they are not known."""
        return None

    def write(
        self, tokenizer: Tokenizer, prompt: str, *, max_new_tokens: int, temperature: float, seed: int
    ) -> str | None:
        """The text that it writes after a prompt, in its own tokenizer; None where it can't."""
        return None

    def continuations(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop: Collection[int] = (),
        seeds: Sequence[int] | None = None,
        ended: Callable[[list[int]], bool] | None = None,
    ) -> list[list[int]]:
        """The ids that it writes after each prompt, as it would after that alone.

        Greedily, the likeliest at every token; by `seeds`, one for each prompt, drawn at temperature 1. The first id in
        `stop` ends a continuation, and is not given; so does the first one with which `ended` is true of what was
        written, and it is given. No prompt is empty. Here without a cache: every token reads all before it again.
        """
        import torch

        from gemmule.generate.logits import draw, uniform_numbers
        from gemmule.recipe.generation import Sampling

        sampling = Sampling(temperature=0 if seeds is None else 1)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds or [0] * len(prompts)]
        whole = [list(prompt) for prompt in prompts]
        going = list(range(len(whole)))
        for _ in range(max_new_tokens):
            if not going:
                break
            longest = max(len(whole[row]) for row in going)
            ids = torch.tensor([whole[row] + [0] * (longest - len(whole[row])) for row in going], device=self.device)
            last = torch.tensor([place * longest + len(whole[row]) - 1 for place, row in enumerate(going)])
            logits = logits_of(self.expect(ids), last.to(self.device))
            uniform = uniform_numbers([generators[row] for row in going])
            drawn = draw(logits, sampling, uniform.to(self.device)).tolist()
            for row, number in zip(going, drawn, strict=True):
                whole[row].append(number)
            going = [
                row
                for row, number in zip(going, drawn, strict=True)
                if number not in stop and not (ended is not None and ended(whole[row][len(prompts[row]) :]))
            ]
        written = [ids[len(prompt) :] for ids, prompt in zip(whole, prompts, strict=True)]
        return [ids[:-1] if ids and ids[-1] in stop else ids for ids in written]


class Wrapper(Teacher):
    """A teacher around another one, of which it changes what is asked or answered."""

    def __init__(self, teacher: Teacher, vocabulary_size: int) -> None:
        self.teacher, self.vocabulary_size = teacher, vocabulary_size
        self.device, self.top_k, self.window = teacher.device, teacher.top_k, teacher.window

    def backbones(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        return self.teacher.backbones()

    @property
    def context(self) -> int | None:
        return self.teacher.context

    def sizes(self, sequence_length: int) -> Sizes | None:
        return self.teacher.sizes(sequence_length)

    def write(
        self, tokenizer: Tokenizer, prompt: str, *, max_new_tokens: int, temperature: float, seed: int
    ) -> str | None:
        return self.teacher.write(tokenizer, prompt, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)


class Ensemble(Teacher):
    """Several teachers of one vocabulary: the mixture of their probabilities, by weights of sum 1."""

    def __init__(self, members: Sequence[tuple[float, Teacher]]) -> None:
        self._members = members
        self.vocabulary_size = members[0][1].vocabulary_size
        self.device = members[0][1].device

    @property
    def members(self) -> Sequence[tuple[float, Teacher]]:
        return self._members

    def expect(self, ids: Tensor, documents: Tensor | None = None) -> Mixture:
        from gemmule.losses.targets import DenseTeacher, Mixture

        parts = []
        for weight, teacher in self.members:
            expected = teacher.expect(ids, documents)
            if not isinstance(expected, DenseTeacher):
                raise RequestError(
                    "an ensemble needs the whole distributions of its members; a served one has its top k"
                )
            parts.append((weight, expected))
        return Mixture(tuple(parts))

    def backbones(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        for _, member in self.members:
            yield from member.backbones()


def rows_of(expected: Expected, rows: Tensor) -> DenseTeacher | Mixture:
    """Some rows [n] of N distributions. Raises RequestError if only a top k is there."""
    from gemmule.losses.targets import SparseDistributions

    if isinstance(expected, SparseDistributions):
        raise RequestError("this model provides its top k only, not whole distributions")
    return expected[rows]


def logits_of(expected: Expected, rows: Tensor) -> Tensor:
    """The logits of some rows [n] of N distributions: [n, V] float32. Raises what `rows_of` does."""
    return rows_of(expected, rows).logits()


def probabilities(expected: Expected, temperature: float = 1.0) -> Tensor:
    """Whole distributions [N, V] (float32). The temperature divides the logits (arXiv 1503.02531)."""
    import torch

    from gemmule.losses.targets import SparseDistributions

    if isinstance(expected, SparseDistributions):
        raise RequestError("this teacher provides its top k only, not whole distributions")
    return torch.softmax(expected.logits() / temperature, dim=-1)
