"""Names of models that name none, wherever a user writes them."""

from __future__ import annotations

import pytest

from tests.commands.conftest import keyed, server, shell
from tests.e2e.shell import Finished, Shell

__all__ = ["keyed", "server", "shell"]

EMPTY = ["openai/", "openai/ ", "openai/\t", "/x", " /x", "/", "nowhere/"]


def user_config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def assert_refused(done: Finished, name: str) -> None:
    assert done.code == 2, done.err
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert repr(name) in line
    assert "write it as provider/model" in line


@pytest.mark.parametrize("name", EMPTY)
def test_an_option_that_names_no_model_is_refused(keyed: Shell, name: str) -> None:
    assert_refused(keyed.in_process("run", "-m", name, "hi"), name)


@pytest.mark.parametrize("name", EMPTY)
def test_a_variable_that_names_no_model_is_refused(keyed: Shell, name: str) -> None:
    assert_refused(keyed.in_process("run", "hi", AFK_MODEL=name), name)


@pytest.mark.parametrize("name", [*EMPTY, ""])
@pytest.mark.parametrize(
    "config",
    [
        'model = "{}"',
        '[agents.a]\nmodel = "{}"',
        'model = "short"\n[models]\nshort = "{}"',
        'model = "openai/x"\nfallback_models = ["{}"]',
    ],
    ids=["model", "agent", "alias", "fallback"],
)
def test_a_config_that_names_no_model_is_refused(keyed: Shell, config: str, name: str) -> None:
    del keyed.env["AFK_MODEL"]
    user_config(keyed, config.format(name.replace("\t", "\\t")) + "\n")
    agent = ("-a", "a") if "agents" in config else ()
    done = keyed.in_process("run", *agent, "hi")
    if name or "[models]" not in config:
        assert_refused(done, name)
    else:  # an alias for nothing is none
        assert_refused(done, "short")


@pytest.mark.parametrize("name", ["openai", "openai/gpt-5.2-mini", "openai//models/x.gguf"])
def test_the_default_model_of_a_provider_and_names_that_are_paths_answer(keyed: Shell, name: str) -> None:
    assert keyed.in_process("run", "-m", name, "hi").out == "reply 1: hi\n"
