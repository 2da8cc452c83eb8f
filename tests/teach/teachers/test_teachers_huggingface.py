"""Teachers of other architectures against transformers' own logits, on tiny random models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from stored_targets import write_targets
from torch.nn import functional as F

from gemmule import tokenize
from gemmule.base.errors import RequestError
from gemmule.evaluate.figures import measure_one
from gemmule.evaluate.passages import StreamPassages
from gemmule.teach.teachers import huggingface
from gemmule.teach.teachers.huggingface import HuggingFaceTeacher, positions_in
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Windows

V, CPU = 300, torch.device("cpu")
LLAMA = {
    "vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
GEMMA = LLAMA | {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0}
SHAPES = {
    "gemma2": GEMMA,
    "gemma3_text": GEMMA | {"final_logit_softcapping": None},
    "llama": LLAMA | {"tie_word_embeddings": False},
    "qwen2": LLAMA,
    "qwen3": LLAMA | {"head_dim": 8},
    "gpt2": {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "phi": LLAMA,  # a head with a bias
    "cohere": LLAMA | {"logit_scale": 0.25},
    "granite": LLAMA | {"logits_scaling": 4.0},
}


def make(kind: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    settings = SHAPES[kind] | {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **settings)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight) * (0.3 if name.endswith("bias") else 0.1))
    return model


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    return make(request.param)


@pytest.fixture
def ids():
    return torch.randint(3, V, (2, 20), generator=torch.Generator().manual_seed(1))


def test_logits_are_the_models_own_and_exist_only_when_asked_for(model, ids):
    teacher = HuggingFaceTeacher(model)
    expected = teacher.expect(ids)
    own = model(ids).logits.flatten(0, 1)
    assert teacher.vocabulary_size == V
    assert expected.weight is not None
    assert expected.hidden.shape == (40, 32)
    torch.testing.assert_close(expected.logits(), own, rtol=1e-4, atol=1e-5)


def test_documents_apart_are_read_as_if_alone(model, ids):
    documents = torch.tensor([[0] * 7 + [1] * 13, [4] * 20])
    logits = HuggingFaceTeacher(model).expect(ids, documents).logits().view(2, 20, V)
    for row, begin, end in ((0, 0, 7), (0, 7, 20), (1, 0, 20)):
        alone = model(ids[row : row + 1, begin:end]).logits[0]
        torch.testing.assert_close(logits[row, begin:end], alone, rtol=1e-4, atol=1e-5)
    together = HuggingFaceTeacher(model).expect(ids).logits().view(2, 20, V)
    assert (together[0, 7:] - logits[0, 7:]).abs().max() > 1e-3


def test_positions_begin_anew_with_each_document():
    documents = torch.tensor([[3, 3, 3, 4, 4, 9], [1, 2, 3, 3, 3, 3]])
    assert positions_in(documents).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 2, 3]]


def test_a_head_that_is_no_product_gives_its_own_logits(ids):
    model = make("llama")
    plain = model.forward
    model.forward = lambda *arguments, **named: _doubled(plain(*arguments, **named))
    teacher = HuggingFaceTeacher(model)
    expected = teacher.expect(ids)
    assert expected.weight is None
    torch.testing.assert_close(expected.logits(), plain(ids).logits.flatten(0, 1) ** 3)


def _doubled(output):
    output.logits = output.logits**3
    return output


@pytest.mark.parametrize("bos", [True, False], ids=["with <bos>", "without"])
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_stored_targets_say_what_transformers_says(texts, tmp_path, bos, apart):
    """Entropy and cross-entropy of the stored windows, position by position, and an empty row where nothing stands."""
    words = tokenize.train(texts, V)
    shards = write_shards(texts[:3], words, tmp_path / "tokens")
    windows = Windows(shards, 16, words.bos_id if bos else None, words.pad_id, separate_documents=apart)
    model = make("qwen2")
    teacher = HuggingFaceTeacher(model)
    store = write_targets(tmp_path / "targets", teacher, windows, bytes_per_token=400, positions=10**6)
    assert len(store) == len(shards)
    stream, starts = torch.from_numpy(shards[:]), shards.document_starts.tolist()
    for begin in (0, 16, 16 * (starts[1] // 16), 16 * (len(shards) // 16)):
        window = stream[begin : begin + 16]
        cuts = [s - begin for s in starts if begin < s < begin + len(window) - 1 + bos] if apart else []
        if bos:  # each document begins with one of its own
            front = torch.tensor([words.bos_id])
            pieces = [torch.cat([front, piece[:-1]]) for piece in torch.tensor_split(window, cuts)]
        else:
            pieces = torch.tensor_split(window[:-1], cuts)
        logits = torch.cat([model(piece[None]).logits[0] for piece in pieces if len(piece)])
        stored = store[begin : begin + len(window)]
        if not bos:
            assert int(stored.offsets[1]) == 0
            stored = stored[1:]
        log_p = logits.log_softmax(-1)
        torch.testing.assert_close(stored.entropy, -(log_p.exp() * log_p).sum(-1), rtol=2e-3, atol=2e-3)
        dense = torch.zeros_like(logits).index_put_((stored.rows, stored.ids), stored.probabilities, accumulate=True)
        assert (dense - log_p.exp()).abs().max() < 2 * store.coding.scheme.setting
    figures = measure_one(teacher, StreamPassages(windows), None, "t")
    if not apart:
        losses = []
        for begin in range(0, len(stream), 16):
            window = stream[begin : begin + 16]
            read = torch.cat([torch.tensor([words.bos_id]), window[:-1]]) if bos else window[:-1]
            if len(read):
                losses.append(F.cross_entropy(model(read[None]).logits[0], window[-len(read) :], reduction="none"))
        assert figures["perplexity"] == pytest.approx(torch.cat(losses).mean().exp().item(), rel=1e-4)


def test_a_saved_folder_is_read_and_a_damaged_one_refused(tmp_path, ids):
    model = make("gpt2")
    model.save_pretrained(tmp_path / "whole")
    teacher = huggingface.load(tmp_path / "whole", CPU)
    torch.testing.assert_close(teacher.expect(ids).logits(), model(ids).logits.flatten(0, 1), rtol=1e-4, atol=1e-5)
    assert teacher.sizes(16).parameters == model.num_parameters()
    assert teacher.write_ids([5, 6], max_new_tokens=3, temperature=0.0, seed=0) == (
        model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False)[0, 2:].tolist()
    )
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    remote = config | {"model_type": "odd", "auto_map": {"AutoModelForCausalLM": "code.Odd", "AutoConfig": "code.C"}}
    (tmp_path / "whole" / "config.json").write_text(json.dumps(remote))
    (tmp_path / "whole" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(RequestError, match="whole"):
        huggingface.load(tmp_path / "whole", CPU)
    assert not Path(tmp_path / "ran").exists()


@pytest.mark.parametrize("prompt", [3, 60, 200])
def test_a_model_that_reads_little_writes_on_from_the_end_of_a_prompt(prompt):
    """64 tokens in all, eight of which it is to write."""
    teacher, asked = HuggingFaceTeacher(make("gpt2")), {"max_new_tokens": 8, "temperature": 0, "seed": 0}
    ids = [6 + 7 * number % 290 for number in range(prompt)]
    written = teacher.write_ids(ids, **asked)
    assert 1 <= len(written) <= 8
    assert written == teacher.write_ids(ids[-56:], **asked)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_weight_that_is_no_number_is_named(tmp_path, value):
    model = make("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = value
    model.save_pretrained(tmp_path / "bad")
    words = r"bad: transformer\.h\.1\.mlp\.c_fc\.weight holds 1 or more values that are not finite"
    with pytest.raises(RequestError, match=words):
        huggingface.load(tmp_path / "bad", CPU)
