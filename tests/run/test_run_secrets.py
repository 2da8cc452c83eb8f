"""What is refused of an outside model by its address, before anything is asked or written."""

from __future__ import annotations

import pytest

from gemmule.base import addresses
from gemmule.base.errors import RequestError

SECRETS = [
    "http://user:PASSWORD@host/v1", "https://PASSWORD@host:8000/v1", "HTTP://u:PASSWORD@host/v1", "  http://u:PASSWORD@h",
    "https://host/v1?api_key=PASSWORD", "http://host/v1?x=1&Access_Token=PASSWORD", "https://host/v1?sig=PASSWORD",
    "hf://user:PASSWORD@hub/x", "s3://u:PASSWORD@bucket/file", "http:/u:PASSWORD@host", "http://u:P@SSWORD@host:99999/v1",
]  # fmt: skip


@pytest.mark.parametrize("address", SECRETS)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address):
    with pytest.raises(RequestError, match=r"models\.t\.from: its address holds.*GEMMULE_API_KEY") as caught:
        addresses.refuse_secrets(address, "models.t.from")
    assert "SSWORD" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["http://host:8000/v1", "google/gemma-2-2b", "../models/a@b", "C:\\models", "a@b.gguf", "http://[::1]:80/v1"],
)
def test_other_addresses_and_paths_are_not(value):
    addresses.refuse_secrets(value, "models.t.from")


@pytest.mark.parametrize("url", ["http://", "http:///v1", "http://h:99999/v1", "http://h:x/v1", "http://[::1/v1",
                                 "http://h /v1", "http://h/\x1b[31m", "http://h/v1?x=1", "http://h/v1#x"])  # fmt: skip
def test_what_is_no_address_of_a_server(url):
    with pytest.raises(RequestError, match=r"^models\.t\.from = .*a.* server"):
        addresses.check_address(url, "models.t.from")


@pytest.mark.parametrize(
    "where", ["models.t.from", "models.s.start_from", "tokenizer.from", "models.s.learn_from", "data.sources"]
)
def test_nothing_is_written_of_a_recipe_with_one(run, recipe, tmp_path, capsys, where):
    secret = "https://user:PASSWORD@host/v1"
    value = f'["{secret}"]' if where == "data.sources" else f'"{secret}"'
    before = sorted(tmp_path.rglob("*"))
    for verb in ("run", "estimate"):
        assert run(verb, recipe, "--out", tmp_path / "out", "--set", f"{where}={value}") == 2
        said = capsys.readouterr()
        assert f"{where}: its address holds a user, password or key" in said.err
        assert "PASSWORD" not in said.err + said.out
    assert run("init", tmp_path / "texts", "--teacher", secret, "--out", tmp_path / "r.toml") == 2
    assert "--teacher: its address holds" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
