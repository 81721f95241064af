"""afk passes the scenarios of the protocol's conformance suite that it supports, in both versions of the suite."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import REPOSITORY


def _suite() -> Any:
    spec = importlib.util.spec_from_file_location("mcp_conformance_suite", Path(__file__).with_name("suite.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.long
SUITE = _suite()


@pytest.fixture(scope="session")
def installed() -> Any:
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("npm is not installed: CI runs the conformance suite")
        pytest.skip("npm is not installed, and the conformance suite is a package of npm")
    return SUITE.Suite.installed()


@pytest.mark.parametrize("scenario", SUITE.SUPPORTED, ids=lambda scenario: scenario.label)
def test_a_scenario_is_passed(installed: Any, scenario: Any) -> None:
    passed, said = installed.play(scenario)

    assert passed, said


def test_the_page_names_the_scenarios_that_are_not_supported() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "mcp.md").read_text("utf-8")

    assert [name for name in SUITE.UNSUPPORTED if f"`{name}`" not in page] == []
