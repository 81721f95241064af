"""For all tests, those of the plugins too: which run, in how many processes, and with how many examples a property."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.e2e.warm import AFK
from tests.e2e.workers import keep_workers, workers
from tests.event_checks import EVENTS, check_emitted_events
from tests.interrupts import allow_interrupts
from tests.postgres_server import stop_postgres_server

allow_interrupts()
os.environ.setdefault("AFK_WORKER", "off")  # a test starts none by chance
check_emitted_events()

# LiteLLM cannot be installed beside the newest SDK of OpenAI, which the other tests have, and its proxy beside neither.
HAS_LITELLM = importlib.util.find_spec("litellm") is not None
HAS_LITELLM_PROXY = bool(os.environ.get("AFK_TEST_LITELLM_PROXY"))
collect_ignore = [] if HAS_LITELLM else ["plugins/provider_litellm"]
if not HAS_LITELLM_PROXY:
    collect_ignore.append("tests/e2e/test_litellm_proxy.py")

HAS_LLM = bool(os.environ.get("AFK_TEST_LLM"))
if not HAS_LLM:
    collect_ignore.append("tests/e2e/test_llm_logs.py")

HAS_SCHEMA_TOOLS = bool(os.environ.get("AFK_TEST_SCHEMA_TOOLS"))
if not HAS_SCHEMA_TOOLS:
    collect_ignore.append("tests/schema_tools")

# No example has a time limit, which a busy machine would break.
settings.register_profile("small", deadline=None, max_examples=25)
settings.register_profile("full", deadline=None, max_examples=int(os.environ.get("AFK_TEST_EXAMPLES", "70")))

TESTS_A_SECOND = 8
SLOW_FILES = {
    "plugins/engine_dbos/tests/test_many_machines.py": 60,
    "plugins/provider_local/tests/test_provider_local.py": 60,
    "plugins/provider_openai/tests/test_llama_cpp.py": 30,
    "plugins/store_disk/tests/test_text_index.py": 40,
    "plugins/store_postgres/tests/test_contract.py": 50,
    "plugins/tools_mcp/tests/test_endings.py": 30,
    "plugins/tools_mcp/tests/test_http.py": 40,
    "tests/commands/test_looking_back.py": 40,
    "tests/commands/test_plugin_install.py": 120,
    "tests/docs/test_documented_commands.py": 250,
    "tests/e2e/test_batch.py": 45,
    "tests/e2e/test_batch_via_provider.py": 40,
    "tests/e2e/test_chat.py": 50,
    "tests/e2e/test_completion.py": 60,
    "tests/e2e/test_sign_of_life.py": 70,
    "tests/e2e/test_tool_images.py": 80,
    "tests/e2e/test_unread_output.py": 40,
    "tests/safety/test_bound_starts.py": 40,
    "tests/safety/test_clock.py": 40,
    "tests/safety/test_keys.py": 40,
    "tests/sandbox/test_sandbox_table.py": 60,
    "tests/screen/test_activity.py": 30,
    "tests/screen/test_markdown.py": 40,
    "tests/worker/test_client_signals.py": 120,
    "tests/worker/warm/test_faults.py": 50,
    "tests/worker/warm/test_identity.py": 90,
    "tests/worker/warm/test_other_users.py": 40,
    "tests/worker/warm/test_same_answers.py": 60,
    "tests/worker/warm/test_warm_runs.py": 50,
    "tests/worker/warm/test_worker_command.py": 60,
    "tests/worker/warm/test_worker_faults.py": 80,
}
"""About how many seconds the files take whose tests take longer than those of others, of which a second has some."""

WARM = pytest.StashKey[list[tuple[int, int, dict[str, int]]]]()
"""Of each process of tests: how many commands ran warm, how many were started, and why some ran cold."""


@pytest.fixture(autouse=True)
def _no_places_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with no folders of stores that other tests opened in this process: a sandbox is told of all of them."""
    monkeypatch.setattr("afkcli.host.paths._kept", set())


@pytest.fixture(autouse=True)
def _events_are_as_their_schema_says() -> Iterator[None]:
    """Fail a test that emitted an event in this process, or read one of a log, that the schema does not allow."""
    EVENTS.problems.clear()
    yield
    assert EVENTS.problems == [], "events differ from `afk events schema`"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop what tests of this process have started; with `--warm`, fail where no command ran warm."""
    stop_postgres_server()
    kept = workers()
    if kept is None:
        return
    kept.close()
    counts = session.config.stash.setdefault(WARM, [])
    counts.append((kept.served, kept.commands, dict(kept.reasons)))
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["warm"] = counts[0]
    elif not sum(count[0] for count in counts) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note how many commands a process of pytest-xdist ran warm."""
    if counts := getattr(node, "workeroutput", {}).get("warm"):
        node.config.stash.setdefault(WARM, []).append(tuple(counts))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--warm", action="store_true", help="run the commands of tests in warm workers, where afk does")
    parser.addoption("--full", action="store_true", help="run all that CI runs: the long suites too, and more examples")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: a suite that takes minutes: CI runs it, and `--full`")
    if config.getoption("--warm"):
        keep_workers(AFK)
    settings.load_profile("full" if _full(config) else "small")
    config.option.loadscopereorder = False  # xdist keeps the order of `_longest_files_first`


def _full(config: pytest.Config) -> bool:
    return bool(config.getoption("--full")) or "CI" in os.environ


def _everything(config: pytest.Config) -> bool:
    """Return whether no file, folder or test was named."""
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long suites to CI and to `--full`, unless they are named; begin with the files that take longest."""
    if _everything(config):
        items.sort(key=_longest_files_first(config, items))
    if _full(config) or not _everything(config):
        return
    left_out = [item for item in items if item.get_closest_marker("long") is not None]
    items[:] = [item for item in items if item.get_closest_marker("long") is None]
    config.hook.pytest_deselected(items=left_out)


def _longest_files_first(config: pytest.Config, items: list[pytest.Item]) -> Callable[[pytest.Item], tuple[bool, int]]:
    """Return the key that sorts tests by their files: those of long suites first, then by what a file takes.

    A file is run by one process, so that a long one that begins last keeps all others waiting.
    """
    slow = {config.rootpath / name: seconds for name, seconds in SLOW_FILES.items()}
    if missing := [str(path) for path in slow if not path.exists()]:
        raise pytest.UsageError(f"SLOW_FILES in conftest.py names files that are not there: {', '.join(missing)}")
    counts = Counter(item.path for item in items)
    long = {item.path for item in items if item.get_closest_marker("long") is not None}
    return lambda item: (item.path not in long, -slow.get(item.path, counts[item.path] // TESTS_A_SECOND))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes run the tests: several for all tests, 0 (this one) for chosen ones.

    Most tests wait for a process of their own, so that there is one more than there are cores.
    """
    chosen = any(config.getoption(name, False) for name in ("keyword", "markexpr", "lf", "collectonly"))
    return min((os.cpu_count() or 1) + 1, 8) if _everything(config) and not chosen else 0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if counts := config.stash.get(WARM, []):
        served, commands = (sum(count[at] for count in counts) for at in (0, 1))
        reasons = sum((Counter(count[2]) for count in counts), Counter())
        terminalreporter.write_line(
            f"{served} of {commands} commands ran warm" + ("; why others ran cold:" if reasons else "")
        )
        for reason, number in reasons.most_common():
            terminalreporter.write_line(f"{number:5} {reason}")
    if not HAS_LITELLM:
        terminalreporter.write_line("what needs LiteLLM was left out: .ci/litellm runs it in an environment of its own")
    if not HAS_LITELLM_PROXY:
        terminalreporter.write_line("what needs LiteLLM's proxy was left out: .ci/litellm makes an environment for it")
    if not HAS_LLM and _everything(config):
        terminalreporter.write_line("what needs llm was left out: .ci/llm makes environments for it")
    if not HAS_SCHEMA_TOOLS and _everything(config):
        terminalreporter.write_line("what needs ajv and generators of types was left out: .ci/schema installs them")
    if not _full(config):
        terminalreporter.write_line(
            "the long suites were left out, and properties had few examples: --full runs all, as CI does"
        )
