"""Options of the libraries below torch, which read them once, when torch is loaded."""

import os


def set_library_options() -> None:
    """For this process, before anything imports torch. What the environment says already stays."""
    # By default OpenMP's threads spin at every barrier for as long as a time slice, and where anything else wants the
    # cores, a step takes ten times as long: decisions/0003.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    # oneDNN keeps the code that it makes for every number of rows, 0.6 MB each, and by default 1,024 of them. A layer
    # has four, and making them anew for a step costs 3 ms.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
