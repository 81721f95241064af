"""It starts at once: what is imported is what is used. Facts about imports, not times; those are in benchmarks/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from afkcli.loading.discovery import KINDS
from afkcli.testing.model_server import ModelServer
from tests.commands.conftest import add_distribution
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import AFK, LIMIT, Shell

SDKS = {"openai", "anthropic", "mcp", "litellm", "httptools", "httpx", "httpx2", "xllamacpp"}
NOT_FOR_THE_VERSION = {"pluggy", "asyncio", "sqlite3", "importlib.metadata", "dataclasses", "json", "msgspec"}
DATACLASSES = {"Agent", "ContextConfig", "FailSafeConfig", "RunnerConfig", "Settings", "Tool"}
"""Classes that users subclass, that have a table in the metadata of their fields, or that afk fills from a config."""
NOT_FOR_A_RUN = {
    "afk_provider_openai.responses",
    "afkcli.commands.config",
    "afkcli.commands.prompt_lookup",
    "afkcli.commands.run_prompt",
    "afkcli.commands.taped_turn",
    "afkcli.commands.threads",
    "afkcli.config.front_matter",
    "afkcli.config.prompt_file",
    "afkcli.config.prompt_folders",
    "afkcli.core.contract.schemas",
    "afkcli.core.run.answer",
    "afkcli.core.run.tape",
    "afkcli.core.thread.exchange",
    "afkcli.core.thread.memory_store",
    "afkcli.providers.error_bodies",
    "afkcli.providers.preview",
    "afkcli.testing",
    "afkcli.wiring.dry_run",
    "afkcli.wiring.recording",
    "afkcli.wiring.replay",
    "afkcli.wiring.tapes",
    "platformdirs",
    "sqlite3.dump",
    "unittest",
    "yaml",
}
"""What a plain question to a server that speaks Chat Completions does not use, and an answer without an error."""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    return Shell(home=home, folder=folder)


def imported(shell: Shell, *command: str | Path) -> set[str]:
    """Run `afk`, or Python, in a clean process and return the modules that it imported."""
    program = [] if command[0] == AFK else [sys.executable]
    done = subprocess.run(
        [*program, *command],
        cwd=shell.folder,
        env=shell.environment(PYTHONPROFILEIMPORTTIME="1", AFK_WORKER="off"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def of(modules: set[str], packages: set[str]) -> set[str]:
    """Return those of `modules` that are, or are inside, one of `packages`."""
    return {name for name in modules if any(name == package or name.startswith(f"{package}.") for package in packages)}


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["run", "--help"], ["threads"], ["plugins"]], ids=" ".join
)
def test_what_asks_no_model_imports_no_provider_sdk(shell: Shell, arguments: list[str]) -> None:
    assert not of(imported(shell, AFK, *arguments), SDKS)


START = {
    "afkcli",
    "afkcli.cli",
    "afkcli.entry",
    "afkcli.front_page",
    "afkcli.host",
    "afkcli.host.collecting",
    "afkcli.host.descriptors",
    "afkcli.host.ending",
    "afkcli.host.invocation",
    "afkcli.host.search_path",
    "afkcli.version",
    "afkcli.worker",
    "afkcli.worker.client",
    "afkcli.worker.place",
    "afkcli.worker.wire",
}
CLICK = START | {
    "afkcli.command_group",
    "afkcli.commands",
    "afkcli.commands.base",
    "afkcli.commands.context",
    "afkcli.screen",
    "afkcli.screen.help_text",
}
ERRORS = {"afkcli.core", "afkcli.core.contract", "afkcli.core.contract.errors"}
OF_A_COMMAND = {
    "--version": START,
    "--help": START | {"afkcli.loading", "afkcli.loading.entry_points", "afkcli.screen", "afkcli.screen.help_text"},
    "run --help": CLICK
    | ERRORS
    | {
        "afkcli.commands.completion",
        "afkcli.commands.number_types",
        "afkcli.commands.run",
        "afkcli.commands.turn_options",
        "afkcli.commands.variable_option",
        "afkcli.core.contract.context",
        "afkcli.core.contract.limits",
    },
    "completion fish": CLICK | ERRORS | {"afkcli.commands.completion", "afkcli.commands.completion_scripts"},
}
"""All modules of ours that a command may import."""


NOT_FOR_A_LIST = {
    "asyncio",
    "hashlib",
    "ssl",
    "importlib.metadata",
    "afkcli.commands.conversation",
    "afkcli.commands.turn",
    "afkcli.config.checking",
    "afkcli.config.trust",
    "afkcli.core.contract.events",
    "afkcli.core.contract.messages",
    "afkcli.core.run",
    "afkcli.core.thread.lost_metadata",
    "afkcli.core.thread.operations",
}


@pytest.mark.parametrize("command", OF_A_COMMAND)
def test_a_command_imports_what_it_shows_and_nothing_else_of_ours(shell: Shell, command: str) -> None:
    modules = imported(shell, AFK, *command.split())

    assert of(modules, {"afkcli"}) - OF_A_COMMAND[command] == set()
    assert not of(modules, NOT_FOR_THE_VERSION - {"dataclasses"})  # which the table of limits is made of


@pytest.mark.parametrize("command", ["--version", "--help"])
def test_the_front_page_takes_no_library(shell: Shell, command: str) -> None:
    modules = imported(shell, AFK, command)

    assert not of(modules, NOT_FOR_THE_VERSION | {"click", "inspect", "pathlib", "subprocess", "email", "zipfile"})


def test_a_list_of_threads_takes_no_run_and_no_history(shell: Shell) -> None:
    with ModelServer() as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        assert shell.afk("run", "-n", "-t", "trip", "-m", "gpt-5.2-mini", "hi").code == 0
    modules = imported(shell, AFK, "threads")

    assert "afk_store_disk.store" in modules
    assert not of(modules, NOT_FOR_A_LIST | {"afkcli.core.contract.limits"})


def test_completing_the_name_of_a_thread_takes_no_run_and_no_history(shell: Shell) -> None:
    with ModelServer() as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        assert shell.afk("run", "-n", "-t", "trip", "-m", "gpt-5.2-mini", "hi").code == 0
    shell.env.update(_AFK_COMPLETE="zsh")
    modules = imported(shell, AFK, "run", "-t", "tr")

    assert "afk_store_disk.store" in modules
    assert not of(modules, NOT_FOR_A_LIST)


@pytest.mark.parametrize("words", [["th"], ["run", "--th"], ["run", "--busy", ""]])
def test_completing_a_word_of_afk_takes_no_store_and_no_plugin(shell: Shell, words: list[str]) -> None:
    shell.env.update(_AFK_COMPLETE="zsh")
    modules = imported(shell, AFK, *words)

    assert not of(modules, NOT_FOR_A_LIST | {"afk_store_disk", "afkcli.wiring", "afkcli.commands.threads", "sqlite3"})


def test_importing_afkcli_imports_nothing_else_of_ours(shell: Shell) -> None:
    modules = imported(shell, "-c", "import afkcli")

    assert of(modules, {"afkcli"}) == {"afkcli"}
    assert not of(modules, SDKS | NOT_FOR_THE_VERSION | {"click"})


def test_the_names_of_the_package_bring_no_sdk_and_no_command_line(shell: Shell) -> None:
    script = "from afkcli import Agent, FailSafeConfig, Runner, RunnerConfig, AgentResult, tool, hookimpl"

    assert not of(imported(shell, "-c", script), SDKS | {"click", "pydantic", "afkcli.commands"})


def test_a_run_imports_only_the_plugins_that_it_uses(shell: Shell) -> None:
    with ModelServer() as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        modules = imported(shell, AFK, "run", "-n", "-m", "gpt-5.2-mini", "hi")

    assert "afk_provider_openai.provider" in modules
    assert not of(modules, {"afk_provider_local", "xllamacpp", "anthropic", "litellm"} | NOT_FOR_A_RUN)
    renderer = {"markdown_it", "prompt_toolkit", "yaml", "afkcli.screen.markdown"}
    if "httpx" not in modules:  # which older SDKs use, and whose own command line takes these
        renderer |= {"pygments", "rich"}
    assert not of(modules, renderer), "stdout is no terminal"


def test_a_run_makes_few_dataclasses(shell: Shell) -> None:
    """A dataclass compiles its methods when its class is made; a hundred of them took a tenth of the start."""
    script = (
        "import sys; from afkcli.cli import run; from afkcli.host.invocation import Invocation;"
        " assert run(Invocation.of_process()).code == 0;"
        " classes = [value for name, module in list(sys.modules.items()) if name.startswith('afk')"
        " for value in vars(module).values() if isinstance(value, type) and value.__module__.startswith('afk')];"
        " made = {kind.__name__ for kind in classes if '__dataclass_params__' in vars(kind)};"
        " print(*made - {'FrozenStruct'}, file=sys.stderr)"
    )
    with ModelServer() as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        done = subprocess.run(
            [sys.executable, "-c", script, "run", "-t", "t", "-m", "gpt-5.2-mini", "hi"],
            cwd=shell.folder,
            env=shell.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    assert done.returncode == 0, done.stderr[-2000:]
    assert "Settings" in done.stderr.splitlines()[-1]
    assert set(done.stderr.splitlines()[-1].split()) <= DATACLASSES


@pytest.fixture
def crowded(shell: Shell, tmp_path: Path) -> Path:
    """Fifty more plugins that are installed, ten of each kind; importing one of them ends the command."""
    site = tmp_path / "site"
    site.mkdir()
    for number in range(50):
        kind = KINDS[number % len(KINDS)]
        points = {"afk": {f"{kind}.more{number}": f"more{number}"}}
        if kind == "provider":
            points["afk.models"] = {f"more{number}-": f"provider.more{number}"}
        add_distribution(site, f"afk-more-{number}", points, **{f"more{number}": "raise SystemExit(70)"})
    shell.env["PYTHONPATH"] = str(site)
    return site


@pytest.mark.parametrize("command", ["--version", "--help", "run --help", "threads", "config path", "run -n hi"])
def test_of_fifty_more_plugins_none_is_imported(shell: Shell, crowded: Path, command: str) -> None:
    with ModelServer() as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        modules = imported(shell, AFK, *command.split())

    assert not [name for name in modules if name.startswith("more")]


OPENED = """
import os, sys
os._exit = sys.exit  # a list ends its process itself
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from afkcli.cli import main
try:
    main()
except SystemExit as ending:
    assert not ending.code
    print("\\n".join(opened), file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["--help", "threads"])
def test_of_each_plugin_that_is_not_used_one_file_is_read_once(shell: Shell, crowded: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPENED, *command.split()],
        cwd=shell.folder,
        env=shell.environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    read = [line for line in done.stderr.splitlines() if line.startswith(str(crowded))]

    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(read) == sorted(map(str, crowded.glob("*.dist-info/entry_points.txt")))
    assert len(read) == 50


def test_a_run_without_memory_opens_no_store_and_no_log(shell: Shell) -> None:
    with ModelServer() as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        modules = imported(shell, AFK, "run", "-n", "--no-memory", "-m", "gpt-5.2-mini", "hi")

    assert not of(modules, {"afk_store_disk", "diskcache", "sqlite3", "afk_sink_jsonl"})


def test_the_local_model_imports_no_sdk_of_another_provider(shell: Shell) -> None:
    modules = imported(shell, AFK, "run", "-n", "-m", "local", "Say hello.")

    assert "afk_provider_local.provider" in modules
    assert not of(modules, (SDKS - {"xllamacpp"}) | {"afk_provider_openai"} | NOT_FOR_A_RUN)


def test_only_a_run_with_tools_of_a_plugin_pays_for_them(shell: Shell) -> None:
    """afk hides its memory from what tools start, which takes ctypes; and a command takes the plugin that runs it."""
    with ModelServer() as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        without = imported(shell, AFK, "run", "-n", "-m", "gpt-5.2-mini", "hi")
        with_ = imported(shell, AFK, "run", "-n", "-m", "gpt-5.2-mini", "--tool", "shell.run", "hi")

    assert not of(without, {"ctypes", "afk_tools_shell", "afk_tools_files"})
    assert {"ctypes", "afk_tools_shell.tools"} <= with_
    assert not of(with_, {"afk_tools_files"})


BEFORE_THE_PROMPT = """
import os, sys
import afkcli.commands.chat_run as chat_run
def shown(loading, then):
    print(*sys.modules, sep="\\n", file=open(os.environ["MODULES"], "w"))
    os._exit(0)
chat_run._begin = shown
from afkcli.cli import main
main()
"""


def test_the_first_prompt_of_the_chat_waits_for_no_config_plugin_or_sdk(shell: Shell, tmp_path: Path) -> None:
    """They are loaded in a thread once the prompt is on the screen."""
    shell.env.update(OPENAI_API_KEY="sk-canary-0123456789", MODULES=str(tmp_path / "modules"))
    with attended_terminal() as terminal:
        process = terminal.start(shell, "-c", BEFORE_THE_PROMPT, "chat", program=(sys.executable,))
        assert process.wait(LIMIT) == 0
    modules = set((tmp_path / "modules").read_text().split())

    assert "prompt_toolkit" in modules
    unused = {"afkcli.config", "afkcli.loading", "afkcli.wiring", "afkcli.commands.turn", "afkcli.core.run", "rich"}
    assert not of(modules, SDKS | unused | {"pluggy", "sqlite3", "pygments", "tomllib"})


def test_a_chat_from_a_pipe_takes_no_library_for_terminals(shell: Shell) -> None:
    modules = imported(shell, AFK, "chat")

    assert not of(modules, {"prompt_toolkit", "rich", "pygments", "wcwidth"})


def test_the_help_of_the_chat_takes_no_chat(shell: Shell) -> None:
    modules = imported(shell, AFK, "chat", "--help")

    assert not of(modules, NOT_FOR_THE_VERSION - {"dataclasses"} | {"afkcli.chat", "prompt_toolkit", "rich"})
