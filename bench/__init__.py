"""Measures the speed of the engine and of the stack, as ratios of contestants in one run: see bench/README.md."""
