"""What a recipe may say: its sections, each key with its type, its range, its default and its part in the identity.

A key is part of the identity of what its section makes, so that another value has it remade. One that says `NEVER`,
`RESOLVED`, `omitted_at(value)`, `WINDOWS` or `TAUGHT` is so otherwise: `identity.py` has what these mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gemmule.base.errors import RequestError
from gemmule.base.limits import LARGEST, LARGEST_ROPE_BASE
from gemmule.recipe.identity import NEVER, RESOLVED, TAUGHT, WINDOWS, omitted_at
from gemmule.recipe.refining import Refine
from gemmule.recipe.section import Section
from gemmule.recipe.values import (
    LARGEST_RATE,
    SEQUENCE_LENGTH,
    BatchTokens,
    Cap,
    Count,
    Name,
    Place,
    Prompt,
    Seeds,
    Share,
    Steps,
    Temperature,
    TopK,
    Tracking,
    VocabularySize,
)

LARGEST_MICRO_BATCH = 8192  # tokens whose activations are kept at once, unless the recipe says otherwise
BATCH_FACTOR, BATCH_EXPONENT = 0.9, 0.571
DECAY_FRACTION = 0.5  # of a training's steps, in which the learning rate falls
BYTES_PER_TOKEN = 30.0  # of stored targets, where nothing else says how much is kept
MOST_KEPT = 4096  # tokens of one of them, about: 1/tau, k, draws
MOST_MODELS = 256
SOURCES = 'a list of at least one text in quotes, or { path = "...", weight = 2 }'


def batch_for(tokens: int) -> int:
    """The tokens of a batch, for a training on so many in all: a power of two.

    The exponent is that of Li et al. 2025 (arXiv 2503.04715), fitted up to 100G tokens; the factor is the demo's, where
    1,024 and 2,048 end alike after 400k tokens, at equal time.
    """
    return int(2 ** max(8, min(22, round(math.log2(BATCH_FACTOR * tokens**BATCH_EXPONENT)))))


class WeightedSource(Section):
    """Files, a folder or a glob, and how often its training documents are read in one epoch."""

    path: Place
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0


class Data(Section):
    """Where the text comes from, how it is split, and how long the windows are."""

    # files, folders, globs; relative to the recipe
    sources: Annotated[list[Place | WeightedSource], Field(min_length=1, description=SOURCES), RESOLVED]
    exclude: Annotated[list[Place], RESOLVED] = []  # of these, what is left out: files, folders, globs too
    follow_links: Annotated[bool, RESOLVED] = False  # whether links that lead out of a named folder are followed
    field: Place = "text"  # of a record, or the column of a table: the one that holds the text
    # at records that can't be read, and at empty files
    bad_records: Annotated[Literal["stop", "skip"], omitted_at("stop")] = "stop"
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    sequence_length: Annotated[int, Field(ge=2, le=SEQUENCE_LENGTH), WINDOWS] = 256  # tokens in a window
    # at windows whose tokens or stored targets are not what was written; metrics.jsonl tells what was skipped
    damaged: Annotated[Literal["stop", "skip"], NEVER] = "stop"
    # whether the documents in a window are hidden from each other
    separate_documents: Annotated[bool, WINDOWS.omitted_at(False)] = False

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each pattern in `sources`, in their order; of one that is there twice the first."""
        pairs = [(each, 1.0) if isinstance(each, str) else (each.path, each.weight) for each in self.sources]
        return {path: dict(reversed(pairs))[path] for path, _ in pairs}


class TokenizerSection(Section):
    """A tokenizer to train here, or one to take over."""

    vocabulary_size: Annotated[VocabularySize | None, omitted_at(None)] = None
    from_: Annotated[Place | None, Field(alias="from"), RESOLVED] = None
    prune: Annotated[bool, omitted_at(False)] = False  # whether to keep only the tokens that the recipe's text uses

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizerSection:
        if (self.vocabulary_size is None) == (self.from_ is None):
            raise ValueError('needs either vocabulary_size (train one here) or from = "<model or path>"')
        if self.prune and self.from_ is None:
            raise ValueError('prune is for a tokenizer with from = "<model or path>": one trained here has no more')
        return self


class Architecture(Section):
    """The shape of a Gemma 2. Only layers and width are needed; the rest follows."""

    layers: Annotated[int, Field(ge=1, le=LARGEST["layers"])]
    width: Annotated[int, Field(ge=1, le=LARGEST["width"])]
    heads: Annotated[int, Field(ge=1, le=LARGEST["heads"])]
    kv_heads: Annotated[int, Field(ge=1, le=LARGEST["kv_heads"])]
    head_dim: Annotated[int, Field(ge=1, le=LARGEST["head_dim"])]
    ffn_width: Annotated[int, Field(ge=1, le=LARGEST["ffn_width"])]
    window: Annotated[int, Field(ge=1, le=LARGEST["window"])]
    attention_cap: Cap = 50.0  # 0 turns it off
    final_cap: Cap = 30.0
    query_scale: Annotated[int, Field(ge=1, le=LARGEST["query_scale"])] | None = None  # None: head_dim
    rope_base: Annotated[float, Field(gt=0, le=LARGEST_ROPE_BASE)] = 10000.0
    norm_epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-6
    # local and global layers in turn, as in Gemma 2, or all of one kind
    attention: Annotated[Literal["alternating", "local", "global"], omitted_at("alternating")] = "alternating"

    @model_validator(mode="after")
    def _possible(self) -> Architecture:
        if self.width % self.heads:
            raise ValueError(
                f"width = {self.width} is not a multiple of heads = {self.heads}: transformers refuses such a Gemma 2"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} is not a multiple of kv_heads = {self.kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim} is odd: rotary embeddings turn pairs")
        return self


class Train(Section):
    """How a model is trained."""

    tokens: Count  # in all; rounded to whole batches
    learning_rate: Annotated[float, Field(gt=0, le=LARGEST_RATE)]
    batch_tokens: Annotated[BatchTokens, Field(default_factory=lambda train: batch_for(train.get("tokens", 1)))]
    micro_batch_tokens: BatchTokens | None = None  # None: at most 8192
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None  # None: 10 steps, or a tenth of fewer than 100
    # after the warm-up: "wsd", the rate stays, then falls in a straight line; "cosine", it falls by a cosine
    schedule: Annotated[Literal["wsd", "cosine"], omitted_at("cosine")] = "wsd"
    # the share of the steps in which it falls; None: all after the warm-up, as with a cosine
    decay_fraction: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Field(default_factory=lambda train: DECAY_FRACTION if train.get("schedule") == "wsd" else None),
        omitted_at(None),
    ]
    final_learning_rate_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1  # what is left of it at the end
    weight_decay: Annotated[float, Field(ge=0, le=LARGEST_RATE)] = 0.1
    # of the averages of the gradient (Muon's momentum too) and of its square
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [0.8, 0.95]
    clip: Annotated[float, Field(gt=0, le=1e12)] = 1.0
    optimizer: Annotated[Literal["muon", "adamw"], omitted_at("adamw")] = "muon"
    # the rate of the embedding, which is the head too, as a multiple of the others'
    embedding_learning_rate_factor: Annotated[float, Field(ge=0, le=1e6), omitted_at(1.0)] = 2.0
    # steps; None: 200, and fewer where checkpoints would cost too much
    checkpoint_every: Annotated[Steps | None, NEVER] = None
    checkpoint_minutes: Annotated[float, Field(gt=0, le=10**6), NEVER] = 5.0  # what a kill may cost
    keep_last: Annotated[int, Field(ge=1, le=10**6), NEVER] = 2  # checkpoints
    keep_every: Annotated[Steps | None, NEVER] = None  # steps: one of these is kept for good
    keep_best: Annotated[bool, NEVER] = False  # and the one of the lowest validation loss
    # in the backward pass, layer by layer: less memory, a third more time
    recompute_activations: Annotated[bool, NEVER] = False

    @model_validator(mode="after")
    def _one_schedule(self) -> Train:
        if self.schedule == "cosine" and self.decay_fraction is not None:
            raise ValueError('decay_fraction is of schedule = "wsd": a cosine falls from the warm-up on')
        return self

    def windows_per_batch(self, sequence_length: int) -> int:
        return max(1, round(self.batch_tokens / sequence_length))

    def steps(self, sequence_length: int) -> int:
        return max(1, round(self.tokens / (self.windows_per_batch(sequence_length) * sequence_length)))

    def windows_per_micro_batch(self, sequence_length: int) -> int:
        tokens = self.micro_batch_tokens or LARGEST_MICRO_BATCH
        return min(self.windows_per_batch(sequence_length), max(1, tokens // sequence_length))


class Targets(Section):
    """Teacher targets taken once and stored, read by every student: how much is kept, by a budget or outright."""

    kind: Literal["threshold", "top-k", "rs-kd"] = "threshold"
    bytes_per_token: Annotated[float, Field(gt=0, le=1024)] | None = None  # 30, if nothing else is said
    tau: Annotated[float, Field(ge=1 / MOST_KEPT, le=1)] | None = None  # of the threshold
    k: Annotated[int, Field(ge=1, le=MOST_KEPT)] | None = None  # of the top-k
    draws: Annotated[int, Field(ge=1, le=MOST_KEPT)] | None = None  # of rs-kd
    rest: Literal["bucket", "dropped", "renormalised"] = "bucket"  # what becomes of the mass outside the top k

    @model_validator(mode="before")
    @classmethod
    def _how_much(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kind = values.get("kind", "threshold")
        own = {"threshold": "tau", "top-k": "k", "rs-kd": "draws"}.get(kind) if isinstance(kind, str) else None
        given = [key for key in ("bytes_per_token", "tau", "k", "draws") if values.get(key) is not None]
        for key in given:
            if own is not None and key not in ("bytes_per_token", own):
                raise ValueError(f'kind = "{kind}" takes bytes_per_token or {own}, not {key}')
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say how much to keep: one of them is enough")
        if "rest" in values and kind != "top-k":
            raise ValueError(f'rest is of kind = "top-k": kind = "{kind}" leaves no mass out')
        return values if given else {**values, "bytes_per_token": BYTES_PER_TOKEN}

    @property
    def setting(self) -> float | None:
        """tau, k or draws, if that is given."""
        return next((value for value in (self.tau, self.k, self.draws) if value is not None), None)


# What each loss is called in progress lines and reports; it stands in the file of its name in gemmule/losses.
LOSSES = {"forward_kl": "forward KL", "reverse_kl": "reverse KL", "jsd": "JSD", "alm": "ALM loss"}


class Distill(Section):
    """What a student learns from its teacher."""

    loss: Literal["forward_kl", "reverse_kl", "jsd", "alm"] = "forward_kl"
    beta: Annotated[float, Field(ge=0, le=1)] = 0.5  # of the jsd: from the forward KL at 0 to the reverse KL at 1
    temperature: Annotated[float, Field(ge=0.01, le=1000)] = 1.0
    # the next-token loss's share of the whole loss; of two, from the first step's to the last's
    next_token_weight: Annotated[
        Share | Annotated[list[Share], Field(min_length=2, max_length=2)],
        Field(description="a number, at least 0 and below 1, or two of these, such as [0.5, 0.0]"),
    ] = 0.0
    # "entropy": a token counts by the teacher's entropy there
    token_weights: Annotated[Literal["equal", "entropy"], omitted_at("equal")] = "equal"
    targets: Targets | None = None  # None: the teacher runs beside its student

    @model_validator(mode="after")
    def _servable(self) -> Distill:
        if self.own_tokens and (self.targets is not None or self.temperature != 1):
            raise ValueError(
                'loss = "alm" compares how likely stretches of text are, in each model\'s own tokens: there are no '
                "distributions to store or to soften; remove targets and temperature"
            )
        if self.targets is not None and not self.takes_samples:
            raise ValueError(
                f'loss = "{self.loss}" needs a live teacher: stored samples are unbiased for the forward KL only; '
                "remove targets"
            )
        if self.token_weights == "entropy" and self.targets is None:
            raise ValueError(
                'token_weights = "entropy" needs stored targets: the entropies of a whole batch must be known before '
                "its first micro-batch; add targets"
            )
        return self

    @property
    def takes_samples(self) -> bool:
        """Whether part of a teacher's distribution serves, a sample or its top k: if the loss is linear in it."""
        return self.loss == "forward_kl"

    @property
    def own_tokens(self) -> bool:
        """Whether the teacher reads text in its own tokenizer's tokens: only likelihoods of stretches are compared."""
        return self.loss == "alm"


class Model(Section):
    """One model of the family: trained here, or taken `from` outside."""

    like: Annotated[str | None, NEVER] = None  # whose keys are copied
    from_: Annotated[Place | None, Field(alias="from"), RESOLVED] = None
    top_k: TopK | None = None  # of a served model: how many tokens it is asked for at each place
    # whether a model with another tokenizer answers in this run's tokens, by their bytes
    by_bytes: Annotated[bool, RESOLVED] = False
    # at an outside teacher that predicts the text worse
    worse_than_unigram: Annotated[Literal["stop", "allow"], NEVER] = "stop"
    learn_from: Annotated[
        str | dict[str, Annotated[float, Field(gt=0, le=1)]],
        Field(description='a model\'s name, "none", or shares of several that sum to 1, as { a = 0.7, b = 0.3 }'),
    ] = "none"
    architecture: Architecture | None = None  # None: that of start_from or from
    train: Train | None = None
    start_from: Annotated[Place | None, omitted_at(None)] = None
    seeds: Annotated[Seeds | None, NEVER] = None  # how often it is trained; None: as often as the recipe's others
    distill: Annotated[Distill, TAUGHT] = Distill()

    @model_validator(mode="after")
    def _trained_or_not(self) -> Model:
        if self.from_ is not None:
            extra = [key for key in ("start_from", "architecture", "train", "seeds") if getattr(self, key) is not None]
            extra += ["learn_from"] if self.learn_from != "none" else []
            if extra:
                raise ValueError(f"a model with from is not trained: remove {' and '.join(extra)}")
            return self
        if self.top_k is not None:
            raise ValueError("top_k is for a model behind a server: remove it")
        if self.by_bytes:
            raise ValueError("by_bytes is for a model from outside, with another tokenizer: remove it")
        if self.worse_than_unigram != "stop":
            raise ValueError("worse_than_unigram is for a teacher from outside: remove it")
        if isinstance(self.learn_from, dict) and abs(sum(self.learn_from.values()) - 1) > 1e-6:
            raise ValueError(f"learn_from: weights that sum to {sum(self.learn_from.values()):g}; they must sum to 1")
        if self.train is None:
            raise ValueError('needs train = { tokens = ... }, or from = "<model>" if it is not to be trained')
        if self.architecture is None and self.start_from is None:
            raise ValueError("needs an architecture (layers and width at least), or start_from")
        return self

    @property
    def teachers(self) -> dict[str, float]:
        """Whom it learns from, with the weights of their probabilities; nobody, one, or an ensemble."""
        if isinstance(self.learn_from, dict):
            return self.learn_from
        return {} if self.learn_from == "none" else {self.learn_from: 1.0}


class Evaluate(Section):
    """What is asked of the finished models."""

    prompts: Annotated[list[Prompt], Field(max_length=1000)] = []  # empty: the opening words of two documents
    sample_tokens: Annotated[int, Field(ge=1, le=65536)] = 80
    temperature: Temperature = 0.8
    # gemmule's own, as "gemmule:passkey", or lm-evaluation-harness's; on the validation text where they need any
    tasks: Annotated[list[Place], Field(max_length=1000), omitted_at([])] = []
    # of the validation text, that models are measured on; None: so much that it takes a tenth of the run
    tokens: Annotated[
        Count | Literal["all"] | None, RESOLVED, Field(description='a count such as "100k", or "all"')
    ] = None


class Machine(Section):
    """How to run. Nothing here changes what is made, so nothing here invalidates an artifact."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    compile: Literal["auto", True, False] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the products in training; weights stay float32
    # that refine text, at most; None: one for each core
    processes: Annotated[int, Field(ge=1, le=4096)] | None = None
    track: Tracking = "none"  # where metrics are sent beside metrics.jsonl and TensorBoard


class Recipe(Section):
    name: Annotated[Name, NEVER]
    seed: Annotated[int, Field(ge=0, le=2**63 - 1), WINDOWS] = 0
    seeds: Annotated[Seeds, NEVER] = 1  # how often each model is trained: with seed, seed + 1, ...
    data: Data
    refine: Annotated[Refine | None, NEVER] = None  # None: text is taken as it stands
    tokenizer: TokenizerSection
    models: Annotated[
        dict[str, Model],
        Field(min_length=1, max_length=MOST_MODELS, description="sections, one for each model, as in [models.student]"),
    ]
    evaluate: Evaluate = Evaluate()
    machine: Annotated[Machine, NEVER] = Machine()

    def order(self) -> list[str]:
        """The models' names, each after those that it learns or starts from. Raises RequestError for a cycle."""
        return in_order({name: self.needs(name) for name in self.models})

    def trainings(self, name: str) -> int:
        """How often a model is trained, each time with a seed of its own; one from outside is there once."""
        model = self.models[name]
        return 1 if model.from_ is not None else model.seeds or self.seeds

    def aligned_by_bytes(self, teacher: str) -> bool:
        """Whether a teacher keeps its own tokenizer, and its students learn from it by text alone."""
        return any(model.distill.own_tokens for model in self.models.values() if teacher in model.teachers)

    @property
    def scores_documents(self) -> str | None:
        """The model by which documents are dropped, if any is."""
        score = self.refine.teacher_score if self.refine is not None else None
        return score.model if score is not None else None

    @property
    def left_by_scores(self) -> float:
        """The share of the documents that stays where they are scored, about."""
        score = self.refine.teacher_score if self.refine is not None else None
        return 1.0 if score is None else 1 - score.drop_noisiest - score.drop_easiest

    def only_scores(self, name: str) -> bool:
        """Whether a model does nothing but score documents, in its own tokenizer's tokens."""
        model = self.models[name]
        asked = any(name in other.teachers or other.start_from == name for other in self.models.values())
        gives_tokens = self.tokenizer.from_ in (name, model.from_)
        return name == self.scores_documents and not (asked or gives_tokens or model.by_bytes)

    def held_against(self, name: str) -> dict[str, float]:
        """The teachers that a model is measured beside: its own, or those of the students that it is the control of."""
        model = self.models[name]
        if model.teachers:
            return model.teachers
        kin = [other for other, entry in self.models.items() if name in (entry.like,) or other == model.like]
        found = [weights for other in kin if (weights := self.models[other].teachers) and name not in weights]
        return found[0] if found and all(weights == found[0] for weights in found) else {}

    def needs(self, name: str) -> list[str]:
        """The models of this recipe that must be there before `name` can be trained."""
        model = self.models[name]
        needed = list(model.teachers)
        if model.start_from in self.models:
            needed.append(model.start_from)
        return list(dict.fromkeys(needed))


def join_names(teachers: Iterable[str]) -> str:
    """What an ensemble is called where one name is needed, as in targets/a+b."""
    return "+".join(teachers)


def in_order(needs: Mapping[str, list[str]], relation: str = "learn from or start from") -> list[str]:
    """Depth first, in the order of the file. Raises RequestError with the cycle spelled out."""
    done: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            cycle = " -> ".join([*path[path.index(name) :], name])
            raise RequestError(f"models that {relation} each other in a cycle: {cycle}")
        path.append(name)
        for other in needs[name]:
            visit(other)
        path.pop()
        done.append(name)

    for name in needs:
        visit(name)
    return done
