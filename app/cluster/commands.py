"""The commands `python -m app cluster up|status|down`."""

import argparse
import importlib
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from app.cluster.errors import ClusterError
from app.cluster.plan import Shape, at_every_node
from app.settings import Settings


def add_commands(commands: Any) -> None:
    """To the subcommands of a parser."""
    cluster = commands.add_parser("cluster", help="this app on a Ray cluster: deploy it, look at it, remove it")
    parsers = cluster.add_subparsers(required=True, metavar="COMMAND")

    up = parsers.add_parser("up", help="deploy the app, or change what is deployed; returns when it answers")
    up.add_argument(
        "--min", type=_number_of("replicas", 1), default=1, metavar="N", help="fewest replicas; default: 1"
    )
    up.add_argument(
        "--max", type=_number_of("replicas", 1), metavar="N", help="most replicas; default: as many as --min"
    )
    up.add_argument(
        "--gpus",
        type=_number_of("GPUs", 0),
        default=0,
        metavar="N",
        help="GPUs of each replica; default: 0, the embedded model",
    )
    up.add_argument("--cpus", type=_positive, default=1, metavar="N", help="CPU cores of each replica; default: 1")
    up.add_argument(
        "--up-after",
        type=_positive,
        default=30,
        metavar="SECONDS",
        help="of long queues, one more replica; default: 30",
    )
    up.add_argument(
        "--down-after", type=_positive, default=600, metavar="SECONDS", help="of short ones, one less; default: 600"
    )
    up.add_argument(
        "--targets",
        type=Path,
        default=Path("var/replicas"),
        metavar="FOLDER",
        help="on each node, the folder of the replicas' addresses for Prometheus; default: var/replicas",
    )
    up.set_defaults(run=_up)

    status = parsers.add_parser("status", help="how many replicas there are, in which state")
    status.set_defaults(run=_status)

    down = parsers.add_parser("down", help="remove the app; returns when its last answers have ended")
    down.set_defaults(run=_down)

    for parser in (up, status, down):
        parser.add_argument(
            "--address",
            default="auto",
            metavar="HOST:PORT",
            help="the cluster's; default: RAY_ADDRESS, or this node's",
        )


def _number_of(what: str, least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no number of {what}: {least} or more")
        return int(text)

    return number


def _positive(text: str) -> float:
    with suppress(ValueError):
        if 0 < (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")


def _up(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    most = options.max or options.min
    if most < options.min:
        raise ClusterError(f"--max {most} is less than --min {options.min}.")
    shape = Shape(options.min, most, options.gpus, options.cpus, options.up_after, options.down_after)
    everywhere = at_every_node(settings)
    _deployer().deploy(everywhere, shape, options.targets.absolute(), options.address)
    console.print(f"Every node with a replica answers on {settings.app_host}:{settings.app_port}.", markup=False)


def _status(options: argparse.Namespace, _settings: Settings, console: Console) -> int:
    found = _deployer().replicas(options.address)
    if found is None:
        console.print("The app is not deployed on this cluster: `python -m app cluster up` does it.", markup=False)
        return 1
    table = Table("state", "replicas", box=None)
    for state, count in sorted(found.items()):
        table.add_row(state, str(count))
    console.print(table)
    return 0 if found.get("RUNNING") else 1


def _down(options: argparse.Namespace, _settings: Settings, console: Console) -> None:
    _deployer().remove(options.address)
    console.print("The app is removed from the cluster.", markup=False)


def _deployer() -> ModuleType:
    """Imported late: Ray is in an environment of its own. Raises ClusterError."""
    try:
        return importlib.import_module("app.cluster.deploy")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ClusterError(
            "Ray is not installed in this Python. `make cluster` makes an environment with it: "
            "var/cluster/bin/python -m app cluster up."
        ) from None
