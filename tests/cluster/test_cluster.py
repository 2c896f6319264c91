"""The app on a Ray cluster of two nodes, with the embedded model in each replica. The tests need this order: they
begin with two replicas, and end with none."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.cluster.conftest import free_port
from tests.cluster.deployed import Deployed, eventually
from tests.support.line_schema import faults
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.timeout(300)


def test_requests_reach_both_replicas_and_their_lines_say_which(deployed: Deployed) -> None:
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda one: deployed.ask(stream=bool(one % 2)), range(12)))
    assert [reply.status for reply in replies if not reply.whole] == []
    ids = {reply.request_id for reply in replies}
    assert len(ids) == 12

    def lines() -> list[dict[str, Any]]:
        return [line for line in deployed.log() if line["request_id"] in ids]

    eventually(lambda: len(lines()) == 12, "a line of each request")
    asked = lines()
    assert {line["replica"] for line in asked} == set(deployed.replicas())
    assert len(deployed.replicas()) == 2
    assert [faults(line) for line in asked if faults(line)] == []


def test_each_replica_has_metrics_at_its_own_address(deployed: Deployed) -> None:
    answered = [deployed.metric(replica, "serving_requests_running") for replica in deployed.replicas()]
    assert len(answered) == 2
    refused = requests.get(f"{deployed.url}/metrics", timeout=PATIENCE)
    assert refused.status_code == 404, "they would be those of any replica"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(deployed: Deployed, *, stream: bool) -> None:
    def left() -> int:
        return sum(line["status"] == 499 for line in deployed.log())

    before = left()
    body = {"stream": stream, "max_tokens": 4000, "ignore_eos": True}
    if stream:
        with deployed.post(body, as_it_comes=True) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(requests.ReadTimeout):
            deployed.post(body, timeout=1)

    eventually(lambda: left() == before + 1, "the line of the client that left")
    eventually(lambda: running(deployed) == 0, "nothing runs")


def test_a_full_replica_refuses_by_itself_and_says_when_to_come_back(deployed: Deployed) -> None:
    with ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda one: deployed.ask(stream=bool(one % 2)), range(40)))
    refused = [reply for reply in replies if not reply.whole]
    assert {reply.status for reply in refused} == {429}
    assert all(int(reply.retry_after or 0) > 0 for reply in refused)
    assert all("overloaded" in reply.text for reply in refused)


def test_a_lost_node_costs_what_it_computed_and_those_clients_are_told_to_ask_again(deployed: Deployed) -> None:
    with deployed.load() as load:
        load.wait_for(6)
        deployed.nodes.kill()
        load.wait_for(12)
        since = len(load.replies)
        load.wait_for(12)
    failed = [reply for reply in load.replies if not reply.whole]
    assert len(failed) in range(1, 7), "those that ran there, and no others"
    assert [reply for reply in failed if not reply.says_retry] == []
    assert all(reply.retry_after for reply in failed if reply.status == 500)
    assert {reply.status for reply in failed} <= {500, 200}, (
        "a stream had begun with 200; 503 would say: not computed"
    )
    assert [reply for reply in load.replies[since:] if not reply.whole] == []
    deployed.nodes.add()
    eventually(lambda: deployed.ready() == 2, "a new replica on the new node")
    eventually(lambda: deployed.command("status").split()[-2:] == ["RUNNING", "2"], "Serve knows")


def test_a_replica_whose_process_ends_is_replaced(deployed: Deployed) -> None:
    before = set(deployed.replicas())
    gone = before.pop()
    os.kill(deployed.process_of(gone), signal.SIGKILL)
    eventually(lambda: len(set(deployed.replicas()) - {gone}) == 2 and deployed.ready() == 2, "another one")
    assert gone not in deployed.replicas(), "Prometheus would look for it for ever"
    assert deployed.ask(stream=False).whole


def test_no_answer_is_lost_when_a_replica_is_removed(deployed: Deployed) -> None:
    before = set(deployed.replicas())
    with deployed.load() as load:
        load.wait_for(6)
        deployed.up("--min", "1")
        eventually(lambda: len(deployed.replicas()) == 1, "one is drained and gone")
        load.wait_for(6)
    assert [reply for reply in load.replies if not reply.whole] == []
    assert set(deployed.replicas()) < before, "the one that stayed was not restarted"


def test_replicas_follow_the_queues(deployed: Deployed) -> None:
    (first,) = deployed.replicas()
    deployed.up("--min", "1", "--max", "2", "--up-after", "1", "--down-after", "1")
    with deployed.load(clients=7) as load:
        eventually(lambda: deployed.ready() == 2, "a second one for long queues")
        (second,) = set(deployed.replicas()) - {first}
        eventually(lambda: second in {line["replica"] for line in deployed.log()}, "an answer of the second one")
    assert [reply for reply in load.replies if not reply.whole] == []
    eventually(lambda: len(deployed.replicas()) == 1, "one is enough again")


def test_down_waits_for_running_answers_and_leaves_nothing(deployed: Deployed) -> None:
    with ThreadPoolExecutor(4) as pool:
        running_answers = [pool.submit(deployed.ask, stream=bool(one % 2), tokens=200) for one in range(4)]
        eventually(lambda: running(deployed) == 4, "they run")
        deployed.command("down")
    assert [answer.result() for answer in running_answers if not answer.result().whole] == []
    assert deployed.replicas() == {}
    assert "not deployed" in deployed.command("status", check=False)


def test_up_says_why_no_replica_starts(deployed: Deployed) -> None:
    said = deployed.command("up", "--targets", str(deployed.folder), check=False, MODELS_DIR="/nowhere")
    assert "is not in /nowhere. Fetch it: python -m app models fetch smollm2-135m" in said
    assert "Traceback" not in said
    deployed.command("down")


def running(deployed: Deployed) -> float:
    return sum(deployed.metric(replica, "serving_requests_running") for replica in deployed.replicas())


def test_where_no_cluster_answers_the_commands_say_so(deployed: Deployed) -> None:
    """Ray itself tries for minutes, and ends without a word."""
    nothing = f"127.0.0.1:{free_port()}"
    said = deployed.command("status", check=False, RAY_ADDRESS=nothing, address="auto")
    assert f"No Ray cluster answers on {nothing}" in said
