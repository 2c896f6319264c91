"""How fast the engine and the stack are, as ratios measured side by side in one run: see bench/README.md."""
