"""Teachers of any architecture that transformers knows, from a folder, the hub or a GGUF file.

- Code from a checkpoint is never run, and weights are safetensors or GGUF, never pickle.
- Hidden states and head wherever these make the model's own logits, which is tried out once, on a few tokens; so the
  teacher's [tokens, vocabulary] exists only a chunk at a time, in the student's fused head. A model whose head is no
  such product gives its logits as they are, a micro-batch at a time.
- Documents are kept apart by positions that begin anew with each of them: transformers takes such a batch for a packed
  one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemmule.base import host
from gemmule.base.errors import RequestError, WorkError, first_line
from gemmule.teach.teachers.folders import InFolder, longest_window, text_config
from gemmule.teach.teachers.kinds import Needs, Record, Source
from gemmule.teach.teachers.shape import Shape, Sizes, of_tensors, safetensors_shapes
from gemmule.teach.teachers.teacher import Teacher, logits_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from gemmule.losses.targets import DenseTeacher
    from gemmule.recipe import Model
    from gemmule.tokenize.tokenizer import Tokenizer

TRIED = 8  # tokens on which the head is tried out


def sliding_window(config: Any) -> int | None:
    """The keys that the local layers of a model see, by its configuration; None if it has no such layers."""
    types = getattr(config, "layer_types", None)
    local = types is None or "sliding_attention" in types
    window: int | None = getattr(config, "sliding_window", None) if local else None
    return window


class HuggingFaceTeacher(Teacher):
    """Any causal language model of transformers."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        self.device: torch.device = model.device
        head = model.get_output_embeddings()
        self.vocabulary_size: int = len(head.weight) if head is not None else model.config.get_text_config().vocab_size
        self.window = sliding_window(model.config.get_text_config())
        self.has_plain_head = head is not None and self._plain_head_is_exact()

    def expect(self, ids: Tensor, documents: Tensor | None = None) -> DenseTeacher:
        import torch

        from gemmule.losses.targets import DenseTeacher

        read: dict[str, Any] = {"input_ids": ids, "use_cache": False}
        if documents is not None:
            read["position_ids"] = positions_in(documents)
        with torch.no_grad():
            if not self.has_plain_head:
                return DenseTeacher(self.model(**read).logits, None).flatten()
            return self._plain_head(self.model.base_model(**read).last_hidden_state).flatten()

    def _plain_head(self, hidden: Tensor) -> DenseTeacher:
        """cap(scale · hidden · weight + bias), the scale multiplied into the hidden states."""
        from gemmule.losses.targets import DenseTeacher

        head, config = self.model.get_output_embeddings(), self.model.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        bias = getattr(head, "bias", None)
        return DenseTeacher(
            hidden if scale == 1 else hidden * scale,
            head.weight.detach(),
            getattr(config, "final_logit_softcapping", None),
            None if bias is None else bias.detach(),
        )

    def _plain_head_is_exact(self) -> bool:
        import torch

        ids = torch.arange(TRIED, device=self.device)[None] % self.vocabulary_size
        with torch.no_grad():
            own = self.model(input_ids=ids, use_cache=False).logits.float()
            try:
                hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
                ours = self._plain_head(hidden).logits()
            except (AttributeError, RuntimeError):  # a backbone of another kind
                return False
        return self._are_close(ours, own)

    def _are_close(self, ours: Tensor, own: Tensor) -> bool:
        """Whether logits are the same but for rounding."""
        import torch

        tolerance = 1e-4 if self.model.dtype == torch.float32 else 2e-2
        return ours.shape == own.shape and bool((ours - own).abs().max() <= tolerance * own.abs().max())

    def backbones(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        kinds = set(self.model._no_split_modules or ())  # transformers' names of its layers
        backbone = self.model.base_model
        yield backbone, [module for module in backbone.modules() if type(module).__name__ in kinds]

    @property
    def context(self) -> int | None:
        config = self.model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return longest if isinstance(longest, int) else None

    def sizes(self, sequence_length: int) -> Sizes:
        """The FLOPs are 2 for each weight of a matrix and 2 · layers · width · T for attention over T / 2 tokens in the
        mean (Kaplan et al. 2020, arXiv 2001.08361, table 1).
        """
        config = self.model.config.get_text_config()
        parameters = sum(weight.numel() for weight in self.model.parameters())
        table = self.model.get_input_embeddings().weight
        head = self.model.get_output_embeddings().weight
        tied = head.data_ptr() == table.data_ptr()
        matrices = sum(weight.numel() for weight in self.model.parameters() if weight.dim() > 1)
        multiplied = matrices - (0 if tied else table.numel())
        attention = 2 * config.num_hidden_layers * config.hidden_size * sequence_length
        embedding_parameters = table.numel() + (0 if tied else head.numel())
        return Sizes(parameters, embedding_parameters, 2.0 * multiplied + attention)

    def write(self, tokenizer: Tokenizer, prompt: str, *, max_new_tokens: int, temperature: float, seed: int) -> str:
        from gemmule.generate.text import continuation

        ids = [*tokenizer.opening, *tokenizer.encode(prompt)] or [tokenizer.eos_id]
        return continuation(tokenizer, ids, self.write_ids(ids, max_new_tokens, temperature, seed))

    def write_ids(self, ids: list[int], max_new_tokens: int, temperature: float, seed: int) -> list[int]:
        """The ids that the model writes after `ids`, by transformers' own sampling.

        Of ids that leave no room within the longest text that the model reads, the last ones.
        """
        import torch

        ids = self._with_room(ids, max_new_tokens)
        torch.manual_seed(seed)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            if temperature > 0
            else {"do_sample": False}
        )
        given = torch.tensor([ids], device=self.device)
        with torch.no_grad():
            whole = self.model.generate(given, max_new_tokens=max_new_tokens, **sampling)
        written: list[int] = whole[0, len(ids) :].tolist()
        return written

    def _with_room(self, ids: list[int], max_new_tokens: int) -> list[int]:
        longest = self.context
        if longest is not None and len(ids) + max_new_tokens > longest:
            return ids[max_new_tokens - longest :]
        return ids

    def continuations(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop: Collection[int] = (),
        seeds: Sequence[int] | None = None,
        ended: Callable[[list[int]], bool] | None = None,
    ) -> list[list[int]]:
        """By transformers' own cache, but not by what the checkpoint's generation_config.json would change.

        Of a prompt that leaves no room within the longest text that the model reads, the last ids. Without a cache
        where padding would change what is written.
        """
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        over: dict[int, int] = {}  # of a row that has ended, how many ids it has written

        def are_over(ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
            for row, written in enumerate(ids[:, longest:].tolist()):
                if ended is not None and row not in over and ended(written):
                    over[row] = len(written)
            return torch.tensor([row in over for row in range(len(ids))], device=ids.device)

        if not prompts:
            return []
        read = [self._with_room(list(prompt), max_new_tokens) for prompt in prompts]
        if not self._pads_exactly:
            return super().continuations(read, max_new_tokens, stop, seeds, ended)
        ids, mask = _left_padded(read, self.device)
        longest = ids.shape[1]
        own, self.model.generation_config = (
            self.model.generation_config,
            GenerationConfig(eos_token_id=sorted(stop) or None, pad_token_id=0),
        )
        try:
            with torch.no_grad():
                whole = self.model.generate(
                    ids,
                    attention_mask=mask,
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    logits_processor=[] if seeds is None else [_drawing(seeds)],
                    stopping_criteria=StoppingCriteriaList([] if ended is None else [are_over]),
                )
        finally:
            self.model.generation_config = own
        rows = [written[: over.get(row)] for row, written in enumerate(whole[:, longest:].tolist())]
        return [list(takewhile(lambda number: number not in stop, row)) for row in rows]

    @cached_property
    def _pads_exactly(self) -> bool:
        """Whether padding at the left changes nothing: it does in models whose state takes it in (RWKV)."""
        import torch

        rows = [[place % self.vocabulary_size for place in range(1, 1 + length)] for length in (TRIED, 2)]
        ids, mask = _left_padded(rows, self.device)
        with torch.no_grad():
            steps = self.model.generate(
                ids, attention_mask=mask, max_new_tokens=1, do_sample=False, output_logits=True,
                return_dict_in_generate=True,
            )  # fmt: skip
        alone = [logits_of(self.expect(torch.tensor([row], device=self.device)), torch.tensor([-1])) for row in rows]
        return self._are_close(torch.cat(alone), steps.logits[0].float())


def _left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids [B, T], and a mask [B, T] that is 0 where they are padding."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _drawing(seeds: Sequence[int]) -> Callable[[Tensor, Tensor], Tensor]:
    """What makes transformers' greedy choice a draw at temperature 1, each row's by its own seed."""
    import torch

    from gemmule.generate.logits import draw, uniform_numbers
    from gemmule.recipe.generation import Sampling

    generators, sampling = [torch.Generator().manual_seed(seed) for seed in seeds], Sampling()

    def chosen(ids: Tensor, logits: Tensor) -> Tensor:
        drawn = draw(logits.float(), sampling, uniform_numbers(generators).to(logits.device))
        return torch.full_like(logits, -torch.inf).scatter(1, drawn[:, None], 0)

    return chosen


def positions_in(documents: Tensor) -> Tensor:
    """Of each token in its document, from 0: [B, T]."""
    import torch

    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(begins, places, 0).cummax(dim=1).values


def load(source: Path, device: torch.device) -> HuggingFaceTeacher:
    """The model in a folder or a GGUF file; float32 on a CPU, elsewhere in the type that it is stored in.

    Raises RequestError where transformers can't read it without code from the checkpoint or a weight is no number,
    WorkError where the weights are incomplete.
    """
    import torch

    from gemmule.model.weights import check_finite

    transformers = _transformers()
    where = {"gguf_file": source.name} if source.is_file() else {"use_safetensors": True}
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            str(source.parent if source.is_file() else source),
            dtype=torch.float32 if device.type == "cpu" or source.is_file() else "auto",
            trust_remote_code=False,
            output_loading_info=True,
            **where,
        )
    except ImportError as error:
        raise RequestError(f"{source}: {first_line(error)}; pip install 'gemmule[gguf]'") from error
    except Exception as error:  # transformers raises what it comes across
        raise RequestError(
            f"{source}: transformers can't read it as a causal language model: {first_line(error)}"
        ) from (error)
    lacking = sorted(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
    if lacking:
        raise WorkError(f"{source}: its weights lack {lacking[0]}{' and others' if len(lacking) > 1 else ''}")
    for name, weight in model.named_parameters():
        check_finite(source, name, weight)
    teacher = HuggingFaceTeacher(model.to(device))
    host.give_back()
    return teacher


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise RequestError(
            "a teacher that is no Gemma 2 is run by transformers: pip install 'gemmule[huggingface]'"
        ) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


class HuggingFaceFolder(InFolder):
    name = "huggingface"

    def recognises(self, source: Source) -> bool:
        return isinstance(source, Path) and source.is_dir()

    def check(self, source: Source, sequence_length: int, sample_tokens: int = 0) -> None:
        super().check(source, sequence_length)
        longest = longest_window(Path(source))
        if longest is not None and sample_tokens >= longest:
            raise RequestError(f"{source}: reads at most {longest} tokens; evaluate.sample_tokens is {sample_tokens}")

    def needs(self, source: Source) -> Needs:
        return Needs("huggingface", ("transformers",))

    def shape(self, source: Source, length: int, vocabulary_size: int | None = None) -> Shape:
        text = text_config(Path(source))
        layers = text.get("num_hidden_layers", text.get("n_layer", 0))
        width = text.get("hidden_size", text.get("n_embd", 0))
        return of_tensors(safetensors_shapes(Path(source)), layers, width, length, vocabulary_size)

    def load(
        self, source: Source, device: torch.device, *, record: Record, key: str, section: Model, tokenizer: Path
    ) -> HuggingFaceTeacher:
        return load(Path(source), device)


KIND = HuggingFaceFolder()
