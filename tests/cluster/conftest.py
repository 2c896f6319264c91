"""A real Ray cluster on this machine, and the app deployed on it by its own command line."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from stack.config import ROOT
from tests.cluster.deployed import PYTHON, Deployed, Nodes

HERE = Path(__file__).parent
MARK = "APP_TEST_CLUSTER"
"""In the environment of every process of the cluster: so that each of them is found at the end, and no other."""

SETTINGS = {"MAX_SEQUENCES": "4", "MAX_WAITING": "4", "RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}
"""Bounds that a test reaches, and nothing told to anybody."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("cluster")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def environment(embedded_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        **SETTINGS,
        MARK: uuid.uuid4().hex,
        "MODELS_DIR": str(embedded_model.parent),
        "CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "APP_PORT": str(free_port()),
    }


@pytest.fixture(scope="session")
def nodes(environment: Mapping[str, str]) -> Iterator[Nodes]:
    """The cluster, with one node beside its head. Whatever happened, nothing of it is left running."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [PYTHON, HERE / "nodes.py", str(free_port()), folder],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            cluster = Nodes(process)
            cluster.add()
            yield cluster
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=60)
            finally:
                left = marked(environment[MARK])
                for one in left:
                    one.kill()
                psutil.wait_procs(left)


@pytest.fixture(scope="session")
def deployed(nodes: Nodes, environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Two replicas, one on each node: each needs a core, and a node has one. They were deployed from a folder that is
    gone since, as it is not on other machines: the code of new ones comes with the cluster."""
    app = Deployed(nodes, environment, tmp_path_factory.mktemp("targets"))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(ROOT / "app", elsewhere / "app", ignore=shutil.ignore_patterns("__pycache__"))
    app.up("--min", "2", folder=elsewhere)
    shutil.rmtree(elsewhere)
    return app


def marked(mark: str) -> list[psutil.Process]:
    """The processes of one run of these tests."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found
