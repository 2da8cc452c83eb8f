"""Folders in and out: what transformers writes is read, what is wrong is refused in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config as TheirConfig
from transformers import Gemma2ForCausalLM as TheirModel

from gemmule.base.errors import GemmuleError, RequestError, WorkError
from gemmule.model.weights import load, save

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.layers.1.post_feedforward_layernorm.weight"


@pytest.fixture
def theirs(fill):
    config = TheirConfig(
        vocab_size=96, num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=40, sliding_window=8,
    )  # fmt: skip
    return fill(TheirModel(config))


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def assert_same_weights(model, expected):
    ours = model.state_dict()
    assert ours.keys() == expected.keys() - {"lm_head.weight"}
    for name, weight in ours.items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, expected[name].float()), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_what_transformers_saves(theirs, tmp_path, dtype, shard):
    theirs.to(dtype).save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() is (shard == "20KB")
    model = load(str(tmp_path))
    assert_same_weights(model, theirs.state_dict())
    assert not model.training
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_head_stored_beside_the_embedding(theirs, folder):
    change_weights(folder, lambda weights: weights.update({"lm_head.weight": weights[EMBEDDING].clone()}))
    assert_same_weights(load(folder), theirs.state_dict())


def test_mixed_types(theirs, folder):
    change_weights(folder, lambda weights: weights.update({NORM: weights[NORM].bfloat16()}))
    expected = theirs.state_dict()
    expected[NORM] = expected[NORM].bfloat16()
    assert_same_weights(load(folder), expected)


def test_weights_are_copied_from_the_file(theirs, folder):
    model = load(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(size // 2)
        file.write(b"\xff" * (size - size // 2))
    assert_same_weights(model, theirs.state_dict())


def differing_head(weights):
    weights["lm_head.weight"] = weights[EMBEDDING].clone()
    weights["lm_head.weight"][3, 4] += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(NORM), f"are missing {NORM}$"),
        (lambda weights: [weights.pop(name) for name in list(weights)[2:5]], "are missing .* and 2 more"),
        (lambda weights: weights.pop(EMBEDDING), f"are missing {EMBEDDING}"),
        (lambda weights: weights.update({NORM: torch.zeros(33)}), rf"{NORM} has shape \[33\].* \[32\]"),
        (lambda weights: weights.update({EMBEDDING: torch.zeros(95, 32)}), r"embed_tokens.* \[95, 32\].* \[96, 32\]"),
        (lambda weights: weights.update({NORM: torch.zeros(32, dtype=torch.float64)}), f"{NORM} is stored as F64"),
        (lambda weights: weights.update({NORM: torch.zeros(32, dtype=torch.int8)}), f"{NORM} is stored as I8"),
        (lambda weights: weights.update({"model.layers.2.x": torch.zeros(1)}), "model.layers.2.x is not a tensor"),
        (differing_head, "lm_head.weight differs from model.embed_tokens.weight"),
    ],
)
def test_weights_that_are_not_those_of_config_json(folder, change, message):
    change_weights(folder, change)
    with pytest.raises(RequestError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_another_architecture(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "gemma3_text"}))
    with pytest.raises(RequestError, match=r"model: config.json: model_type is 'gemma3_text'"):
        load(folder)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def cut_in_header(file):
    file.write_bytes(file.read_bytes()[:50])


def empty(file):
    file.write_bytes(b"")


def lie_about_header(file):
    file.write_bytes(struct.pack("<Q", 2**40) + file.read_bytes()[8:])


def lie_about_tensor(file):
    """The header claims a tensor past the end of the file."""
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])
    header[last]["shape"][0] *= 1000
    header[last]["data_offsets"][1] = header[last]["data_offsets"][0] + 4000 * header[last]["shape"][0]
    lie = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(lie)) + lie + content[8 + length :])


@pytest.mark.parametrize("damage", [cut, cut_in_header, empty, lie_about_header, lie_about_tensor])
@pytest.mark.parametrize("sharded", [False, True])
def test_damaged_files(theirs, tmp_path, damage, sharded):
    theirs.save_pretrained(tmp_path, max_shard_size="20KB" if sharded else "1GB")
    file = sorted(tmp_path.glob("*.safetensors"))[-1]
    damage(file)
    with pytest.raises(WorkError, match=f"{file}: damaged or cut short") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), RequestError, "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), WorkError, "config.json: can't be read"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff"), WorkError, "config.json: can't be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), WorkError, "config.json: not a JSON object"),
        (lambda folder: (folder / "model.safetensors").unlink(), RequestError, "has no model.safetensors"),
        (lambda folder: shutil.rmtree(folder), RequestError, "no such folder"),
    ],
)
def test_folders_that_are_no_model(folder, damage, error, message):
    damage(folder)
    with pytest.raises(error, match=message):
        load(folder)


def test_a_file_is_no_model(folder):
    with pytest.raises(RequestError, match="a file; a folder or a hub id is needed"):
        load(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("weight_map"), "has no weight_map"),
        (lambda index: index["weight_map"].update({NORM: "../elsewhere.safetensors"}), "outside its folder"),
        (lambda index: index["weight_map"].update({NORM: "model-9.safetensors"}), "model-9.safetensors: missing"),
    ],
)
def test_a_wrong_index(theirs, tmp_path, change, message):
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    file = tmp_path / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(index))
    with pytest.raises(GemmuleError, match=message):
        load(tmp_path)


def test_a_tensor_in_two_shards(theirs, tmp_path):
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    first, *_, last = sorted(tmp_path.glob("*.safetensors"))
    shutil.copy(first, last)
    with pytest.raises(RequestError, match="is in model-00001"):
        load(tmp_path)


def test_saving_and_loading_again(make_model, tmp_path):
    model = make_model()
    save(model, tmp_path / "a" / "b")
    assert_same_weights(load(tmp_path / "a" / "b"), model.state_dict())
    control = json.loads((tmp_path / "a" / "b" / "generation_config.json").read_text())
    assert control == {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}


def test_bytes_depend_on_the_weights_alone(make_model, tmp_path):
    def digest(name, model):
        save(model, tmp_path / name)
        return hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).hexdigest()

    first = digest("first", make_model(seed=1))
    again = make_model(seed=1)
    again.train()
    again(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.int64)).backward()
    assert digest("second", again) == first
    assert digest("third", load(tmp_path / "first")) == first
    assert digest("other", make_model(seed=2)) != first


def test_bytes_are_those_that_safetensors_writes(make_model, tmp_path):
    model = make_model()
    model.model.embed_tokens.bfloat16()
    model.model.layers[1].half()
    save(model, tmp_path)
    save_file(model.state_dict(), tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_folder_that_can_t_be_written(make_model, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(WorkError, match="taken: can't be written"):
        save(make_model(), tmp_path / "taken")


def test_a_hub_id_is_fetched(theirs, folder, monkeypatch):
    asked = {}

    def fetch(name, allow_patterns, local_files_only):
        assert not local_files_only
        asked[name] = allow_patterns
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert_same_weights(load("google/gemma-2-2b"), theirs.state_dict())
    assert asked == {"google/gemma-2-2b": ["*.json", "*.safetensors"]}


def test_a_hub_id_without_a_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RequestError, match="nobody/nothing-at-all: no such folder here, and could not be") as caught:
        load("nobody/nothing-at-all")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["nothing", "a/b/c", "/nobody/nothing", "../nothing", "./nothing/", ""])
def test_what_is_neither_folder_nor_hub_id(source, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(RequestError, match=r"no such folder|has no config\.json"):
        load(source)
