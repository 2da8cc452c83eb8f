"""What a finished model is worth.

- `figures.py`: all models in one pass over a text: perplexity, calibration, agreement, acceptance, loss by position
- `looking.py`: what models expect, a chunk of logits at a time
- `passages.py`: the windows that are read, and the unit (document) that each token counts for
- `units.py`: the loss of each unit; two models compared by it
- `intervals.py`: intervals, paired comparisons, intervals over trainings
- `table.py`: a line for each figure that the summary and the report show
- `any_model.py`: any folder, hub id or GGUF file, loaded
- `outside.py`: `gemmule evaluate MODEL`; `showing.py` prints it
- `scores.py`, `scoring.py`: what a model makes of each document of a text, by which the refinery drops some
- `tasks/`: what a model can do: one file a task
- `harness/`: lm-evaluation-harness's tasks
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
