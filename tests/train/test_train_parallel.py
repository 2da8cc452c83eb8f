"""Training by several processes: the same numbers as one, a piece of everything on each, and any number goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.distributed.checkpoint
from processes import in_processes
from safetensors import safe_open
from small_job import LARGE, LENGTH, PLAIN, SMALL
from stored_targets import write_targets
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM

from gemmule import tokenize
from gemmule.base import artifact, ranks
from gemmule.base.errors import RequestError, Terminated, WorkError
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Distill, Targets, Train
from gemmule.teach.teachers.alm import ByteAligned
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.gemma2 import load as load_teacher
from gemmule.teach.teachers.huggingface import HuggingFaceTeacher
from gemmule.train import checkpoint, loop, metrics, parallel
from gemmule.train.checkpoint import Checkpoints
from gemmule.train.guards import State
from gemmule.train.job import Job
from gemmule.train.loop import Trainer
from gemmule.train.objective import accumulate
from gemmule.train.optimizer import Optimizer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _few_validations():
    with pytest.MonkeyPatch.context() as patch:
        few_validations(patch)
        yield


def few_validations(patch):
    patch.setattr(loop, "VALIDATIONS", 2)
    patch.setattr(loop, "validation_windows", lambda *_: 5)


@pytest.fixture(scope="module")
def targets_folder(tmp_path_factory, teacher_folder, windows):
    folder = tmp_path_factory.mktemp("targets")
    write_targets(folder, load_teacher(teacher_folder, CPU), windows, positions=10**6)
    return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory, windows):
    """Twelve steps of eight windows, in micro-batches of two."""
    return Job(
        name="m",
        folder=tmp_path_factory.mktemp("m"),
        config=SMALL,
        train=Train(tokens=12 * 128, learning_rate=1e-2, batch_tokens=128, micro_batch_tokens=32, checkpoint_every=4),
        distill=Distill(),
        machine=PLAIN,
        seed=0,
        windows=windows,
        validation=windows,
        settings={"seed": 0},
        inputs={},
    )


@pytest.fixture(scope="module")
def live(job, teacher_folder):
    return replace(job, teacher=partial(load_teacher, teacher_folder), distill=Distill(next_token_weight=0.3))


def trained(job, folder, count, change=few_validations):
    """Trains in `folder` by so many processes, in each of them changed so. Gives the records and the final weights."""
    job = replace(job, folder=folder)

    def work():
        with pytest.MonkeyPatch.context() as patch:
            change(patch)
            model = loop.train(job)
        return {} if ranks.rank() else model.state_dict()

    final = work() if count == 1 else in_processes(count, work)[0]
    return metrics.read(folder), final


@pytest.fixture(scope="module")
def by_one(live, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return folder, *trained(live, folder, 1)


@pytest.fixture(scope="module")
def by_four(live, tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    return folder, *trained(live, folder, 4)


def assert_alike(some, others, rel=1e-5):
    assert [record["step"] for record in some] == [record["step"] for record in others]
    for mine, theirs in zip(some, others, strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() - {"seconds", "tokens_per_second", "left_out", "passed_over"}:  # which hold the loss
            assert mine[key] == pytest.approx(theirs[key], rel=rel), (mine["step"], key)


def assert_close(some, others):
    assert some.keys() == others.keys()
    for name, weight in some.items():
        torch.testing.assert_close(weight, others[name], rtol=1e-3, atol=1e-4)


def test_four_processes_and_a_sharded_teacher_learn_what_one_does(by_one, by_four):
    assert len(by_one[1]) == 12 + 2
    assert_alike(by_four[1], by_one[1])
    assert_close(by_four[2], by_one[2])


@pytest.mark.parametrize(("count", "how"), [(2, "equal"), (3, "entropy")])
def test_stored_targets_and_ranks_that_share_unevenly(job, tmp_path, targets_folder, count, how):
    """Eight windows are 4 and 4, or 3, 3 and 2; a token's weight is over the mean of the whole batch."""
    job = replace(job, targets=targets_folder, distill=Distill(token_weights=how, targets=Targets()))
    ours, theirs = trained(job, tmp_path / "many", count), trained(job, tmp_path / "one", 1)
    assert_alike(ours[0], theirs[0])
    assert_close(ours[1], theirs[1])


@pytest.mark.parametrize(("before", "after"), [("by_four", 2), ("by_four", 1), ("by_one", 2)])
def test_any_number_of_processes_goes_on(live, tmp_path, request, before, after):
    folder, records, final = request.getfixturevalue(before)
    shutil.copytree(folder / "checkpoints" / "step-00000008", tmp_path / "checkpoints" / "step-00000008")
    shutil.copy(folder / "metrics.jsonl", tmp_path)
    ours = trained(live, tmp_path, after)
    assert_alike(ours[0], records)
    assert_close(ours[1], final)


def test_a_rank_holds_a_piece_of_everything(live):
    """Parameters, gradients and moments: at most 0.35 of the whole on each of four."""

    def work():
        parallel.join(CPU)
        model = parallel.place(SMALL, CPU, lambda: Gemma2(SMALL))
        optimizer = Optimizer(model, live.train)
        ids = torch.arange(2 * LENGTH).view(2, LENGTH)
        model(ids, ids).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        optimizer.step(1e-3)
        held = [*model.parameters(), *gradients, *optimizer.state().values()]
        assert all(isinstance(tensor, DTensor) for tensor in held)
        teacher = parallel.load_teacher(live.teacher, CPU).model
        of_teacher = {name: isinstance(weight, DTensor) for name, weight in teacher.named_parameters()}
        return sum(tensor.to_local().nbytes for tensor in held), of_teacher

    whole = 4 * sum(4 * parameter.numel() for parameter in Gemma2(SMALL).parameters())
    for held, of_teacher in in_processes(4, work):
        assert held <= 0.35 * whole
        assert all(sharded == ("layers" in name) for name, sharded in of_teacher.items())


def test_a_checkpoint_of_four_is_a_verified_artifact_without_pickles(by_four):
    path = checkpoint.found(by_four[0] / "checkpoints")[-1]
    artifact.verify(artifact.read(path))
    names = {file.name for file in path.iterdir()}
    assert names == {"manifest.json", "state.json", "config.json"} | {
        f"shard-0000{number}-model-00001-of-00001.safetensors" for number in (1, 2, 3, 4)
    }
    assert json.loads((path / "state.json").read_text())["step"] == 12
    with safe_open(path / "shard-00001-model-00001-of-00001.safetensors", "pt") as file:
        assert file.get_slice("model.embed_tokens.weight").get_shape() == [75, 16]
        assert file.get_slice("exp_avg_sq.model.embed_tokens.weight").get_shape() == [75, 16]


def test_a_damaged_piece_is_set_aside_by_all(live, by_four, tmp_path):
    for step in ("step-00000008", "step-00000012"):
        shutil.copytree(by_four[0] / "checkpoints" / step, tmp_path / "checkpoints" / step)
    shard = next((tmp_path / "checkpoints" / "step-00000012").glob("shard-00002*"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    _, final = trained(live, tmp_path, 2)
    assert (tmp_path / "checkpoints" / "damaged" / "step-00000012-1").exists()
    assert_close(final, by_four[2])


def test_a_checkpoint_that_can_not_be_written_is_an_error_on_all(live, tmp_path):
    def work():
        parallel.join(CPU)
        model = parallel.place(SMALL, CPU, lambda: Gemma2(SMALL))
        if ranks.rank():  # one's disk is full
            torch.distributed.checkpoint.HuggingFaceStorageWriter.write_data = full
        try:
            Checkpoints(tmp_path, live.train, {}, {}, "m").save(model, Optimizer(model, live.train), State(1))
        except WorkError as error:
            return str(error)
        return None

    def full(*_):
        raise OSError(28, "No space left on device")

    assert all("No space left on device" in str(said) for said in in_processes(2, work))
    assert not list(tmp_path.iterdir())


def test_a_device_that_processes_can_not_share_is_refused():
    def work():
        with pytest.raises(RequestError, match=r"machine.device: 2 processes can't use mps"):
            parallel.join(torch.device("mps"))

    in_processes(2, work)


@pytest.mark.parametrize(
    ("changes", "rel"),
    [
        ({"optimizer": "muon"}, 1e-5),
        ({"recompute_activations": True, "keep_best": True, "keep_last": 1}, 1e-5),
    ],
)
def test_the_recipes_other_wishes_hold(job, tmp_path, changes, rel):
    job = replace(job, train=job.train.model_copy(update=changes))
    ours, theirs = trained(job, tmp_path / "many", 2), trained(job, tmp_path / "one", 1)
    assert_alike(ours[0], theirs[0], rel)
    assert [path.name for path in checkpoint.found(tmp_path / "many" / "checkpoints")] == [
        path.name for path in checkpoint.found(tmp_path / "one" / "checkpoints")
    ]


def test_a_teacher_with_another_tokenizer_is_asked_by_each_rank_for_its_own_windows(job, texts, words, tmp_path):
    """Three ranks of 8 windows: the last one's filling must not be taken for a window that was asked about."""
    theirs = tokenize.train(texts, 290)
    shape = replace(LARGE, vocabulary_size=290)
    job = replace(
        job,
        train=job.train.model_copy(update={"tokens": 8 * 128}),
        distill=Distill(loss="alm", next_token_weight=0.5),
        teacher=lambda device: ByteAligned(Gemma2Teacher(Gemma2(shape).initialise(5)), theirs, words),
    )
    ours, alone = trained(job, tmp_path / "many", 3), trained(job, tmp_path / "one", 1)
    assert_alike(ours[0], alone[0])
    assert_close(ours[1], alone[1])


@pytest.mark.parametrize("kind", ["gemma2", "llama", "gpt2"])
def test_a_teacher_of_transformers_is_cut_at_its_layers(kind):
    torch.manual_seed(0)
    shape = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    config = AutoConfig.for_model(kind, **shape, num_key_value_heads=2, intermediate_size=48)
    model = AutoModelForCausalLM.from_config(config)
    ids = torch.randint(300, (2, LENGTH))
    expected = HuggingFaceTeacher(model).expect(ids).logits()

    def work():
        parallel.join(CPU)
        teacher = parallel.load_teacher(lambda device: HuggingFaceTeacher(model), CPU)
        pieces = [name for name, weight in model.named_parameters() if isinstance(weight, DTensor)]
        return teacher.expect(ids).logits(), pieces

    for logits, pieces in in_processes(2, work):
        torch.testing.assert_close(logits, expected)
        assert pieces
        assert all(".0." in name or ".1." in name for name in pieces)


def test_all_ranks_leave_out_what_one_of_them_can_not_learn(job, tmp_path):
    """Three updates in a row with an infinite gradient: back to the last checkpoint, on all ranks alike."""

    def spoiled(model, batch, *rest, **more):
        loss = accumulate(model, batch, *rest, **more)
        if bad & set(batch.starts.tolist()):  # of one window, which one rank has
            next(model.parameters()).grad.mul_(torch.inf)
        return loss

    def spoil(patch):
        few_validations(patch)
        patch.setattr(loop, "accumulate", spoiled)

    bad = {int(job.windows.batch(step, job.windows_per_batch).starts[-1]) for step in (5, 6, 7)}
    ours, theirs = trained(job, tmp_path / "many", 2, spoil), trained(job, tmp_path / "one", 1, spoil)
    assert [line["step"] for line in ours[0] if "passed_over" in line] == [5, 6, 7, 8]
    assert_alike(ours[0], theirs[0])
    assert_close(ours[1], theirs[1])


def test_a_signal_to_one_rank_stops_and_saves_all(job, tmp_path):
    job = replace(job, folder=tmp_path)
    advance = Trainer.advance

    def signalled(self):
        if ranks.rank() == 1 and self.state.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self)

    def work():
        Trainer.advance = signalled
        try:
            loop.train(job)
        except Terminated:
            return checkpoint.found(tmp_path / "checkpoints")[-1].name
        return None

    assert in_processes(2, work) == ["step-00000006"] * 2
