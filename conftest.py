"""For all tests, those of the plugins too."""

import importlib.util

import pytest

from tests.interrupts import allow_interrupts

allow_interrupts()

# LiteLLM cannot be installed beside the newest SDK of OpenAI, which the other tests have.
HAS_LITELLM = importlib.util.find_spec("litellm") is not None
collect_ignore = [] if HAS_LITELLM else ["plugins/provider_litellm"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not HAS_LITELLM:
        terminalreporter.write_line("what needs LiteLLM was left out: .ci/litellm runs it in an environment of its own")
