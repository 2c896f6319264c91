"""Measures and checks the engine on the GPUs of a machine: one program, without network and without weights.

    python -m bench.gpu_check --seconds 480 --out DIR

The model has DeepSeek-Coder-V2-Lite's real dimensions and random weights; it is saved to a folder and loaded by the
product's own start-up. Needs torch, transformers, accelerate and pydantic. Without a GPU it runs in small sizes,
to test the program itself; those figures mean nothing and are marked.
"""
