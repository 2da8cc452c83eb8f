"""GPUs by name: what they reach at most in bfloat16, dense, and their memory, as their makers' data sheets say.

No training reaches the peak. Well-made trainers of large models report 38 to 43% of it (Llama 3, arXiv 2407.21783,
table 4); that is what is taken here. Models of a few million parameters leave a GPU waiting for its next kernel and
reach far less.
"""

from __future__ import annotations

from dataclasses import dataclass

from gemmule.base.errors import RequestError
from gemmule.recipe.errors import unknown_name

UTILISATION = 0.4


@dataclass(frozen=True)
class Accelerator:
    title: str
    peak: float  # FLOP/s
    memory: float  # bytes
    source: str  # the maker's document


ACCELERATORS = {
    "a100": Accelerator("A100 80GB", 312e12, 80e9, "NVIDIA A100 Tensor Core GPU data sheet"),
    "h100": Accelerator("H100 SXM", 989e12, 80e9, "NVIDIA H100 Tensor Core GPU data sheet, half of the sparse figure"),
    "h200": Accelerator("H200 SXM", 989e12, 141e9, "NVIDIA H200 Tensor Core GPU data sheet, half of the sparse figure"),
    "b200": Accelerator(
        "B200", 2250e12, 180e9, "NVIDIA DGX B200 data sheet, an eighth of it, half of the sparse figure"
    ),
    "l4": Accelerator("L4", 121e12, 24e9, "NVIDIA L4 Tensor Core GPU data sheet, half of the sparse figure"),
    "l40s": Accelerator("L40S", 362e12, 48e9, "NVIDIA L40S data sheet"),
    "rtx3090": Accelerator("RTX 3090", 71e12, 24e9, "NVIDIA Ampere GA102 white paper, float32 accumulation"),
    "rtx4090": Accelerator("RTX 4090", 165.2e12, 24e9, "NVIDIA Ada white paper, float32 accumulation"),
}


def accelerator(name: str) -> Accelerator:
    """By its name, however written: "RTX 4090" is "rtx4090". Raises RequestError naming those there are."""
    key = "".join(character for character in name.lower() if character.isalnum())
    if key not in ACCELERATORS:
        raise RequestError(f"--on {name}: {unknown_name(key, ACCELERATORS, 'GPU in the table')}")
    return ACCELERATORS[key]
