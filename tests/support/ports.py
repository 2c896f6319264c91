"""Waiting for a server that a test started."""

import socket
import time

from tests.support.patience import PATIENCE


def wait_for_port(port: int) -> None:
    """Return when a server accepts connections on this port of loopback."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on port {port} after {PATIENCE} s"
            time.sleep(0.05)
        else:
            return
