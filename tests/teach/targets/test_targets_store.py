"""Stored targets, through the file format: addressing, budget, damage."""

import numpy as np
import pytest
import torch
from stored_targets import write_targets

from gemmule import tokenize
from gemmule.base.errors import RequestError, WorkError
from gemmule.losses.head import token_losses
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.targets.solving import FINEST, Sample, sample, solve
from gemmule.teach.targets.store import TargetStore
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.teacher import probabilities
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Windows

LENGTH = 16


@pytest.fixture(scope="module")
def teacher():
    model = Gemma2(Gemma2Config(300, 2, 16, 2, 1, 8, 32, 8)).initialise(1).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(3)  # logits far enough apart for exact and drawn tokens
    return Gemma2Teacher(model)


@pytest.fixture(scope="module")
def windows(tmp_path_factory, texts):
    words = tokenize.train(texts, 300)
    shards = write_shards([text[:400] for text in texts[:5]], words, tmp_path_factory.mktemp("tokens"))
    assert len(shards) % LENGTH  # the last window is short
    return Windows(shards, LENGTH, words.bos_id, words.pad_id, seed=0)


def expected(teacher, windows, temperature=1.0):
    """The teacher's distributions over the stream, [tokens, V], window by window."""
    batch = windows.window_batch(range(len(windows)))
    return probabilities(teacher.expect(torch.from_numpy(batch.inputs)), temperature)[: len(windows.shards)]


def dense(rows, vocabulary=300):
    estimate = torch.zeros(len(rows), vocabulary)
    owner = torch.arange(len(rows)).repeat_interleave(rows.offsets.diff())
    estimate.index_put_((owner, rows.ids), rows.probabilities, accumulate=True)
    return estimate


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_rows_are_those_of_their_position(tmp_path, teacher, windows, temperature):
    store = write_targets(tmp_path, teacher, windows, temperature=temperature, bytes_per_token=200.0)
    truth = expected(teacher, windows, temperature)
    assert len(store) == len(windows.shards) == len(truth)
    estimate = dense(store[:])
    exact = truth >= store.coding.scheme.weight
    step = store.coding.scheme.weight ** (-1 / (2**store.coding.value_bits - 1))  # of the values' grid
    assert (estimate[exact] / truth[exact]).min() > 1 / step - 1e-6
    assert (estimate[exact] / truth[exact]).max() < step + 1e-6
    assert (estimate[~exact] - truth[~exact]).abs().max() <= store.coding.scheme.weight
    assert torch.allclose(store[:].entropy, torch.special.entr(truth).sum(-1), atol=1e-4)
    whole = store[:]
    for start, stop in ((0, 1), (255, 258), (256, 300), (5, 5), (len(store) - 3, len(store) + 9), (-4, None)):
        part, same = store[start:stop], whole[slice(start, stop)]
        assert part.offsets.tolist() == same.offsets.tolist()
        assert part.ids.tolist() == same.ids.tolist()
        assert part.probabilities.tolist() == same.probabilities.tolist()
        assert part.entropy.tolist() == same.entropy.tolist()


def test_a_batch_holds_the_rows_of_its_windows(tmp_path, teacher, windows):
    store = write_targets(tmp_path, teacher, windows)
    last = len(windows) - 1
    batch = windows.window_batch([3, last, 0])
    rows = store.batch(batch)
    assert len(rows) == 3 * LENGTH
    assert rows[:LENGTH].ids.tolist() == store[3 * LENGTH : 4 * LENGTH].ids.tolist()
    assert rows[2 * LENGTH :].ids.tolist() == store[:LENGTH].ids.tolist()
    real = len(windows.shards) - last * LENGTH
    assert rows[LENGTH : 2 * LENGTH].offsets.diff().bool().tolist() == [True] * real + [False] * (LENGTH - real)


def test_the_loss_of_sampled_targets_is_the_live_one_in_expectation(tmp_path, teacher, windows):
    student = Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8)).initialise(2)
    batch = windows.window_batch([0, 1])
    with torch.no_grad():
        logits = student(torch.from_numpy(batch.inputs)).flatten(0, 1)
    live = token_losses(logits, expected(teacher, windows)[: 2 * LENGTH]).mean().item()
    coding = solve(sample(teacher, windows), "threshold", 12.0, 10**6)
    losses = []
    for seed in range(20):
        folder = tmp_path / str(seed)
        folder.mkdir()
        store = write_targets(folder, teacher, windows, seed=seed, coding=coding)
        losses.append(token_losses(logits, store.batch(batch)).mean().item())
    error = np.std(losses) / len(losses) ** 0.5
    assert error < 0.05 * live
    assert abs(np.mean(losses) - live) < 4 * error + 2e-3  # entropies are stored in half precision


@pytest.mark.parametrize("budget", [9.0, 30.0, 60.0])
def test_the_budget_is_kept_and_used(tmp_path, teacher, windows, budget):
    store = write_targets(tmp_path, teacher, windows, bytes_per_token=budget)
    on_disk = sum(file.stat().st_size for file in tmp_path.glob("*.bin")) / len(store)
    assert store.bytes_per_token == on_disk
    assert 0.9 * budget < on_disk < 1.04 * budget


def test_a_budget_too_small_names_the_smallest():
    kept = FINEST.draw(torch.zeros(64, 100), 0, np.arange(64))
    rows = Sample((kept, kept), (torch.full((100,), 0.01, dtype=torch.float64),) * 2)
    with pytest.raises(RequestError, match=r"too small; at least 5"):
        solve(rows, "threshold", 4.0, 10**6)  # 3 bytes of count and entropy, and one token drawn
    assert solve(rows, "threshold", 5.0, 10**6).scheme.setting < 1
    with pytest.raises(RequestError, match=r"too small; at least 7"):
        solve(rows, "threshold", 5.0, 100)  # 200 bytes of the tokens' order, shared by 100 positions


@pytest.mark.parametrize("name", ["blocks", "index", "order"])
def test_a_file_cut_short_is_noticed(tmp_path, teacher, windows, name):
    write_targets(tmp_path, teacher, windows)
    file = tmp_path / f"{name}.bin"
    file.write_bytes(file.read_bytes()[:-16])
    with pytest.raises(WorkError, match=str(tmp_path)):
        TargetStore(tmp_path)


def test_a_damaged_block_is_noticed_when_it_is_read_and_the_others_serve(tmp_path, teacher, windows):
    whole = write_targets(tmp_path, teacher, windows)[:]
    assert len(whole) > 600
    file = tmp_path / "blocks.bin"
    damaged = bytearray(file.read_bytes())
    middle = int(np.fromfile(tmp_path / "index.bin", [("end", "<u8"), ("crc", "<u4")])["end"][0]) + 700
    damaged[middle] ^= 4
    file.write_bytes(damaged)
    store = TargetStore(tmp_path)
    assert store[:256].ids.tolist() == whole[:256].ids.tolist()
    assert store[512:600].ids.tolist() == whole[512:600].ids.tolist()
    with pytest.raises(WorkError, match=r"blocks.bin: damaged from position 256 on"):
        store[255:257]


def test_another_format_is_refused(tmp_path, teacher, windows):
    write_targets(tmp_path, teacher, windows)
    info = tmp_path / "info.json"
    info.write_text(info.read_text().replace('"format": 3', '"format": 4'))
    with pytest.raises(WorkError, match="format 4"):
        TargetStore(tmp_path)


def test_a_folder_without_targets_is_named(tmp_path):
    with pytest.raises(WorkError, match="not a folder of targets"):
        TargetStore(tmp_path)


def test_windows_of_which_nothing_is_learned_are_not_read(tmp_path, teacher, windows):
    """Their block is damaged: the others' rows are there all the same, and theirs are empty."""
    store = write_targets(tmp_path, teacher, windows)
    batch = windows.window_batch([0, 20])
    whole = store.batch(batch)
    content = bytearray((tmp_path / "blocks.bin").read_bytes())
    content[5] ^= 1
    (tmp_path / "blocks.bin").write_bytes(content)
    store = TargetStore(tmp_path)
    assert "blocks.bin: targets from 0 on: checksum mismatch" in store.damage(0, LENGTH)
    assert "targets from 0 on" in store.damage(255, 257)
    assert store.damage(256, len(store)) is None
    assert store.damage(len(store), len(store) + 5) is None
    with pytest.raises(WorkError, match="damaged from position 0 on"):
        store.batch(batch)
    batch.mask[0] = False
    found = store.batch(batch)
    assert found.offsets[: LENGTH + 1].tolist() == [0] * (LENGTH + 1)
    torch.testing.assert_close(found[LENGTH:].probabilities, whole[LENGTH:].probabilities, rtol=0, atol=0)
    assert found[LENGTH:].ids.tolist() == whole[LENGTH:].ids.tolist()
    assert found.entropy.tolist() == [0.0] * LENGTH + whole.entropy[LENGTH:].tolist()
