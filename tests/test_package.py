"""The package's face: light to import, and its public names where the documentation says."""

import subprocess
import sys

LIGHT = """
import sys, gemmule, gemmule.cli, gemmule.recipe, gemmule.base.artifact, gemmule.run.runner, gemmule.estimate.fits
import gemmule.train.optimizers.muon
heavy = {"torch", "transformers", "pyarrow", "tensorboard", "jinja2"} & set(sys.modules)
assert not heavy, heavy
assert gemmule.losses.forward_kl is sys.modules["gemmule.losses.forward_kl"].forward_kl
assert gemmule.TokenShards is gemmule.tokenize.shards.TokenShards
assert gemmule.TargetStore is gemmule.teach.targets.store.TargetStore
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


UNCOMPILED = """
import sys, torch
from gemmule import Gemma2, Gemma2Config
from gemmule.model.fast import compiling
from gemmule.recipe import Train
from gemmule.train.optimizer import Optimizer
import gemmule.evaluate.figures, gemmule.plan.loading, gemmule.train.loop

config = Gemma2Config(vocabulary_size=300, layers=2, width=32, heads=2, kv_heads=1, head_dim=16, ffn_width=64, window=8)
model, ids = Gemma2(config).initialise(0), torch.arange(32)[None]
optimizer = Optimizer(model, Train(tokens=1, learning_rate=1e-3))
model(ids, ids).backward()
optimizer.step(1e-3)
with compiling.eager(), torch.no_grad():
    model(ids[:, :5])
assert "torch._dynamo" not in sys.modules
"""


def test_a_step_that_is_not_compiled_does_not_import_the_compiler():
    """It takes more than a second of every start."""
    subprocess.run([sys.executable, "-c", UNCOMPILED], check=True)


def test_version():
    done = subprocess.run([sys.executable, "-m", "gemmule", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.count(".") == 2
