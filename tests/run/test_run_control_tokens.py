"""Control tokens written in text stay text on the whole path, however an outside tokenizer marks them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from large_tokenizers import like_gemma, like_gpt2

from gemmule.tokenize import load_tokenizer, save
from gemmule.tokenize.shards import TokenShards

WRITTEN = "To be <eos> or <|endoftext|> not </s> to <start_of_turn>be <bos><pad> <unk> <b>x</b> <|im_end|>\n\n\n"


def unmark(folder, special, **roles):
    """Rewrites a tokenizer's files: no token is special but those of `special`, and roles are as given."""
    content = json.loads((folder / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["special"] = token["content"] in special
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((folder / "tokenizer_config.json").read_text()) | roles
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", [like_gemma, like_gpt2])
@pytest.mark.parametrize("special", [(), ("<eos>",)], ids=["none marked", "one marked"])
def test_as_many_eos_in_the_shards_as_documents(run, texts, tmp_path, kind, special):
    save(kind([*texts, WRITTEN], 500), tmp_path / "theirs")
    unmark(tmp_path / "theirs", special)
    lines = [json.dumps({"text": f"{number} {WRITTEN}" * 3}) for number in range(9)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    recipe = tmp_path / "r.toml"
    recipe.write_text(f"""
name = "r"
data = {{ sources = ["t.jsonl"], validation_fraction = 0.3, sequence_length = 16 }}
tokenizer = {{ from = "{tmp_path / "theirs"}" }}
[models.m]
architecture = {{ layers = 1, width = 8 }}
train = {{ tokens = 64 }}
""")
    assert run("tokenize", recipe, "--out", tmp_path / "run") == 0
    theirs = load_tokenizer(tmp_path / "theirs")
    documents = 0
    for split in ("train", "validation"):
        shards = TokenShards(tmp_path / "run" / "tokens" / split)
        ids = shards[:]
        assert (ids == theirs.eos_id).sum() == len(shards.document_starts)
        assert set(theirs.control.values()) & set(ids.tolist()) == {theirs.eos_id}
        for document in np.split(ids, shards.document_starts[1:]):
            assert theirs.decode(document) == json.loads(lines[int(theirs.decode(document).split()[0])])["text"]
        documents += len(shards.document_starts)
    assert documents == 9
