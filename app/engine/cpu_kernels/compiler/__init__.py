"""A process of its own, `python -m app.engine.cpu_kernels.compiler`: the only code that reads numba.

What it compiles are the tasks in `attention`, `rotation` and `rows`, over the numbers of `numbers`.
"""
