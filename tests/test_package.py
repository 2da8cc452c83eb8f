"""The package's face: light to import, and its public names where the documentation says."""

import subprocess
import sys

LIGHT = """
import sys, gemmule, gemmule.cli, gemmule.recipe, gemmule.artifact, gemmule.family
heavy = {"torch", "transformers", "pyarrow", "tensorboard", "jinja2"} & set(sys.modules)
assert not heavy, heavy
gemmule.distill.losses.forward_kl, gemmule.data.shards.TokenShards, gemmule.distill.targets.TargetStore
gemmule.load, gemmule.load_tokenizer, gemmule.Gemma2, gemmule.Gemma2Config
assert callable(gemmule.generate) and gemmule.generate.sampling.generate
try:
    gemmule.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise AssertionError
"""


def test_imports_are_light_and_public_names_are_there():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def test_version():
    done = subprocess.run([sys.executable, "-m", "gemmule", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.count(".") == 2
