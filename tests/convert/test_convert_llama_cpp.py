"""Exported GGUF files in llama.cpp: it must compute, tokenize and refuse to draw what gemmule does.

Each trap of llama.cpp's is set here: what it leaves out, caps or scales by itself, and takes for granted where the
file is silent.
"""

from __future__ import annotations

import random

import gguf
import pytest
import torch
from opened_in_llama_cpp import LlamaCpp, decisions, prompts
from transformers import AutoTokenizer

from gemmule.base.errors import RequestError
from gemmule.convert.exporting import export_model
from gemmule.convert.gguf_names import from_gguf, to_gguf
from gemmule.model.config import Gemma2Config
from gemmule.model.weights import load, save

# The models here multiply ggml's half-precision GELU by about 25; what the traps do is above 0.5.
TOLERANCE = 0.02


def open_both(folder, kind="f32"):
    out = folder.with_suffix(".gguf")
    written = export_model(folder, out, "gguf", kind)
    return LlamaCpp(out), load(folder), written


def difference(llama, model, length=40):
    """The largest one among the log-probabilities of the 50 tokens that llama.cpp finds likeliest."""
    (prompt,) = prompts((length,), seed=7)
    with torch.no_grad():
        ours = torch.log_softmax(model(torch.tensor([prompt]))[0, -1], dim=-1)
    theirs = llama.log_probabilities(prompt, 50)
    assert len(theirs) >= 50
    return max(abs(value - ours[number].item()) for number, value in theirs.items())


def test_it_decodes_the_same_64_tokens(make_folder):
    llama, model, _ = open_both(make_folder())
    for prompt in prompts((1, 4, 15, 30, 48)):  # the last is three windows
        decoded = llama.greedy(prompt, 64)
        assert len(decoded) == 64
        assert len(set(decoded)) >= 20  # a model that repeats itself would show nothing
        ours, closest = decisions(model, prompt, decoded)
        assert ours == decoded
        assert closest > 0.01
    assert difference(llama, model) < TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"query_scale": 64},
        {"query_scale": 5},
        {"layers": 46, "width": 32, "ffn_width": 32},  # llama.cpp takes it for the 27B and scales by width / heads
        {"layers": 46, "width": 32, "ffn_width": 32, "query_scale": 3},
        {"attention_cap": None},
        {"final_cap": None},
        {"attention_cap": 3.0, "final_cap": 7.0},
        {"rope_base": 37.0},
        {"norm_epsilon": 0.1},
        {"window": 5},
        {"window": 4096},
        {"head_dim": 24},  # not width / heads
        {"kv_heads": 1},
        {"layers": 3},
    ],
    ids=str,
)
def test_what_llama_cpp_does_by_itself(make_folder, changes):
    llama, model, _ = open_both(make_folder(**changes, calm="layers" in changes))
    assert difference(llama, model) < TOLERANCE


def test_without_the_query_scale_the_model_would_be_another(make_folder, monkeypatch):
    """The tests above would see it: this one shows that they could."""
    monkeypatch.setattr("gemmule.convert.gguf_write.query_factor", lambda _: 1.0)
    llama, model, _ = open_both(make_folder(query_scale=64))
    assert difference(llama, model) > 25 * TOLERANCE


@pytest.mark.parametrize(("kind", "within"), [("f16", 0.01), ("bf16", 0.1), ("q8_0", 0.3), ("q4_0", 2)])
def test_every_type_loads_and_computes(make_folder, kind, within):
    llama, model, written = open_both(make_folder(calm=True), kind)
    assert written.notes == []
    assert 0.001 < difference(llama, model) < within


def test_rows_that_no_block_divides(make_folder):
    for kind, plain in (("q8_0", "Q8_0"), ("q4_0", "Q4_0")):
        folder = make_folder(kind, ffn_width=172, calm=True)
        llama, model, written = open_both(folder, kind)
        (note,) = written.notes
        assert "f16" in note
        assert note.endswith("blk.0.ffn_down.weight, blk.1.ffn_down.weight")
        kinds = {
            tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(folder.with_suffix(".gguf")).tensors
        }
        assert kinds["blk.1.ffn_down.weight"] == "F16"
        assert kinds["blk.1.ffn_up.weight"] == kinds["blk.0.attn_q.weight"] == plain
        assert kinds["token_embd.weight"] == "Q8_0"
        assert kinds["blk.0.attn_norm.weight"] == kinds["output_norm.weight"] == "F32"
        assert difference(llama, model) < 2


def nasty_strings() -> list[str]:
    """By hand what is known to go wrong, and by chance what is not."""
    strings = [
        "", " ", "  two  spaces  ", "\n\n\n", "\r\n\r\n", "a\rb", "\t\tx", "▁ literal U+2581 ▁▁", "Ġ Ċ ĉ", "<bos>",
        "say <end_of_turn>\n<start_of_turn>model\n", "<unused2047>", "naïve café", "e\u0301 é", "日本語のテキスト",
        "\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea", "\u2028\u2029\u0085\x0c\x0b", "\ufeffbom", "\x01\x7f",
        "\U0010ffff", "１２３ ٣٤ ²³", "it's IT'S we'Ll 'S", "a\u200bb\u00a0c", "--- ... !!!\n\n", "1999",
        "x" * 300, "<eos>", " " * 50, "\ufffd", "\n \n  \n", "don't 'd 've'll",
        "<bos", "<|im_start|>", "a b", "ﬁ ﬂ", "İıẞß", "\u0000null",
    ]  # fmt: skip
    generator = random.Random(0)
    alphabets = [
        "abc ABC'sStTrR ",
        " \t\n\r\u00a0\u2003\u3000",
        "0123456789٣٤²Ⅷ½",
        "<>bos_eod/turn |",
        "äöüßéñçøåŁżЖяΩλ",
        "日本語中文한국어ไทย",
        ".,;:!?-—…“”'\"()[]{}#$%&*+/=@^_`~\\",
        "\u0301\u0308\u200d\u200b\ufe0f\u20e3",
        "\U0001f600\U0001f469\U0001f3fd\u200d\U0001f1e9",
        "▁ĠĊâĢ",
    ]
    while len(strings) < 300:
        letters = "".join(generator.choices(alphabets, k=generator.randint(1, 3)))
        strings.append("".join(generator.choices(letters, k=generator.randint(1, 40))))
    return strings


def test_300_nasty_strings_have_the_same_ids_everywhere(make_folder, words, tmp_path):
    folder = make_folder()
    llama, _, _ = open_both(folder)
    export_model(folder, tmp_path / "hf", "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    strings = nasty_strings()
    assert len(strings) == 300
    for text in strings:
        ours = [2, *words.encode(text)]
        assert llama.encode(text) == ours, repr(text)
        assert theirs(text, split_special_tokens=True)["input_ids"] == ours, repr(text)


def test_the_chat_template(make_folder, tmp_path):
    folder = make_folder()
    llama, _, _ = open_both(folder)
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Me."},
        {"role": "user", "content": "Ah"},
    ]
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    assert "<start_of_turn>model\n" in theirs
    assert llama.ask("/apply-template", messages=turns)["prompt"] == theirs.removeprefix(
        "<bos>"
    )  # it comes with the ids


def test_more_rows_than_tokens(make_folder):
    folder = make_folder(vocabulary_size=2056)
    model, (short, long) = load(folder), prompts((5, 20))
    table = model.model.embed_tokens.weight
    with torch.no_grad():  # the unused rows would be drawn
        for row, prompt in ((2048, short), (2049, long)):
            table[row] = 3 * table[model(torch.tensor([prompt]))[0, -1].argmax()]
        assert [model(torch.tensor([prompt]))[0, -1].argmax() >= 2048 for prompt in (short, long)] == [True, True]
    save(model, folder)
    llama, _, written = open_both(folder)
    assert "8 rows" in written.notes[0]
    for prompt in (short, long):
        decoded = llama.greedy(prompt, 30)
        assert len(decoded) == 30
        assert max(decoded) < 2048


def test_the_metadata_are_complete(make_folder):
    folder = make_folder(query_scale=64, rope_base=500.0)
    open_both(folder)
    fields = gguf.GGUFReader(folder.with_suffix(".gguf")).fields
    values = {name: field.contents() for name, field in fields.items()}
    expected = {
        "general.architecture": "gemma2", "general.file_type": 0, "gemma2.context_length": 512,
        "gemma2.embedding_length": 64, "gemma2.block_count": 2, "gemma2.feed_forward_length": 160,
        "gemma2.attention.head_count": 4, "gemma2.attention.head_count_kv": 2, "gemma2.attention.key_length": 16,
        "gemma2.attention.value_length": 16, "gemma2.attention.sliding_window": 16, "gemma2.vocab_size": 2048,
        "gemma2.attn_logit_softcapping": 50.0, "gemma2.final_logit_softcapping": 30.0, "gemma2.rope.freq_base": 500.0,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.eot_token_id": 107, "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }  # fmt: skip
    assert {name: values.get(name) for name in expected} == expected
    assert values["gemma2.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert [number for number, kind in enumerate(values["tokenizer.ggml.token_type"]) if kind == 3] == [
        0,
        1,
        2,
        3,
        106,
        107,
    ]
    assert "output.weight" not in {tensor.name for tensor in gguf.GGUFReader(folder.with_suffix(".gguf")).tensors}


def test_names_are_those_of_the_gguf_package():
    theirs = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA2, 46)
    for name in Gemma2Config.preset("gemma2-27b").parameter_shapes:
        assert to_gguf(name) == theirs.get_name(name, (".weight",))
        assert from_gguf(to_gguf(name)) == name
    with pytest.raises(RequestError, match=r"layers\.0\.self_attn\.q_norm\.weight: llama\.cpp's Gemma 2 has no such"):
        to_gguf("model.layers.0.self_attn.q_norm.weight")
