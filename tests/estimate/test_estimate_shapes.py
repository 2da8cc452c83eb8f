"""Parameters and FLOPs against transformers' models and PyTorch's own counter of operations."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from gemmule.model.config import Gemma2Config
from gemmule.model.fast.attention import causal_mask
from gemmule.model.transformer import Gemma2
from gemmule.model.weights import save
from gemmule.teach.teachers.huggingface import HuggingFaceTeacher
from gemmule.teach.teachers.kinds import shape_of
from gemmule.teach.teachers.shape import of_config

CONFIG = Gemma2Config(300, layers=5, width=48, heads=4, kv_heads=2, head_dim=16, ffn_width=100, window=8)
OTHERS = {
    "llama": LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    ),
    "llama, tied": LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=True,
    ),
    "gpt2": GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64),
}  # fmt: skip


def test_flops_are_those_of_every_product_over_the_keys_that_are_seen():
    tokens = 50
    model = Gemma2(CONFIG)
    ids = torch.randint(300, (1, tokens))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids)
    # up to 64 tokens attention multiplies whole squares and masks what is not seen: count what is, in each layer
    positions = torch.arange(tokens)
    windows = [CONFIG.window if layer % 2 == 0 else None for layer in range(CONFIG.layers)]
    seen = sum(int((causal_mask(positions, positions, window, torch.float32) == 0).sum()) for window in windows)
    unseen = CONFIG.layers * tokens**2 - seen
    wasted = unseen * 4 * CONFIG.heads * CONFIG.head_dim  # a product for the score, another for the sum
    assert CONFIG.flops_per_token(tokens) * tokens == counter.get_total_flops() - wasted


def test_a_gemma2_folder(tmp_path):
    save(Gemma2(CONFIG), tmp_path)
    shape = shape_of(tmp_path, 64, vocabulary_size=100)
    assert shape is not None
    assert shape.parameters == AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters()
    assert shape.embedding_parameters == 300 * 48
    # its head is asked for 100 of 300 tokens
    assert CONFIG.flops_per_token(64) - shape.flops_per_token == 2 * 200 * 48
    assert shape.flops_per_token == shape.body_flops + 2 * 100 * 48


@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS.keys())
def test_other_architectures_by_their_headers_alone(config, tmp_path):
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    shape = shape_of(tmp_path, 32)
    loaded = HuggingFaceTeacher(model).sizes(32)
    assert shape is not None
    assert shape.config is None
    assert shape.parameters == loaded.parameters == model.num_parameters()
    assert shape.embedding_parameters == loaded.embedding_parameters
    # the table of positions is looked up, and counted there as if it were multiplied
    positions = 2 * 64 * 32 if config.model_type == "gpt2" else 0
    assert shape.flops_per_token == pytest.approx(loaded.flops_per_token - positions, abs=positions)


def test_a_gguf_file_is_counted_by_its_header(tmp_path):
    """Of Gemma 2 by its configuration, of another architecture by its tensors: the table is the head."""
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "gemma3")
    writer.add_block_count(2)
    writer.add_embedding_length(32)
    for name, shape in {
        "token_embd.weight": (300, 32),
        "blk.0.attn_output.weight": (32, 48),
        "n.weight": (32,),
    }.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shape = shape_of(tmp_path / "other.gguf", 64, vocabulary_size=100)
    assert shape is not None
    assert (shape.parameters, shape.embedding_parameters) == (300 * 32 + 32 * 48 + 32, 300 * 32)
    assert shape.head_flops == 2 * 100 * 32
    assert shape.flops_per_token == 2 * (32 * 48 + 100 * 32) + 2 * 2 * 32 * 64


def test_of_a_server_and_of_what_is_not_here_nothing_is_known(tmp_path):
    assert shape_of("http://localhost:1/v1", 32) is None
    assert shape_of("nobody/nothing", 32) is None


def test_a_configuration_counts_its_own(tmp_path):
    shape = of_config(CONFIG, 64)
    assert shape.parameters == sum(weight.numel() for weight in Gemma2(CONFIG).parameters())
    assert shape.flops_per_token == CONFIG.flops_per_token(64)
