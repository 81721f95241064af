"""Servers of others on a port of this machine that they cannot choose themselves."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable

_TRIES = 5


def on_free_port(
    start: Callable[[int], subprocess.Popen[bytes]], is_ready: Callable[[subprocess.Popen[bytes], int], bool]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server on a free port, and return its process and the port once it is ready.

    Another process may take the port before the server does. Then the server ends, and is started on another port.

    Args:
        start: starts the server on a port.
        is_ready: waits until the server is ready, and returns False where it has ended.
    """
    for _ in range(_TRIES):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        process = start(port)
        ready = False
        try:
            ready = is_ready(process, port)
        finally:
            if not ready:
                process.kill()
                process.communicate()
        if ready:
            return process, port
    raise AssertionError(f"the server has ended {_TRIES} times")
