"""For all tests, those of the plugins too: in how many processes they run, and how many examples a property gets."""

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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="try properties with as many examples as CI")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if _full(config) else "small")


def _full(config: pytest.Config) -> bool:
    return bool(config.getoption("--full")) or "CI" in os.environ


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes run the tests: several for all tests, 0 (this one) for chosen ones.

    Most tests wait for a process of their own, so that there is one more than there are cores.
    """
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    chosen = any(config.getoption(name, False) for name in ("keyword", "markexpr", "lf", "collectonly"))
    return min((os.cpu_count() or 1) + 1, 8) if everything and not chosen else 0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not HAS_LITELLM:
        terminalreporter.write_line("what needs LiteLLM was left out: .ci/litellm runs it in an environment of its own")
    if not _full(config):
        terminalreporter.write_line("properties were tried with few examples: --full tries more, as CI does")
