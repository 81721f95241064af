"""What tests of batches on many machines share: workers and submitters in processes, one model server for all."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer, RecordedRequest

KEY = "sk-secret-of-the-worker"
Process = subprocess.Popen[bytes]
Serve = Callable[[Callable[[RecordedRequest], Step]], ModelServer]


def said(request: RecordedRequest) -> str:
    return str(request.body["messages"][-1]["content"])


def wait_for(server: ModelServer, count: int, *unless_ended: Process) -> None:
    """Wait until so many requests have come, or one of the processes has ended."""
    while all(process.poll() is None for process in unless_ended):
        with suppress(TimeoutError):
            server.wait_for_requests(count, 0.05)
            return
