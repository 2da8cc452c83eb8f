"""Models from elsewhere: what was written comes back bit for bit, and GGUF types are what llama.cpp reads."""

from __future__ import annotations

import json
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
from opened_in_llama_cpp import LlamaCpp, prompts
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from gemmule import tokenize
from gemmule.base import artifact
from gemmule.base.errors import RequestError
from gemmule.base.hashing import sha256_file
from gemmule.convert import gguf_write
from gemmule.convert.exporting import export_model
from gemmule.convert.importing import import_model
from gemmule.model.config import Gemma2Config
from gemmule.model.weights import load, read_config

EMBEDDING = "model.embed_tokens.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"
NORM = "model.norm.weight"


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert weight.dtype == other[name].dtype, name
        assert torch.equal(weight, other[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shard", ["1GB", "300KB"])
def test_what_transformers_writes(make_folder, tmp_path, dtype, shard):
    theirs = AutoModelForCausalLM.from_pretrained(make_folder(dtype=dtype), dtype="auto")
    theirs.generation_config.eos_token_id = [1, 107]
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=shard)
    written = import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    expected = {name: weight for name, weight in theirs.state_dict().items() if name != "lm_head.weight"}
    assert_same_bits(load_file(tmp_path / "ours" / "model.safetensors"), expected)
    assert written.type == {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    assert written.notes == ["no tokenizer was carried over"]
    assert json.loads((tmp_path / "ours" / "generation_config.json").read_text())["eos_token_id"] == [1, 107]
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype="auto")
    assert again.dtype == dtype


def test_the_manifest_says_where_it_came_from(make_folder, tmp_path):
    folder = make_folder()
    (folder / "README.md").write_text("their card")
    import_model(folder, tmp_path / "ours")
    ours = artifact.read(tmp_path / "ours")
    artifact.verify(ours)
    assert ours.settings["import.source"] == str(folder)
    assert ours.settings["import.sha256.model.safetensors"] == sha256_file(folder / "model.safetensors")
    assert (tmp_path / "ours" / "README.md").read_text() == "their card"
    import_model(tmp_path / "ours", tmp_path / "again")  # and of an artifact, its ancestry goes along
    assert artifact.read(tmp_path / "again").manifest.inputs == {"source": ours.hash}


def test_a_stored_head_is_dropped_if_it_is_the_embedding(make_folder, tmp_path):
    folder = make_folder()
    stored = load_file(folder / "model.safetensors")
    save_file(stored | {"lm_head.weight": stored[EMBEDDING].clone()}, folder / "model.safetensors")
    import_model(folder, tmp_path / "ours")
    assert_same_bits(load_file(tmp_path / "ours" / "model.safetensors"), stored)
    save_file(stored | {"lm_head.weight": stored[EMBEDDING] * 2}, folder / "model.safetensors")
    with pytest.raises(RequestError, match="lm_head"):
        import_model(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_exported_to_a_folder_and_imported(make_folder, words, tmp_path, dtype):
    folder = make_folder(dtype=dtype)
    export_model(folder, tmp_path / "hf", "hf")
    import_model(tmp_path / "hf", tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert read_config(tmp_path / "back") == read_config(folder)
    assert tokenize.load_tokenizer(tmp_path / "back").content_hash == tokenize.load_tokenizer(folder).content_hash


@pytest.mark.parametrize("attention", ["local", "global"])
def test_layers_of_one_kind_go_to_huggingface_and_not_to_gguf(make_folder, tmp_path, attention):
    folder = make_folder(attention=attention)
    export_model(folder, tmp_path / "hf", "hf", "f32")
    import_model(tmp_path / "hf", tmp_path / "back")
    assert read_config(tmp_path / "back") == read_config(folder)
    assert read_config(folder).attention == attention
    with pytest.raises(RequestError, match=f"attention = '{attention}': llama.cpp's Gemma 2 always alternates"):
        export_model(folder, tmp_path / "m.gguf", "gguf", "f32")
    assert not (tmp_path / "m.gguf").exists()


CHANGES = [
    {},
    {"query_scale": 64},  # a factor of 1/2
    {"query_scale": 5},
    {"layers": 46, "width": 32, "ffn_width": 32, "query_scale": 2},
    {"attention_cap": None, "final_cap": None, "rope_base": 123.456, "norm_epsilon": 1e-5, "window": 7},
    {"head_dim": 24, "kv_heads": 1, "context_length": 77},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_exported_to_gguf_and_imported(make_folder, tmp_path, changes):
    folder = make_folder(**changes)
    export_model(folder, tmp_path / "m.gguf", "gguf", "f32")
    assert import_model(tmp_path / "m.gguf", tmp_path / "back").notes == []
    assert read_config(tmp_path / "back") == read_config(folder)
    assert tokenize.load_tokenizer(tmp_path / "back").content_hash == tokenize.load_tokenizer(folder).content_hash
    config, ours, back = read_config(folder), load(folder).state_dict(), load(tmp_path / "back").state_dict()
    odd = config.query_scale == 5  # a factor that is no power of two: rounded twice
    for name, weight in ours.items():
        if odd and "q_proj" in name:
            assert not torch.equal(weight, back[name])
            torch.testing.assert_close(weight, back[name], rtol=2e-7, atol=0)
        else:
            assert torch.equal(weight, back[name]), name
    if not odd:
        export_model(tmp_path / "back", tmp_path / "again.gguf", "gguf", "f32")
        again, first = gguf.GGUFReader(tmp_path / "again.gguf"), gguf.GGUFReader(tmp_path / "m.gguf")
        for one, other in zip(first.tensors, again.tensors, strict=True):
            assert (one.name, one.data.tobytes()) == (other.name, other.data.tobytes())


def test_norms_that_someone_changed_in_the_file_are_taken_from_it(make_folder, tmp_path):
    folder = make_folder()
    file = tmp_path / "m.gguf"
    export_model(folder, file, "gguf", "f32")
    tensor = next(tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name == "output_norm.weight")
    changed = bytearray(file.read_bytes())
    changed[tensor.data_offset : tensor.data_offset + 4] = np.float32(7.5).tobytes()
    file.write_bytes(changed)
    import_model(file, tmp_path / "back")
    ours, back = load(folder).state_dict()[NORM], load(tmp_path / "back").state_dict()[NORM]
    assert back[0].item() == 6.5
    assert torch.equal(back[1:], ours[1:])


def test_a_round_trip_computes_the_same_to_the_last_bit(make_folder, tmp_path):
    folder = make_folder()
    export_model(folder, tmp_path / "m.gguf", "gguf", "f32")
    import_model(tmp_path / "m.gguf", tmp_path / "back")
    ids = torch.tensor(prompts((40,)))
    with torch.no_grad():
        assert torch.equal(load(folder)(ids), load(tmp_path / "back")(ids))


@pytest.mark.parametrize(("kind", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_stays_as_it_is(make_folder, tmp_path, kind, dtype):
    folder = make_folder(dtype=dtype)
    export_model(folder, tmp_path / "m.gguf", "gguf")  # the checkpoint's own type
    assert import_model(tmp_path / "m.gguf", tmp_path / "back").type == kind
    ours, back = load_file(folder / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert back[QUERY].dtype == dtype
    assert back[NORM].dtype == torch.float32
    for name, weight in ours.items():
        assert torch.equal(weight, back[name].to(dtype)), name


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_K", "Q6_K", "Q5_K"])
def test_quantised_types_are_what_llama_cpp_reads(make_folder, tmp_path, monkeypatch, kind):
    """gguf can't write the K types: their blocks are drawn here, and llama.cpp says what they mean."""
    wanted = gguf.GGMLQuantizationType[kind]
    folder = make_folder(calm=True, width=256, head_dim=64, ffn_width=256)
    generator = np.random.default_rng(0)

    def blocks(data, type):
        if type != wanted or kind in ("Q8_0", "Q4_0"):
            return gguf.quants.quantize(data, type)
        _, size = gguf.GGML_QUANT_SIZES[type]
        raw = generator.integers(0, 256, (data.shape[0], data.shape[1] // 256, size), dtype=np.uint8)
        scale = slice(208, 210) if kind == "Q6_K" else slice(0, 2)
        raw[..., scale] = np.array([3e-5 if kind == "Q6_K" else 2e-4], np.float16).view(np.uint8)
        if kind != "Q6_K":  # the blocks' minima
            raw[..., 2:4] = np.array([1e-3 if kind == "Q4_K" else 2e-3], np.float16).view(np.uint8)
        return raw.reshape(data.shape[0], -1)

    plan = gguf_write.plan_tensors
    monkeypatch.setattr(gguf_write, "quantize", blocks)
    monkeypatch.setattr(
        gguf_write,
        "plan_tensors",
        lambda config, _: [
            tensor._replace(kind=wanted) if len(tensor.shape) == 2 else tensor for tensor in plan(config, "f32")
        ],
    )
    export_model(folder, tmp_path / "m.gguf", "gguf", "f32")
    written = import_model(tmp_path / "m.gguf", tmp_path / "back")
    assert written.type == "f32"
    model, llama = load(tmp_path / "back"), LlamaCpp(tmp_path / "m.gguf")
    (prompt,) = prompts((40,), seed=7)
    with torch.no_grad():
        ours = torch.log_softmax(model(torch.tensor([prompt]))[0, -1], dim=-1)
    theirs = llama.log_probabilities(prompt, 30)
    spread = np.std(list(theirs.values()))
    assert spread > 0.1
    # llama.cpp rounds activations to eight bits, which is what differs
    assert max(abs(value - ours[number].item()) for number, value in theirs.items()) < 0.2 * spread


def test_another_tokenizer_is_left_behind_and_said(make_folder, tmp_path):
    folder = make_folder()
    export_model(folder, tmp_path / "m.gguf", "gguf", "f32")
    content = (tmp_path / "m.gguf").read_bytes()
    pre = b"tokenizer.ggml.pre" + b"\x08\0\0\0" + b"\x05\0\0\0\0\0\0\0" + b"qwen2"
    assert content.count(pre) == 1
    (tmp_path / "other.gguf").write_bytes(content.replace(pre, pre[:-5] + b"qwen9"))
    (note,) = import_model(tmp_path / "other.gguf", tmp_path / "back").notes
    assert "'gpt2'" in note
    assert "not carried over" in note
    assert not (tmp_path / "back" / "tokenizer.json").exists()
    load(tmp_path / "back")


def test_more_rows_than_tokens_come_back_and_are_never_drawn(make_folder, tmp_path):
    folder = make_folder(vocabulary_size=2056)
    export_model(folder, tmp_path / "m.gguf", "gguf", "f32")
    for source, out in ((tmp_path / "m.gguf", tmp_path / "a"), (folder, tmp_path / "b")):
        written = import_model(source, out)
        assert "8 rows" in written.notes[0]
        assert read_config(out).vocabulary_size == 2056
        assert tokenize.load_tokenizer(out).vocabulary_size == 2048
        theirs = AutoModelForCausalLM.from_pretrained(out)
        with torch.no_grad():
            theirs.model.embed_tokens.weight[2048:] *= 100
        drawn = theirs.generate(torch.tensor(prompts((5,))), max_new_tokens=20, do_sample=True)
        assert drawn.max() < 2048


@pytest.mark.parametrize("convert", [import_model, lambda a, b: export_model(a, b, "hf"),
                                     lambda a, b: export_model(a, b, "gguf")])  # fmt: skip
def test_fewer_rows_than_tokens_are_refused(make_folder, tmp_path, convert):
    with pytest.raises(RequestError, match=r"2040 rows .* 2048 tokens"):
        convert(make_folder(vocabulary_size=2040), tmp_path / "out")
    assert not (tmp_path / "out").exists()


MEASURE = """
import resource, sys
import torch
from gemmule.convert import gguf_names, gguf_read, gguf_tokenizer, importing
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
torch.ones(8).bfloat16() @ torch.ones(8).bfloat16()
before = peak()
written = importing.import_model(sys.argv[1], __import__("pathlib").Path(sys.argv[2]))
print((peak() - before) / (4 * written.parameters))
"""


@pytest.mark.parametrize("kind", ["f32", "q8_0", "folder"])
def test_memory_stays_below_the_model_and_a_third(make_folder, tmp_path, kind):
    folder = make_folder(width=512, ffn_width=4096, layers=4)
    assert read_config(folder).parameters * 4 > 100e6
    if kind != "folder":
        export_model(folder, tmp_path / "m.gguf", "gguf", kind)
    source = folder if kind == "folder" else tmp_path / "m.gguf"
    command = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "back")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.3


def test_what_is_there_is_not_overwritten(make_folder, tmp_path):
    folder = make_folder()
    (tmp_path / "taken").mkdir()
    with pytest.raises(RequestError, match="taken exists already"):
        import_model(folder, tmp_path / "taken")
    assert list((tmp_path / "taken").iterdir()) == []
    with pytest.raises(RequestError, match="no such folder"):
        import_model(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(RequestError, match="not a GGUF file"):
        import_model(folder / "model.safetensors", tmp_path / "out")
    with pytest.raises(RequestError, match="can't be written"):
        import_model(folder, folder / "config.json" / "out")
    assert Gemma2Config.from_huggingface(json.loads((folder / "config.json").read_text()))
