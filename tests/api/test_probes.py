"""The probes tell a load from a failure, and a full queue from both."""

import pytest
from starlette.testclient import TestClient

from app.contract.engine import Capacity, Phase
from tests.api.conftest import MakeClient
from tests.support.controlled import ControlledEngine


def statuses(client: TestClient) -> tuple[int, int, int]:
    live, ready, started = (client.get(path).status_code for path in ("/livez", "/readyz", "/startupz"))
    assert client.get("/health").status_code == ready
    return live, ready, started


@pytest.mark.parametrize(
    ("phase", "alive", "expected"),
    [
        (Phase.STARTING, True, (200, 503, 503)),
        (Phase.LOADING, True, (200, 503, 503)),
        (Phase.WARMING, True, (200, 503, 503)),
        (Phase.READY, True, (200, 200, 200)),
        (Phase.READY, False, (503, 503, 200)),
        (Phase.DRAINING, True, (200, 503, 200)),
        (Phase.FAILED, True, (503, 503, 503)),
    ],
)
def test_each_phase(
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    phase: Phase,
    alive: bool,
    expected: tuple[int, int, int],
) -> None:
    monkeypatch.setattr("app.lifecycle.Lifecycle._fatal", lambda _: None)  # which would end this process
    engine = ControlledEngine(ready=False)
    client = make_client(engine)
    engine.become(phase, 0.25, alive=alive)
    assert statuses(client) == expected


def test_startup_tells_the_progress_and_stays_started(make_client: MakeClient) -> None:
    engine = ControlledEngine(ready=False)
    client = make_client(engine)
    engine.become(Phase.LOADING, 0.25, "weights 3 of 12")
    body = client.get("/startupz").json()
    assert (body["phase"], body["progress"], body["detail"]) == ("loading", 0.25, "weights 3 of 12")
    assert body["elapsed"] >= 0
    engine.become(Phase.READY)
    assert client.get("/startupz").status_code == 200
    engine.become(Phase.STOPPED)
    assert client.get("/startupz").status_code == 200


def test_loading_refuses_requests_with_a_time_to_come_again(make_client: MakeClient) -> None:
    engine = ControlledEngine(ready=False)
    client = make_client(engine)
    ready, answer = client.get("/readyz"), client.post("/", json={"prompt": "a"})
    for response in (ready, answer):
        assert response.status_code == 503
        assert 1 <= int(response.headers["retry-after"]) <= 60
    assert ready.json()["status"] == answer.json()["error"]["code"] == "model_loading"
    engine.become(Phase.READY)
    assert client.post("/", json={"prompt": "a", "max_length": 2}).status_code == 200


def test_a_full_queue_fails_no_probe(make_client: MakeClient) -> None:
    client = make_client(ControlledEngine(capacity=Capacity(sequences=0, kv_tokens=100)), max_waiting=0)
    refused = client.post("/", json={"prompt": "a"})
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert statuses(client) == (200, 200, 200)


def test_metrics_are_rendered_and_probes_answer_head(client: TestClient) -> None:
    metrics = client.get("/metrics")
    assert (metrics.status_code, metrics.text, metrics.headers["content-type"]) == (200, "up 1\n", "text/x")
    assert client.head("/readyz").status_code == 200
