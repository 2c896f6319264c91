"""Single steps of the engine, without its thread and event loop, with pages of any size."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from app.engine.kv import pages
from app.engine.libraries import set_library_options
from bench.workers.pipe import answers, serve


def main() -> None:
    pipe = answers()
    parser = argparse.ArgumentParser()
    parser.add_argument("page_size", type=int)
    pages.PAGE_SIZE = parser.parse_args().page_size
    set_library_options()
    from bench.workers.stepping import Steps  # noqa: PLC0415  # what it imports reads both

    steps = Steps()
    measures: dict[str, Callable[..., Mapping[str, Any]]] = {
        "decode": steps.decode,
        "prefill": steps.prefill,
        "own": steps.own,
    }
    serve(pipe, {"dtype": steps.dtype}, lambda question: measures[question.pop("measure")](**question))


if __name__ == "__main__":
    main()
