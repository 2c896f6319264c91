"""The ports that the stack will listen on, unless it is the stack itself that listens there."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator, Mapping
from itertools import combinations

from stack.config import Config
from stack.containers.compose import project_name
from stack.doctor import engine
from stack.doctor.finding import Finding, failed, passed
from stack.host import listeners, ports
from stack.native import processes

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What a kernel says to an address of another machine, and to an IPv6 address where IPv6 is off."""
_ON_LOOPBACK = ("127.0.0.1", "0.0.0.0")
_PUBLISHED = re.compile(r":(\d+)->")


def check_ports(config: Config, mode: str) -> Iterator[Finding]:
    wanted = _wanted(config, mode)
    if same := list(_same(wanted)):
        yield from same
        return
    findings = [_judge(config, mode, name, host, port) for name, (host, port) in wanted.items()]
    if any(findings):
        yield from filter(None, findings)
    else:
        numbers = ", ".join(str(port) for _, port in wanted.values())
        yield passed("ports", f"{numbers}: free, or used by this stack itself")


def _judge(config: Config, mode: str, name: str, host: str, port: int) -> Finding | None:
    """None: the stack can listen there, or does so already."""
    obstacle = ports.obstacle(host, port)
    if obstacle is None or port in _published(config):
        return None
    if obstacle.errno in _NOT_HERE or isinstance(obstacle, socket.gaierror):  # the last: no address at all
        return failed(
            "ports", f"HTTP_HOST={host} is not an address of this machine", "`ip address` lists its addresses"
        )
    another = f"make up {name}={ports.free_ports(1)[0]}"
    holder = listeners.holder(port)
    if obstacle.errno == errno.EACCES and holder == listeners.Holder():
        text = f"{name}={port}: this user may not listen on this port"
        # Docker's engine listens there as root.
        return None if mode == "docker" else failed("ports", text, f"Choose another port: {another}")
    if holder.pid in {process.pid for process in processes.of_stack(config.state_dir)}:
        return None
    text = f"{name}={port} is taken: {holder} listens there"
    return failed("ports", text, f"Stop it, or choose another port: {another}")


def _wanted(config: Config, mode: str) -> dict[str, tuple[str, int]]:
    wanted = {
        "HTTP_PORT": (config.http_host, config.http_port),
        "PROMETHEUS_PORT": ("127.0.0.1", config.prometheus_port),
    }
    if mode == "docker":  # there is no native Grafana
        wanted["GRAFANA_PORT"] = ("127.0.0.1", config.grafana_port)
    return wanted


def _same(wanted: Mapping[str, tuple[str, int]]) -> Iterator[Finding]:
    """Two of the stack's own services that would listen on one port of one address."""
    for (one, (host, port)), (other, (_, same)) in combinations(wanted.items(), 2):
        if port == same and host in _ON_LOOPBACK:  # all but HTTP_PORT are on 127.0.0.1
            remedy = f"Choose another port: make up {other}={ports.free_ports(1)[0]}"
            yield failed("ports", f"{one} and {other} are both {port}", remedy)


def _published(config: Config) -> set[int]:
    """Of this project's containers: Docker's proxy listens for them, as root and under its own name."""
    mine = f"label=com.docker.compose.project={project_name(config)}"
    told = engine.tell("ps", "--format", "{{.Ports}}", "--filter", mine)
    return {int(port) for port in _PUBLISHED.findall(told)}
