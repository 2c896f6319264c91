"""TCP ports: whether a server can listen on one, and which are free."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def obstacle(host: str, port: int) -> OSError | None:
    """Why a server of this user could not listen there; None when it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def free_ports(count: int) -> list[int]:
    """Different ports of loopback that are free now. Another process may take them first: use them soon."""
    with ExitStack() as open_together:
        sockets = [open_together.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
