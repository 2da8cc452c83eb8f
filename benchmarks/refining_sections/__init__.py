"""What benchmarks/refining.py measures, a module each: `run(...)` prints its tables."""
