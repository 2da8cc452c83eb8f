"""What models write after prompts: by a cache, without one and by transformers, of prompts of any lengths."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import transformers
from random_models import perturb, small_config

from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.huggingface import HuggingFaceTeacher
from gemmule.teach.teachers.teacher import Teacher

V, NEW = 64, 20
PROMPTS = [[2], [2, 5, 9, 5], [2, *(3 + 7 * number % 61 for number in range(29))], [2, 4, 4, 8, 33]]  # the window is 8
LLAMA = {
    "vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
SHAPES = {
    "gemma3_text": LLAMA | {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "llama": LLAMA | {"tie_word_embeddings": False},
    "gpt2": {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "rwkv": {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2},  # its state takes in what is padding
    "bloom": {"vocab_size": V, "hidden_size": 32, "n_layer": 2, "n_head": 4},  # places by ALiBi
}


def huggingface(kind: str) -> HuggingFaceTeacher:
    settings = SHAPES[kind] | {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **settings))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    # as a checkpoint's generation_config.json may have it
    model.generation_config.update(
        eos_token_id=[7], repetition_penalty=1.7, no_repeat_ngram_size=2, suppress_tokens=[5]
    )
    return HuggingFaceTeacher(model)


@pytest.fixture(scope="module")
def gemma2() -> Gemma2Teacher:
    return Gemma2Teacher(perturb(Gemma2(small_config())).eval())


@pytest.fixture(scope="module", params=["gemma2", *SHAPES])
def teacher(request, gemma2):
    return gemma2 if request.param == "gemma2" else huggingface(request.param)


@pytest.mark.parametrize("seeds", [None, [5, 6, 7, 5]], ids=["greedily", "drawn"])
def test_a_cache_changes_nothing(teacher, seeds):
    written = teacher.continuations(PROMPTS, NEW, seeds=seeds)
    assert written == Teacher.continuations(teacher, PROMPTS, NEW, seeds=seeds)
    assert [len(ids) for ids in written] == [NEW] * 4
    for row, prompt in enumerate(PROMPTS):  # whatever stands beside it
        assert teacher.continuations([prompt], NEW, seeds=None if seeds is None else [seeds[row]]) == [written[row]]
    ends = {ids[place] for ids, place in zip(written, (0, 3, 19, 7), strict=True)}
    cut = [ids[: next((place for place, number in enumerate(ids) if number in ends), NEW)] for ids in written]
    assert teacher.continuations(PROMPTS, NEW, ends, seeds) == cut
    assert Teacher.continuations(teacher, PROMPTS, NEW, ends, seeds) == cut
    assert cut[0] == []
    for one in (teacher.continuations, partial(Teacher.continuations, teacher)):
        assert one(PROMPTS, NEW, seeds=seeds, ended=lambda ids: len(ids) % 7 == 0) == [ids[:7] for ids in written]
        assert one(PROMPTS, NEW, ends, seeds, lambda ids: len(ids) == 5) == [ids[:5] for ids in cut]
    assert teacher.continuations([], NEW) == []


def test_greedily_it_writes_what_transformers_writes(gemma2):
    config = gemma2.model.config
    own = transformers.Gemma2Config(**config.to_huggingface())
    theirs = transformers.Gemma2ForCausalLM._from_config(own, attn_implementation="eager").eval()
    theirs.load_state_dict(gemma2.model.state_dict(), strict=False)
    theirs.tie_weights()
    theirs.generation_config = transformers.GenerationConfig(pad_token_id=0)
    for prompt, written in zip(PROMPTS, gemma2.continuations(PROMPTS, NEW), strict=True):
        whole = theirs.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)
        assert whole[0, len(prompt) :].tolist() == written


def test_draws_follow_the_distribution(gemma2):
    """20,000 draws of one token: each one's share within five standard deviations of its probability."""
    count, prompt = 20_000, PROMPTS[1]
    p = torch.softmax(gemma2.expect(torch.tensor([prompt])).logits()[-1], -1)
    drawn = [number for (number,) in gemma2.continuations([prompt] * count, 1, seeds=range(count))]
    shares = torch.bincount(torch.tensor(drawn), minlength=V) / count
    assert ((shares - p).abs() <= 5 * (p * (1 - p) / count).sqrt() + 1 / count).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_prompt_that_leaves_no_room_is_read_from_its_end_on(kind):
    """64 tokens in all."""
    teacher = huggingface(kind)
    long = [3 + 5 * number % 61 for number in range(200)]
    first, second = teacher.continuations([long, [2, 9]], NEW)
    assert [first] == Teacher.continuations(teacher, [long[-44:]], NEW)
    assert [second] == Teacher.continuations(teacher, [[2, 9]], NEW)


def test_what_a_checkpoint_wants_of_generating_is_left_as_it_was():
    teacher = huggingface("llama")
    before = teacher.model.generation_config
    teacher.continuations(PROMPTS, 3)
    assert teacher.model.generation_config is before
