"""The product's app and engine over a GPU that is played (`played_gpu.py`).

`build` is the whole app, for gunicorn; `python -m bench.workers.played_app` is the engine alone, without HTTP.
"""

import asyncio

from fastapi import FastAPI

from app import main as product
from app.contract.telemetry import Observers
from app.contract.terms import TermsOf
from app.engine.local import LocalEngine
from app.local_engine import engine_config
from app.models.selection import select_model
from app.settings import Settings, load_settings
from bench.workers.engine import Heard, answer, started
from bench.workers.pipe import answers, serve

SECONDS, TOLD = "PLAYED_SECONDS", "PLAYED_TOLD"
"""Of the environment: the seconds that a step takes on the device, and when its tokens are told."""

AFTER_LAUNCH, BEFORE_LAUNCH = "after the launch", "before the launch"
"""Of the next step: the product's way on GPUs, and on a CPU."""


class PlayedEngine(LocalEngine):
    def _run_thread(self) -> None:
        from bench.workers.played_gpu import run_played  # noqa: PLC0415  # torch, on the thread that uses it

        run_played(self._config, self._observers, self._health, self._commands, self._emit)


def build() -> FastAPI:
    """The app, for gunicorn: `bench.workers.played_app:build()`."""
    return product._build(_parts)  # noqa: SLF001  # as the app's own entries do


def _parts(settings: Settings, observers: Observers, terms_of: TermsOf) -> product.Parts:
    selection = select_model(settings)
    engine = PlayedEngine(engine_config(settings, selection), observers)
    prompts = product._prompts(selection.folder, engine.model)  # noqa: SLF001  # likewise
    return product._over_engine(settings, engine, prompts, observers, terms_of)  # noqa: SLF001  # likewise


def main() -> None:
    pipe = answers()
    heard = Heard()
    settings = load_settings(None)
    with asyncio.Runner() as runner:
        engine = PlayedEngine(engine_config(settings, select_model(settings)), Observers([heard]))
        runner.run(started(engine))
        serve(pipe, {}, lambda question: runner.run(answer(engine, heard, question)))
        runner.run(engine.stop())


if __name__ == "__main__":
    main()
