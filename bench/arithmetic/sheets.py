"""What NVIDIA's data sheets say of cards."""

CARDS = {"RTX 3090": (0.936e12, 71e12), "H100 SXM": (3.35e12, 989e12), "H200": (4.8e12, 989e12)}
"""Bytes per second, and bfloat16 operations per second with float32 sums, dense, of NVIDIA's data sheets."""
