"""Importing LiteLLM reads no `.env`, asks no server and says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PREPARE = """
import asyncio, sys
connected = []
sys.addaudithook(lambda event, arguments: event in ("socket.connect", "socket.getaddrinfo") and connected.append(event))
from afk_provider_litellm import Settings, afk_provider
asyncio.run(afk_provider(Settings()).prepare())
import litellm, os
print("planted" if "GROQ_API_KEY" in os.environ or "AFK_PLANTED" in os.environ else "clean", len(connected))
"""


def run(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LITELLM")}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=clean | environment, capture_output=True, text=True, check=True
    )


LOG = """
import logging
logger = logging.getLogger("LiteLLM")
logger.setLevel(logging.INFO)
logger.info("mark-info")
"""


def test_a_planted_env_file_is_not_read_nothing_is_fetched_and_the_log_is_silent(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GROQ_API_KEY=planted\nAFK_PLANTED=1\nLITELLM_LOG=DEBUG\n")

    done = run(PREPARE + LOG, tmp_path)

    assert (done.stdout, done.stderr) == ("clean 0\n", "")


def test_nor_where_the_environment_asks_for_it_and_the_log_goes_to_stderr(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AFK_PLANTED=1\n")
    asked = {"LITELLM_MODE": "DEV", "LITELLM_LOCAL_MODEL_COST_MAP": "False", "LITELLM_LOG": "INFO"}

    done = run(PREPARE + LOG, tmp_path, **asked)

    assert done.stdout == "clean 0\n"
    assert "mark-info" in done.stderr


def test_the_plugin_alone_imports_neither_litellm_nor_an_sdk(tmp_path: Path) -> None:
    script = (
        "import sys; from afk_provider_litellm import *; provider = afk_provider(Settings())\n"
        "provider.capabilities('groq/llama-3.1-8b-instant')\n"
        "print([name for name in ('litellm', 'openai', 'aiohttp', 'mcp') if name in sys.modules])"
    )

    assert run(script, tmp_path).stdout == "[]\n"


def test_a_call_does_not_load_the_table_of_tokens(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from afk_provider_litellm import Settings, afk_provider
from afkcli.core.contract.messages import ModelRequest, Role, text_message
from afkcli.testing.model_server import ModelServer, Step
async def main():
    with ModelServer([Step(text="ok")] * 3) as server:
        provider = afk_provider(Settings(api_key="some-key", base_url=server.base_url))
        for model in ("openai/m", "groq/m", "mistral/m"):
            request = ModelRequest(model=model, messages=[text_message(Role.USER, "q")])
            *_, response = [event async for event in provider.stream(request)]
            print(response.message.text, "litellm.litellm_core_utils.default_encoding" in sys.modules)
        await provider.aclose()
asyncio.run(main())
import litellm.main
print(litellm.main.encoding.encode("hello"))
"""
    done = run(script, tmp_path)

    assert (done.stdout, done.stderr) == ("ok False\n" * 3 + "[15339]\n", "")


def test_a_tool_call_needs_no_mcp(tmp_path: Path) -> None:
    script = """
import asyncio, sys
sys.modules["mcp"] = None
from afk_provider_litellm import Settings, afk_provider
from afkcli.core.contract.messages import ModelRequest, Role, ToolSpec, text_message
from afkcli.testing.model_server import ModelServer, ScriptedCall, Step
async def main():
    with ModelServer([Step(tool_calls=[ScriptedCall(name="files__read", arguments={"path": "a"})])]) as server:
        provider = afk_provider(Settings(api_key="some-key", base_url=server.base_url))
        tool = ToolSpec(name="files.read", description="d", parameters={"type": "object"})
        request = ModelRequest(model="openai/m", messages=[text_message(Role.USER, "q")], tools=[tool])
        *_, response = [event async for event in provider.stream(request)]
        print([(call.name, call.arguments) for call in response.message.tool_calls], sorted(server.bodies[0]))
        await provider.aclose()
asyncio.run(main())
"""
    done = run(script, tmp_path)

    sent = ["messages", "model", "stream", "stream_options", "tools"]
    assert (done.stdout, done.stderr) == (f"[('files.read', {{'path': 'a'}})] {sent}\n", "")
