"""The sections of benchmarks/gpu.py, one a module: its `run(bench)` measures and says a line for each figure."""
