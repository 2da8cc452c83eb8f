"""`gemmule import` and `gemmule export` as a user types them."""

from __future__ import annotations

import json
import sys

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gemmule.base.errors import RequestError
from gemmule.cli import main
from gemmule.convert import file_types
from gemmule.convert.exporting import export_model
from gemmule.convert.importing import import_model
from gemmule.model.weights import load


def command(monkeypatch, capsys, *arguments):
    """Exit status, what was printed, and what went to stderr."""
    monkeypatch.setattr(sys, "argv", ["gemmule", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    printed = capsys.readouterr()
    return left.value.code, printed.out, printed.err


def test_out_and_in_again(make_folder, tmp_path, monkeypatch, capsys):
    folder = make_folder(ffn_width=172)
    arguments = ("export", folder, tmp_path / "m.gguf", "--format", "gguf", "--type", "q8_0")
    status, out, _ = command(monkeypatch, capsys, *arguments)
    assert status == 0
    size = (tmp_path / "m.gguf").stat().st_size
    parameters = load(folder).config.parameters
    first, second = out.splitlines()
    assert first == f"{tmp_path / 'm.gguf'}: {parameters:,} parameters in q8_0, {size / 1e6:.1f} MB"
    assert "blk.1.ffn_down.weight" in second
    status, out, err = command(monkeypatch, capsys, *arguments)
    assert (status, out) == (2, "")
    assert err == f"gemmule: {tmp_path / 'm.gguf'} exists already; nothing is overwritten\n"
    status, out, _ = command(monkeypatch, capsys, "import", tmp_path / "m.gguf", tmp_path / "back", "--json")
    assert status == 0
    assert json.loads(out)["parameters"] == parameters
    assert json.loads(out)["path"] == str(tmp_path / "back")


def test_a_folder_in_another_type(make_folder, tmp_path):
    folder = make_folder()
    written = export_model(folder, tmp_path / "half", "hf", "bf16")
    assert written.type == "bf16"
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype="auto")
    assert theirs.dtype == torch.bfloat16
    for name, weight in load(folder).state_dict().items():
        assert torch.equal(theirs.state_dict()[name], weight.bfloat16())


@pytest.mark.parametrize(
    ("format", "type", "message"),
    [
        ("onnx", None, "format 'onnx': there are hf and gguf"),
        ("hf", "q8_0", "type 'q8_0': hf holds f32, f16, bf16"),
        ("gguf", "q4_k", "type 'q4_k': gguf holds f32, f16, bf16, q8_0, q4_0"),
    ],
)
def test_what_can_t_be_written_is_said_first(tmp_path, format, type, message):
    with pytest.raises(RequestError, match=message):
        export_model("nothing/is-asked-for", tmp_path / "out", format, type)
    assert list(tmp_path.iterdir()) == []


def test_a_gguf_type_is_a_line(make_folder, tmp_path, monkeypatch):
    """Of the formats, which list it; the file, which holds it, the embedding finer; and the way back."""
    monkeypatch.setitem(file_types.FILE_TYPES, "q5_1", file_types.FileType("Q5_1", "Q8_0", "MOSTLY_Q5_1"))
    with pytest.raises(RequestError, match="gguf holds f32, f16, bf16, q8_0, q4_0, q5_1"):
        export_model("nothing/is-asked-for", tmp_path / "m.gguf", "gguf", "q4_k")
    folder = make_folder()
    assert export_model(folder, tmp_path / "m.gguf", "gguf", "q5_1").type == "q5_1"
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["token_embd.weight"] == "Q8_0"
    assert kinds["output_norm.weight"] == "F32"
    assert kinds["blk.0.attn_q.weight"] == "Q5_1"
    import_model(str(tmp_path / "m.gguf"), tmp_path / "back")
    ours, theirs = load(folder).state_dict(), load(tmp_path / "back").state_dict()
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name].float(), weight, rtol=0, atol=weight.abs().max().item() / 16)


def test_the_help_lists_every_type(monkeypatch, capsys):
    status, out, _ = command(monkeypatch, capsys, "export", "--help")
    assert status == 0
    assert "f32, f16, bf16; gguf also q8_0, q4_0; default: the model's" in " ".join(out.split())


def test_without_a_tokenizer_or_with_another_kind(make_folder, tmp_path):
    folder = make_folder()
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"normalizer": {"type": "Lowercase"}}))
    with pytest.raises(RequestError, match=r"its normalizer \(Lowercase\) is unknown"):
        export_model(folder, tmp_path / "m.gguf", "gguf")
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+"
    file.write_text(json.dumps(content))
    with pytest.raises(RequestError, match="its pre_tokenizer splits"):
        export_model(folder, tmp_path / "m.gguf", "gguf")
    file.unlink()
    for format in ("hf", "gguf"):
        with pytest.raises(RequestError, match=r"no tokenizer there: it has no tokenizer\.json"):
            export_model(folder, tmp_path / "out", format)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_the_gguf_package(make_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(RequestError, match=r"pip install 'gemmule\[gguf\]'"):
        export_model(make_folder(), tmp_path / "m.gguf", "gguf")
    export_model(tmp_path / "model", tmp_path / "hf", "hf")


def test_an_exported_folder_needs_nothing_of_gemmule(make_folder, tmp_path):
    """It brings no code: transformers opens it by classes of its own."""
    folder = tmp_path / "hf"
    export_model(make_folder(), folder, "hf")
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".jinja", ".md", ".safetensors"}
    assert not any("auto_map" in path.read_text() for path in folder.glob("*.json"))
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert {type(opened).__module__.split(".")[0] for opened in (model, words)} == {"transformers"}
    assert len(model.generate(**words("To be", return_tensors="pt"), max_new_tokens=5, min_new_tokens=5)[0]) > 5
