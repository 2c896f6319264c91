"""What the shutdown tests start under gunicorn: the app over a scripted engine that its environment commands."""

import asyncio
import os
from pathlib import Path

from fastapi import FastAPI

from app.contract.engine import Phase
from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from tests.support.controlled import ControlledEngine


class FailingEngine(ControlledEngine):
    async def start(self) -> None:
        self.become(Phase.FAILED, 0.0, "the weights are not there")


def build() -> FastAPI:
    prompts = Prompts(Path(os.environ["TEST_MODEL"]), SCRIPTED_MODEL)
    hold = {2: asyncio.Event()}  # never set: the answer runs until somebody ends it
    engine = FailingEngine() if "TEST_FAIL" in os.environ else ControlledEngine(range(100, 110), gates=hold)
    return create_app(Settings(drain_seconds=1), engine, prompts, Observers())
