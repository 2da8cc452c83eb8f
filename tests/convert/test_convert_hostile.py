"""Damaged and hostile files: one clear line, nothing left behind, no memory for what a header merely claims."""

from __future__ import annotations

import json
import resource
import struct

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from gemmule.base.errors import GemmuleError, RequestError, WorkError
from gemmule.convert import gguf_names
from gemmule.convert.exporting import export_model
from gemmule.convert.importing import gguf_architecture, import_model
from gemmule.model.weights import load
from gemmule.teach.teachers import gemma2
from gemmule.teach.teachers.gemma2 import load as load_teacher
from gemmule.tokenize import load_tokenizer

SMALL = {"width": 16, "heads": 2, "kv_heads": 1, "head_dim": 8, "ffn_width": 32, "layers": 1}


@pytest.fixture
def folder(make_folder):
    return make_folder(**SMALL)


@pytest.fixture
def content(folder, tmp_path):
    """A GGUF file's bytes, to be damaged."""
    export_model(folder, tmp_path / "whole.gguf", "gguf", "f32")
    return (tmp_path / "whole.gguf").read_bytes()


def refuse(source, kind=GemmuleError, match=r"\S"):
    out, before = source.parent / "out", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(kind, match=match) as caught:
        import_model(source, out)
    assert "\n" not in str(caught.value)
    assert source.name in str(caught.value)
    assert not list(source.parent.glob("*out*")), "something was left behind"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("sixteenth", range(16))
def test_a_gguf_cut_short(content, tmp_path, sixteenth):
    file = tmp_path / "cut.gguf"
    file.write_bytes(content[: len(content) * sixteenth // 16])
    refuse(file, GemmuleError, "cut short" if sixteenth else "not a GGUF file")
    file.write_bytes(content[:-1])
    refuse(file, WorkError, "cut short")


@pytest.mark.parametrize("sixteenth", range(16))
def test_safetensors_cut_short(folder, sixteenth):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * sixteenth // 16])
    refuse(folder, WorkError, "damaged or cut short")


def after(content, name, skip):
    """Where the bytes `skip` past `name` begin; `name` as a string of the header, its length before it."""
    return content.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name) + skip


@pytest.mark.parametrize(
    ("place", "name", "skip", "size"),
    [
        ("number of tensors", None, 8, 8),
        ("number of keys", None, 16, 8),
        ("length of a key", None, 24, 8),
        ("length of a string", "general.architecture", 4, 8),
        ("entries of an array of strings", "tokenizer.ggml.tokens", 8, 8),
        ("entries of an array of numbers", "tokenizer.ggml.token_type", 8, 8),
        ("length of a token", "tokenizer.ggml.tokens", 16, 8),
        ("length of a tensor's name", "token_embd.weight", -25, 8),
        ("number of dimensions", "token_embd.weight", 0, 4),
        ("width of a tensor", "token_embd.weight", 4, 8),
        ("rows of a tensor", "token_embd.weight", 12, 8),
        ("offset of a tensor", "token_embd.weight", 24, 8),
        ("layers", "gemma2.block_count", 4, 4),
        ("width", "gemma2.embedding_length", 4, 4),
        ("feed-forward width", "gemma2.feed_forward_length", 4, 4),
        ("heads", "gemma2.attention.head_count", 4, 4),
        ("head_dim", "gemma2.attention.key_length", 4, 4),
    ],
)
@pytest.mark.parametrize("claim", [0, 2**31 - 2, 2**60, 2**64 - 1])
def test_a_gguf_that_claims_too_much(content, tmp_path, place, name, skip, size, claim):
    at = skip if name is None else after(content, name, skip)
    lie = struct.pack("<Q", claim)[:size] if claim < 2**32 or size == 8 else b"\xff" * size
    damaged = content[:at] + lie + content[at + size :]
    if (place, claim) in (("head_dim", 0), ("offset of a tensor", 0)):
        pytest.skip("no lie: the default head_dim, and where the table does begin")
    (tmp_path / "lie.gguf").write_bytes(damaged)
    refuse(tmp_path / "lie.gguf")


@pytest.mark.parametrize(
    ("old", "new", "kind", "match"),
    [
        (b"blk.0.attn_k.weight", b"blk.0.attn_v.weight", WorkError, "duplicate.*attn_v"),
        (b"blk.0.attn_k.weight", b"blk.0.attn_x.weight", RequestError, "blk.0.attn_x.weight is not a tensor"),
        (b"blk.0.attn_k.weight", b"blk.9.attn_k.weight", RequestError, "model.layers.9.*is not a tensor"),
        (b"token_embd.weight", b"token_embx.weight", RequestError, "token_embd.weight is missing"),
        (b"\x06\0\0\0\0\0\0\0gemma2", b"\x06\0\0\0\0\0\0\0gemma3", RequestError, "architecture is 'gemma3'"),
        (b"gemma2.block_count", b"gemma2.block_coun_", RequestError, "lacks gemma2.block_count"),
        (b"gemma2.context_length", b"gemma2.context_lengt\xff", WorkError, "damaged"),
        (b"GGUF\x03", b"GGUF\x04", WorkError, "version 4"),
        (b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03", GemmuleError, r"\S"),
    ],
)
def test_a_gguf_of_something_else(content, tmp_path, old, new, kind, match):
    assert content.count(old) >= 1
    (tmp_path / "other.gguf").write_bytes(content.replace(old, new, 1))
    refuse(tmp_path / "other.gguf", kind, match)


def test_gguf_tensors_of_another_shape_or_type(content, tmp_path):
    at = after(content, "blk.0.attn_q.weight", 4)  # its dimensions are 16 and 16: made 8 and 32
    (tmp_path / "shape.gguf").write_bytes(content[:at] + struct.pack("<QQ", 8, 32) + content[at + 16 :])
    refuse(tmp_path / "shape.gguf", RequestError, r"q_proj.weight has shape \[32, 8\].* \[16, 16\]")
    for number, match in ((24, "stored as I8"), (99, "damaged"), (8, "damaged")):  # 8: Q8_0, rows of 16 do not divide
        changed = content[: at + 16] + struct.pack("<I", number) + content[at + 20 :]
        (tmp_path / "type.gguf").write_bytes(changed)
        refuse(tmp_path / "type.gguf", GemmuleError, match)


@pytest.mark.parametrize("claim", [2**20, 2**31, 2**40, 2**62, 2**70])
@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size", "head_dim"])
def test_a_config_that_claims_too_much(folder, key, claim):
    settings = json.loads((folder / "config.json").read_text()) | {key: claim}
    (folder / "config.json").write_text(json.dumps(settings))
    refuse(folder)


def test_no_partial_file_where_an_export_fails(make_folder, tmp_path):
    import torch

    from gemmule.model.weights import load, save

    folder = make_folder(**SMALL)
    model = load(folder)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] = 1e6
    save(model, folder)
    for format, type in (("hf", "f16"), ("gguf", "f16")):
        with pytest.raises(WorkError, match=r"model.layers.0.mlp.down_proj.weight: a weight of 1000000 .* try bf16"):
            export_model(folder, tmp_path / "out", format, type)
        assert not list(tmp_path.glob("*out*"))


def offset_of(content, name):
    """Where a tensor's offset stands: behind its name, its two sizes and its type."""
    return after(content, name, 4 + 16 + 4)


@pytest.mark.parametrize("distance", [0, 32])
def test_gguf_tensors_over_each_other(content, tmp_path, distance):
    """Two tensors at one offset; and one that begins inside another."""
    to, of = offset_of(content, "blk.0.attn_k.weight"), offset_of(content, "blk.0.attn_v.weight")
    place = struct.unpack_from("<Q", content, of)[0] + distance
    file = tmp_path / "over.gguf"
    file.write_bytes(content[:to] + struct.pack("<Q", place) + content[to + 8 :])
    refuse(
        file, WorkError, r"damaged: blk\.0\.attn_[kv]\.weight has an impossible offset, after blk\.0\.attn_[kv]\.weight"
    )
    with pytest.raises(WorkError, match="impossible offset"):
        gguf_architecture(file)  # of a teacher of any architecture


def test_a_gguf_tensor_beyond_the_file_s_end(content, tmp_path):
    at = offset_of(content, "blk.0.attn_k.weight")
    file = tmp_path / "beyond.gguf"
    file.write_bytes(content[:at] + struct.pack("<Q", len(content) // 32 * 32) + content[at + 8 :])
    refuse(file, WorkError, "damaged or cut short")


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_in_a_gguf(make_folder, tmp_path, recwarn, kind, value):
    folder = make_folder(**(SMALL | {"ffn_width": 64}))
    export_model(folder, tmp_path / "bad.gguf", "gguf", kind)
    reader = GGUFReader(tmp_path / "bad.gguf", "r+")
    tensor = next(tensor for tensor in reader.tensors if tensor.name == "blk.0.ffn_down.weight")
    bits = {"f32": np.float32(value).view("<u4"), "bf16": np.float32(value).view("<u4") >> 16}
    stored = bits.get(kind, np.float16(value).view("<u2"))  # q8_0: the scale of a block
    stored = np.atleast_1d(stored.astype("<u4" if kind == "f32" else "<u2")).view(np.uint8)
    tensor.data.view(np.uint8).reshape(-1)[: len(stored)] = stored
    reader.data.flush()
    refuse(tmp_path / "bad.gguf", RequestError, r"bad\.gguf: blk\.0\.ffn_down\.weight holds \d+ or more values")
    assert not [warning for warning in recwarn if "invalid value" in str(warning.message)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_in_a_folder(folder, tmp_path, value):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][3, 5] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    words = r"model\.layers\.0\.mlp\.up_proj\.weight holds 1 or more values that are not finite"
    refuse(folder, RequestError, words)
    for use in (load, lambda source: load_teacher(source, torch.device("cpu")),
                lambda source: export_model(source, tmp_path / "x", "hf"),
                lambda source: export_model(source, tmp_path / "x", "gguf")):  # fmt: skip
        with pytest.raises(RequestError, match=words):
            use(folder)
    assert not list(tmp_path.glob("*x*"))


def test_a_head_without_the_embedding_is_it(folder, tmp_path):
    before = load(folder).state_dict()
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert all(torch.equal(weight, before[name]) for name, weight in load(folder).state_dict().items())
    import_model(folder, tmp_path / "out")
    assert all(torch.equal(weight, before[name]) for name, weight in load(tmp_path / "out").state_dict().items())


def test_a_gguf_whose_table_is_its_head(folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setitem(gguf_names.NAMES, "model.embed_tokens", "output")
        export_model(folder, tmp_path / "head.gguf", "gguf", "f32")
    assert b"token_embd" not in (tmp_path / "head.gguf").read_bytes()
    import_model(tmp_path / "head.gguf", tmp_path / "out")
    ours, theirs = load(folder).state_dict(), load(tmp_path / "out").state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_artifact_that_is_not_as_it_was_written_is_not_used(folder, tmp_path, file):
    import_model(folder, tmp_path / "ours")
    changed = tmp_path / "ours" / file
    content = bytearray(changed.read_bytes())
    place = content.rindex(b"1") if file.endswith(".json") else len(content) - 2
    content[place] ^= 1
    changed.write_bytes(content)
    words = rf"{file}: changed since it was written .*copy .*ours without its manifest\.json"
    for use in (lambda out: export_model(tmp_path / "ours", out, "hf"),
                lambda out: export_model(tmp_path / "ours", out, "gguf"),
                lambda out: import_model(tmp_path / "ours", out)):  # fmt: skip
        with pytest.raises(WorkError, match=words):
            use(tmp_path / "x")
    assert not list(tmp_path.glob("*x"))
    with pytest.raises(WorkError, match=words):
        load_tokenizer(tmp_path / "ours") if file == "tokenizer.json" else load(tmp_path / "ours")
    (tmp_path / "ours" / "manifest.json").unlink()
    content[place] ^= 1
    changed.write_bytes(content)
    assert load(tmp_path / "ours")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "consolidated.00.pth"])
def test_a_pickle_is_not_read_and_its_user_told_how_to_convert_it(folder, file):
    (folder / "model.safetensors").rename(folder / file)
    words = rf"its weights are a pickle \({file}\).*never read.*python -c .*save_pretrained"
    refuse(folder, RequestError, words)
    for use in (load, lambda source: gemma2.KIND.check(source, 16)):
        with pytest.raises(RequestError, match=words):
            use(folder)
