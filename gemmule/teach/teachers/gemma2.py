"""Models that are Gemma 2's, which gemmule's own model runs: those trained here, and folders from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemmule.model.config import Gemma2Config
from gemmule.teach.teachers.folders import InFolder, read_config
from gemmule.teach.teachers.kinds import Record, Source
from gemmule.teach.teachers.shape import Shape, Sizes, of_config
from gemmule.teach.teachers.teacher import Teacher

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from gemmule.losses.targets import DenseTeacher
    from gemmule.model.transformer import Gemma2
    from gemmule.recipe import Model
    from gemmule.tokenize.tokenizer import Tokenizer


class Gemma2Teacher(Teacher):
    """A model of gemmule's own: hidden states and head, so that no logits need exist."""

    def __init__(self, model: Gemma2) -> None:
        self.model = model
        self.vocabulary_size = model.config.vocabulary_size
        self.window = None if model.config.attention == "global" else model.config.window
        self.device = model.model.embed_tokens.weight.device

    def expect(self, ids: Tensor, documents: Tensor | None = None) -> DenseTeacher:
        import torch

        from gemmule.losses.targets import DenseTeacher

        with torch.no_grad():
            hidden = self.model.model(ids, documents=documents).flatten(0, 1)  # [N, D]
            return DenseTeacher(hidden, self.model.model.embed_tokens.weight.detach(), self.model.config.final_cap)

    def backbones(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        yield self.model.model, list(self.model.model.layers)

    @property
    def context(self) -> int:
        return self.model.config.context_length

    def sizes(self, sequence_length: int) -> Sizes:
        config = self.model.config
        return Sizes(config.parameters, config.embedding_parameters, config.flops_per_token(sequence_length))

    def write(self, tokenizer: Tokenizer, prompt: str, *, max_new_tokens: int, temperature: float, seed: int) -> str:
        from gemmule.generate.sampling import generate

        return generate(
            self.model, tokenizer, prompt, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )

    def continuations(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop: Collection[int] = (),
        seeds: Sequence[int] | None = None,
        ended: Callable[[list[int]], bool] | None = None,
    ) -> list[list[int]]:
        from gemmule.generate.sampling import generate_batch
        from gemmule.recipe.generation import Sampling

        written: list[list[int]] = [[] for _ in prompts]
        over: set[int] = set()
        sampling = Sampling(temperature=0 if seeds is None else 1)
        steps = generate_batch(
            self.model, prompts, max_new_tokens=max_new_tokens, stop=stop, sampling=sampling, seeds=seeds
        )
        for step in steps:
            for row, (ids, number) in enumerate(zip(written, step, strict=True)):
                if row not in over and number is not None:
                    ids.append(number)
                if row not in over and (number is None or (ended is not None and ended(ids))):
                    over.add(row)
            if len(over) == len(prompts):
                break
        return written


def load(folder: Path, device: torch.device) -> Gemma2Teacher:
    """The teacher in a Gemma 2 folder."""
    from gemmule.model import weights

    return Gemma2Teacher(weights.load(folder).to(device))


class Gemma2Folder(InFolder):
    name = "gemma2"

    def recognises(self, source: Source) -> bool:
        return isinstance(source, Path) and source.is_dir() and read_config(source)["model_type"] == "gemma2"

    def check(self, source: Source, sequence_length: int, sample_tokens: int = 0) -> None:
        Gemma2Config.from_huggingface(read_config(Path(source)))
        super().check(source, sequence_length)  # its own model writes on past what it was trained for

    def shape(self, source: Source, length: int, vocabulary_size: int | None = None) -> Shape:
        return of_config(Gemma2Config.from_huggingface(read_config(Path(source))), length, vocabulary_size)

    def load(
        self, source: Source, device: torch.device, *, record: Record, key: str, section: Model, tokenizer: Path
    ) -> Gemma2Teacher:
        return load(Path(source), device)


KIND = Gemma2Folder()
