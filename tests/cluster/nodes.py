"""A Ray cluster on this machine, for as long as standard input is open: `nodes.py PORT FOLDER`, with Ray's Python.

Reads commands, a line each, and answers each with a line of JSON: `add` (a node), and `kill N` (the Nth that was
added, at once, without a goodbye). PORT is where Serve's proxies of these nodes listen; FOLDER is Ray's.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from ray._private.utils import get_ray_address_file
from ray.cluster_utils import Cluster

LEAST_MEMORY = 80 * 1024 * 1024
"""Bytes of a node's object store: nothing is kept there."""


def main(port: str, folder: str) -> None:
    os.environ["RAY_SERVE_WORKER_PROXY_HTTP_PORT"] = port  # two proxies on one machine cannot share one
    node = {"num_cpus": 1, "object_store_memory": LEAST_MEMORY, "include_dashboard": False}
    # Ray notes the address there, wherever its folder is, and does not make the place: a new machine has none.
    Path(get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": folder})
    added: list[Any] = []
    try:
        say(address=cluster.address, logs=cluster.head_node.get_logs_dir_path())
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            if command == "add":
                added.append(cluster.add_node(**node))
                say(added=len(added) - 1)
            else:
                cluster.remove_node(added[int(argument)], allow_graceful=False)
                say(killed=int(argument))
    finally:
        cluster.shutdown()


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
