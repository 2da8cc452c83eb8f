"""Absurd recipes, command lines and models, as strangers give them: exit 2, a line or two, and nothing on the disk."""

from __future__ import annotations

import json

import pytest

from gemmule.base.errors import RequestError
from gemmule.estimate import fits
from gemmule.teach.teachers import folders


@pytest.fixture
def refused(run, recipe, capsys, monkeypatch):
    """Runs a command in the recipe's folder; gives what it says. Nothing may be made, and torch is not needed."""

    def refused(*arguments: str) -> list[str]:
        monkeypatch.chdir(recipe.parent)
        before = sorted(recipe.parent.rglob("*"))
        assert run(*arguments) == 2
        assert sorted(recipe.parent.rglob("*")) == before
        out, error = capsys.readouterr()
        assert not out
        return [line for line in error.splitlines() if line and not line.startswith(("Usage: ", "Try "))]

    return refused


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("data.sequence_length=10000000", "data.sequence_length = 10000000: must be a whole number from 2 to"),
        ("models.student.train.tokens=999999999999T", "train.tokens = '999999999999T': must be a whole number from 1"),
        ("evaluate.sample_tokens=1000000000", "evaluate.sample_tokens = 1000000000: must be"),
        ("tokenizer.vocabulary_size=1000000000", "tokenizer.vocabulary_size = 1000000000: must be"),
        ("models.student.architecture.layers=9999999", "architecture.layers = 9999999: must be"),
        ("models.student.architecture.width=1000000", "Memory: training"),
        ("models.student.architecture.window=0", "architecture.window = 0: must be"),
        ("models.student.architecture.attention_cap=1e30", "architecture.attention_cap = 1e+30: must be"),
        ("models.student.train.learning_rate=nan", "train.learning_rate = nan: must be"),
        ("models.student.train.clip=inf", "train.clip = inf: must be"),
        ("models.student.train.batch_tokens=1T", "train.batch_tokens = '1T': must be"),
        ("models.cached.distill.temperature=1e-300", "distill.temperature = 1e-300: must be"),
        ("models.cached.distill.targets={tau = 1e-300}", "targets.tau = 1e-300: must be"),
        ("seed=123456789012345678901234", "seed = 123456789012345678901234: must be"),
        ("evaluate.temperature=1e-300", "evaluate.temperature = 1e-300: must be 0, or"),
        ("models.con.like=student", "models.con: not a name"),
        ("models.STUDENT.like=student", "models.STUDENT: differs from models.student only in case"),
        ("models.student.from=\x00", "models.student.from = '\\x00': holds a control character"),
        ("data.field=", "data.field = '': must be"),
        ("x" * 1000 + ".y=1", "unknown key"),
        ("models.student.learn_from={}", "models.student: learn_from"),
        ("machine.compile=maybe", "machine.compile = 'maybe': must be \"auto\", true or false"),
    ],
)
def test_recipes(refused, wish, said, monkeypatch):
    monkeypatch.setattr(fits, "total_memory", lambda: 25 * 10**9)
    lines = refused("run", "tiny.toml", "--set", "machine.device=cpu", "--set", wish)
    assert said in lines[0]
    assert len(lines) <= 2
    assert all(len(line) < 500 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--seed 123456789012345678901234", "--seed = 123456789012345678901234: must be a whole number from 0 to"),
        ("--temperature 1e-300", "--temperature = 1e-300: must be 0, or a number from 0.0001"),
        ("--temperature nan", "--temperature = nan: must be"),
        ("--temperature hot", "'--temperature': 'hot' is not a number"),
        ("--repetition-penalty 1e-38", "--repetition-penalty = 1e-38: must be a number from 0.01 to 100"),
        ("--top-k 0", "--top-k = 0: must be a whole number from 1 to"),
        ("--top-k -1", "--top-k = -1: must be"),
        ("--top-k 1e30", "'--top-k': '1e30' is not a whole number"),
        ("--top-p nan", "--top-p = nan: must be"),
        ("--min-p 2", "--min-p = 2.0: must be"),
        ("--max-new-tokens 0", "--max-new-tokens = 0: must be"),
        ("--max-new-tokens 99999999999", "--max-new-tokens = 99999999999: must be"),
    ],
)
def test_numbers_of_generating(refused, arguments, said):
    """The model is not there, and not asked for: numbers come first."""
    (line,) = refused("generate", "nowhere", "To be", *arguments.split())
    assert said in line


@pytest.mark.parametrize("minutes", ["nan", "inf", "1e300", "-1", "0", "soon"])
def test_minutes(refused, minutes):
    (line,) = refused("init", "texts", "--minutes", minutes, "--out", "new.toml")
    assert "--minutes" in line


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "gemma2", "vocab_size": 10**12}, "vocab_size = 1000000000000: must be from 1 to 16,777,216"),
        ({"model_type": "llama", "vocab_size": 10**12}, "vocab_size = 1000000000000"),
        (
            {"model_type": "llama", "num_hidden_layers": 10**9},
            "num_hidden_layers = 1000000000: must be from 1 to 10,000",
        ),
        ({"model_type": "gemma3", "text_config": {"hidden_size": -1}}, "hidden_size = -1"),
        ({"model_type": "gemma3", "text_config": [1]}, "text_config = [1]: must be an object"),
        ({"model_type": "gpt2", "n_positions": 256}, "reads at most 256 tokens; evaluate.sample_tokens is 300"),
    ],
)
def test_models_that_cannot_be(refused, tmp_path, config, said):
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    (folder / "tokenizer.json").touch()
    wishes = ("--set", f'models.teacher={{from = "{folder}"}}', "--set", "evaluate.sample_tokens=300")
    (line,) = refused("run", "tiny.toml", *wishes)
    assert said in line


def test_a_config_of_brackets(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "a": ' + "[" * 100_000)
    with pytest.raises(RequestError, match=r"config\.json can't be read: "):
        folders.read_config(tmp_path)
