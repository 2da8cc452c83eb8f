"""Training by many processes, through PyTorch's own engine: FSDP2 (`fully_shard`, arXiv 2304.11277) and DCP.

- Each process, a rank, reads its share of every batch. Parameters, gradients and the optimizer's moments are cut along
  their first dimension, a shard to each rank; a layer is whole only while it is at work.
- Applied from outside, to a finished model: its file knows nothing of it. A live teacher's layers are cut alike.
- Gradients are sums over the ranks, each of its part of the whole batch's loss: what one process computes.
- A checkpoint holds the shards as safetensors, a file a rank, and resumes with any number of ranks.

`ranks.py` says how the processes find each other and who leads. Where there is one, sums and answers are its own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from gemmule.base import ranks
from gemmule.base.errors import RequestError, WorkError, first_line
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.teacher import LiveTeacher

if TYPE_CHECKING:
    from torch.distributed.checkpoint import CheckpointException

TIMEOUT = timedelta(hours=2)  # of an operation of all ranks: rank 0 may be cutting down a large model meanwhile
Value = TypeVar("Value")
AnyTeacher = TypeVar("AnyTeacher", bound=LiveTeacher)


def join(device: torch.device) -> None:
    """Makes the processes one group, if there are several; before any of what follows. Raises RequestError."""
    if ranks.size() == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    elif device.type != "cpu":
        raise RequestError(
            f"machine.device: {ranks.size()} processes can't use {device.type}: cpu or cuda, or one process"
        )
    dist.init_process_group(
        "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl",
        store=dist.PrefixStore("group", ranks.store()),
        rank=ranks.rank(),
        world_size=ranks.size(),
        timeout=TIMEOUT,
    )


@contextmanager
def all_present() -> Iterator[None]:
    """Within this, what an operation says whose others are gone is a WorkError."""
    try:
        yield
    except RuntimeError as error:
        if ranks.size() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise WorkError(
            f"rank {ranks.rank()} of {ranks.size()}: another process is gone or unreachable ({first_line(error)}). The "
            "same command resumes from the last checkpoint; torchrun's --max-restarts does that automatically"
        ) from error


def add_up(*values: float) -> tuple[float, ...]:
    """Each value's sum over all ranks."""
    if ranks.size() == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return tuple(sums.tolist())


def agree(value: Value) -> Value:
    """Rank 0's value, on every rank."""
    if ranks.size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


def first(value: Value) -> Value:
    """The first rank's value that is not None, on every rank; None where all are."""
    if ranks.size() == 1:
        return value
    values = [value] * ranks.size()
    dist.all_gather_object(values, value)
    return next((value for value in values if value is not None), values[0])


def local(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """This rank's shards of tensors."""
    return {name: tensor.to_local() if ranks.size() > 1 else tensor for name, tensor in tensors.items()}


def place(config: Gemma2Config, device: torch.device, initial: Callable[[], Gemma2] | None) -> Gemma2:
    """A model of this shape on `device`, a shard of it on each rank; any weights, where `initial` is None.

    Only rank 0 makes the initial model, and ever holds it whole.
    """
    if ranks.size() == 1:
        return (Gemma2(config) if initial is None else initial()).to(device)
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    with torch.device("meta"):  # shapes only
        model = Gemma2(config)
    _cut([*model.model.layers, model], device)
    model.to_empty(device=device)
    if initial is not None:
        given = initial().state_dict() if ranks.rank() == 0 else {}
        set_model_state_dict(model, given, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    return model


def clip(model: nn.Module, limit: float) -> float:
    """Scales the gradient down to a norm of at most `limit`; gives the norm that it had. Over all ranks."""
    norm: Any = nn.utils.clip_grad_norm_(model.parameters(), limit)
    return float(norm.full_tensor() if ranks.size() > 1 else norm)


def gather(model: Gemma2) -> Gemma2:
    """The whole model, in rank 0's memory and not on its device; on the others one without weights."""
    if ranks.size() == 1:
        return model
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    with torch.device("meta"):
        whole = Gemma2(model.config)
    if ranks.rank() == 0:
        whole.load_state_dict(weights, assign=True)
    return whole


def load_teacher(load: Callable[[torch.device], AnyTeacher], device: torch.device) -> AnyTeacher:
    """A teacher, a shard of its backbones' layers on each rank, and all else (embedding and head) on each whole.

    Its head is used outside of its model's `forward`, in the student's loss, where no engine would put it together.
    """
    teacher = load(device)
    if ranks.size() > 1:
        for backbone, layers in teacher.backbones():
            shards = {id(parameter) for layer in layers for parameter in layer.parameters()}
            others = {parameter for parameter in backbone.parameters() if id(parameter) not in shards}
            _cut(layers, device)
            _cut([backbone], device, ignored_params=others)  # which only sees to it that layers come in time
    return teacher


def _cut(modules: list[nn.Module], device: torch.device, **how: Any) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (ranks.size(),))
    policy = MixedPrecisionPolicy()  # shards, sums and products are of the parameters' type; another policy goes here
    for module in modules:
        fully_shard(module, mesh=mesh, mp_policy=policy, **how)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)  # sums, not means
        module.set_force_sum_reduction_for_comms(True)


def write(tensors: dict[str, Tensor], folder: Path) -> None:
    """Writes every rank's shards into `folder`, which is there. Raises WorkError on all ranks, if one fails."""
    from torch.distributed import checkpoint

    try:
        checkpoint.save(tensors, storage_writer=checkpoint.HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except checkpoint.CheckpointException as error:
        raise WorkError(f"{folder}: can't be written: {_reason(error)}") from error


def read(tensors: dict[str, Tensor], folder: Path) -> None:
    """Fills tensors, whole or sharded, with those of these names in the safetensors files of `folder`.

    Whatever number of ranks wrote them.
    """
    from torch.distributed import checkpoint

    reader = checkpoint.HuggingFaceStorageReader(str(folder))
    try:
        with warnings.catch_warnings(category=UserWarning, action="ignore"):  # that one process is alone
            checkpoint.load(tensors, storage_reader=reader, no_dist=ranks.size() == 1)
    except checkpoint.CheckpointException as error:
        raise WorkError(f"{folder}: can't be read: {_reason(error)}") from error


def _reason(error: CheckpointException) -> str:
    """What the first rank that failed says."""
    reason = next(iter(error.failures.values()))[0]
    return first_line(reason) if isinstance(reason, Exception) else type(reason).__name__
