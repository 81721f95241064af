"""LiteLLM's proxy as a real process, with a scripted model server behind it.

It needs an environment of its own, which `.ci/litellm` makes: `AFK_TEST_LITELLM_PROXY` names its command `litellm`.
The proxy runs on loopback with its own copies of prices and headers, without a database, so that it asks nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT

COMMAND = os.environ.get("AFK_TEST_LITELLM_PROXY", "")
KEY = "sk-master-0123456789"
OPENAI_MODEL = "garden"
CLAUDE_MODEL = "thinker"
"""The names of the models at the proxy: one of OpenAI's APIs and one of Anthropic's, both at the scripted server."""

_ENVIRONMENT = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_TELEMETRY": "False",
}


@dataclass(frozen=True, slots=True)
class LiteLLMProxy:
    """A running proxy: its address (without a path), and the server behind it."""

    origin: str
    upstream: ModelServer


@contextlib.contextmanager
def running() -> Iterator[LiteLLMProxy]:
    """Run the proxy, and the model server behind it; both end with the context."""
    assert COMMAND, "AFK_TEST_LITELLM_PROXY has to name the command of LiteLLM's proxy: .ci/litellm makes it"
    with ModelServer() as upstream, tempfile.TemporaryDirectory(prefix="afk-litellm-proxy-") as folder:
        port, log = _free_port(), Path(folder) / "log"
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(_config(upstream)))  # JSON is YAML too
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [COMMAND, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env={**kept, **_ENVIRONMENT, "HOME": folder},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            origin = f"http://127.0.0.1:{port}"
            _wait_until_it_answers(process, origin, log)
            yield LiteLLMProxy(origin, upstream)
        finally:
            process.terminate()
            process.wait(LIMIT)


def _config(upstream: ModelServer) -> dict[str, object]:
    origin = upstream.base_url.removesuffix("/v1")
    models = {
        OPENAI_MODEL: {"model": "openai/gpt-upstream", "api_base": upstream.base_url},
        CLAUDE_MODEL: {"model": "anthropic/claude-sonnet-4-5", "api_base": origin},
    }
    return {
        "model_list": [
            {"model_name": name, "litellm_params": {**parameters, "api_key": "sk-upstream"}}
            for name, parameters in models.items()
        ],
        "general_settings": {"master_key": KEY},
        # A failure of the server behind is passed on at once, and does not close the model for the next test.
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_it_answers(process: subprocess.Popen[bytes], origin: str, log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        assert process.poll() is None, f"LiteLLM's proxy has ended:\n{log.read_text()}"
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{origin}/health/liveliness", timeout=LIMIT).close()
            return
        time.sleep(0.1)
    raise AssertionError(f"LiteLLM's proxy does not answer:\n{log.read_text()}")
