"""For all tests, those of the plugins too: how many run at once, and how much is tried.

`uv run pytest` runs everything side by side, the long forms left out; a file or `-k` runs in one process, at once.
`uv run pytest --full`, and CI, run the long forms as well.
"""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import settings

from tests.interrupts import allow_interrupts

allow_interrupts()

# LiteLLM cannot be installed beside the newest SDK of OpenAI, which the other tests have.
HAS_LITELLM = importlib.util.find_spec("litellm") is not None
collect_ignore = [] if HAS_LITELLM else ["plugins/provider_litellm"]

# No example has a time limit, which a busy machine would break.
settings.register_profile("small", deadline=None, max_examples=25)
settings.register_profile("full", deadline=None, max_examples=200)

LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long forms too, as CI does")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if _full(config) else "small")


def _full(config: pytest.Config) -> bool:
    return bool(config.getoption("--full")) or "CI" in os.environ


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long forms, unless they are asked for or named by `-m`."""
    if _full(config) or config.getoption("markexpr"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.stash[LEFT_OUT] = len(long)
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes run the tests: several for all tests, 0 (this one) for chosen ones.

    Most tests wait for a process of their own, so that there is one more than there are cores.
    """
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    chosen = any(config.getoption(name) for name in ("keyword", "markexpr", "lf", "collectonly"))
    return min((os.cpu_count() or 1) + 1, 8) if everything and not chosen else 0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not HAS_LITELLM:
        terminalreporter.write_line("what needs LiteLLM was left out: .ci/litellm runs it in an environment of its own")
    if not _full(config):
        terminalreporter.write_line("the long forms were left out: --full runs them, and CI does")
