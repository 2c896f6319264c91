"""A listener that fails is logged and breaks nothing."""

import pytest

from app.contract.telemetry import Event, Observers
from tests.support.events import LOAD


class Listener:
    def __init__(self) -> None:
        self.heard: list[Event] = []

    def notify(self, event: Event) -> None:
        self.heard.append(event)


class Failing:
    def notify(self, event: Event) -> None:
        raise RuntimeError("broken listener")


def test_every_listener_hears_every_event_although_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    before, after = Listener(), Listener()
    observers = Observers([before, Failing(), after])
    observers.notify(LOAD)
    observers.notify(LOAD)
    assert before.heard == after.heard == [LOAD, LOAD]
    assert [record.observer for record in caplog.records] == ["Failing"] * 2  # type: ignore[attr-defined]  # a field of `extra`
    assert "RuntimeError: broken listener" in caplog.text


def test_nobody_has_to_listen() -> None:
    Observers().notify(LOAD)
