"""LiteLLM's proxy as a real process, with a scripted model server behind it.

It needs an environment of its own, which `.ci/litellm` makes: `AFK_TEST_LITELLM_PROXY` names its command `litellm`.
The proxy runs on loopback with its own copies of prices and headers, without a database, so that it asks nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from tests.free_port import on_free_port

COMMAND = os.environ.get("AFK_TEST_LITELLM_PROXY", "")
START_LIMIT = 5 * LIMIT
"""Its first start compiles all that it imports, which takes minutes on a slow machine."""
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
        log = Path(folder) / "log"
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(_config(upstream)))  # JSON is YAML too
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}

        def start(port: int) -> subprocess.Popen[bytes]:
            with log.open("wb") as file:
                return subprocess.Popen(
                    [COMMAND, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
                    cwd=folder,
                    env={**kept, **_ENVIRONMENT, "HOME": folder},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )

        process, port = on_free_port(start, lambda process, port: _answers(process, port, log))
        try:
            yield LiteLLMProxy(f"http://127.0.0.1:{port}", upstream)
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


def _answers(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    """Wait until the proxy answers, and return True; False where it has ended."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            print(f"LiteLLM's proxy has ended:\n{log.read_text()}")
            return False
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=LIMIT).close()
            return True
        time.sleep(0.1)
    raise AssertionError(f"LiteLLM's proxy does not answer:\n{log.read_text()}")
