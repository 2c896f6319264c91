"""Where Prometheus finds a replica."""

import json
import socket
from pathlib import Path
from typing import Any

import httpx

from app.cluster.targets import MetricsListener


def files(folder: Path) -> dict[str, Any]:
    return {file.name: json.loads(file.read_text()) for file in folder.iterdir()}


async def test_a_replica_is_found_while_it_lives(tmp_path: Path) -> None:
    listener = MetricsListener(lambda _: (b"up 1\n", "text/plain"), tmp_path, replica="abc", address="127.0.0.1")
    await listener.start()
    ((target,),) = files(tmp_path).values()
    assert target["labels"] == {"replica": "abc", "node": socket.gethostname()}
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://{target['targets'][0]}/metrics")).text == "up 1\n"
    await listener.stop()
    assert files(tmp_path) == {}


async def test_those_that_were_killed_are_forgotten_on_their_own_machine(tmp_path: Path) -> None:
    dead, elsewhere = f"{socket.gethostname()}_999999999_dead.json", "another-host_999999999_dead.json"
    for name in (dead, elsewhere):
        (tmp_path / name).write_text("[]")
    listener = MetricsListener(lambda _: (b"", "text/plain"), tmp_path, replica="abc", address="127.0.0.1")
    await listener.start()
    names = set(files(tmp_path))
    await listener.stop()
    assert dead not in names
    assert elsewhere in names
