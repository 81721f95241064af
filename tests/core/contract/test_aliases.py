"""Module names of version 0.1."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings

import pytest

from afkcli.core.contract import aliases

# What the plugins of this repository imported at version 0.1; docs/plugins.md named a part of it.
TAUGHT = {
    "afkcli.core.agent": "Agent FailSafeConfig",
    "afkcli.core.attachments": "PDF attached_parts label",
    "afkcli.core.errors": "AfkError ConfigError CounterLimitError ErrorKind HeadMismatchError LeaseLostError"
    " MissingKeyError NameTakenError PluginError ProviderError StoreError UnknownNameError UsageError",
    "afkcli.core.events": "Event TextDeltaEvent event_to_json message_to_json",
    "afkcli.core.ids": "rfc3339 uuid7",
    "afkcli.core.jsonform": "Json JsonError JsonObject MAX_LINE_BYTES clean_text dumps loads loads_object",
    "afkcli.core.memory": "MemoryStore",
    "afkcli.core.messages": "FilePart FinishReason ImagePart Message ModelEvent ModelRequest ModelResponse ModelWarning"
    " Part ProviderData ReasoningDelta ReasoningPart Role TextDelta TextPart ToolCallDelta ToolCallPart ToolResultPart"
    " ToolSpec message_from_json text_message",
    "afkcli.core.protocols": "Capabilities DURABLE_KINDS Fork KEPT_KINDS LEASE_SECONDS Lease ModelInfo NO_CONTENTS"
    " OpenTurn Owner Price PriceTier Provider Record RecordKind Sink Store ThreadInfo",
    "afkcli.core.result": "AgentResult RunState Usage usage_from_json",
    "afkcli.core.run": "Run",
    "afkcli.core.runner": "Runner RunnerConfig",
    "afkcli.core.schemas": "problems schema_problem",
    "afkcli.core.store_thread": "StoreThread",
    "afkcli.core.structured": "told unfenced",
    "afkcli.core.tasks": "started",
    "afkcli.core.thread": "SealedTurn advance after_seal load_history turn_from_json",
    "afkcli.core.tools": "MAX_OUTPUT_CHARS Tool ToolError Toolset bounded tool",
    "afkcli.core.waiting": "while_waiting",
    "afkcli.api": "Runner",
    "afkcli.attachments": "Attachment",
    "afkcli.nondumpable": "hide_memory",
    "afkcli.owner": "boot_id current_owner proven_dead",
    "afkcli.paths": "config_dir data_dir make_private_folder state_dir",
    "afkcli.providers.credentials": "address_secrets",
    "afkcli.render": "Messages one_line",
    "afkcli.settings": "SECRETS fill_settings",
}


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("old", TAUGHT)
def test_every_name_that_was_used_is_there_and_is_the_same_object(old: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(old)
        for name in TAUGHT[old].split():
            value = getattr(module, name)
            home = getattr(value, "__module__", None)
            if isinstance(home, str) and home.startswith("afkcli.") and hasattr(value, "__name__"):
                assert getattr(importlib.import_module(home), value.__name__) is value


NOT_PUBLIC = {"AgentResult", "Messages", "problems", "unfenced"}


@pytest.mark.parametrize("old", TAUGHT)
def test_the_module_that_the_deprecation_names_has_the_names(old: str) -> None:
    public = aliases.OLD_MODULES[old].public
    if public is not None:
        module = importlib.import_module(public)
        assert [name for name in TAUGHT[old].split() if name not in NOT_PUBLIC and not hasattr(module, name)] == []


def test_every_old_module_can_be_imported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for old, moved in aliases.OLD_MODULES.items():
            importlib.import_module(old)
            assert [home for home in moved.homes if importlib.util.find_spec(home) is None] == [], old


@pytest.mark.parametrize(
    "code",
    [
        "import afkcli.core.messages as old",
        "import afkcli.core.messages; old = afkcli.core.messages",
        "from afkcli.core import messages as old",
        "import importlib; old = importlib.import_module('afkcli.core.messages')",
    ],
)
def test_every_form_of_import_gives_the_same_classes_and_warns_once_where_it_is(code: str) -> None:
    out = run_python(
        f"{code}\n{code}\nfrom afkcli.core.messages import Role\nfrom afkcli.plugin import Role as New, TextPart\n"
        "assert old.Role is Role is New and isinstance(TextPart(text=''), old.TextPart)"
    )
    assert out.count("DeprecationWarning") == 1
    assert "DeprecationWarning: afkcli.core.messages is deprecated and will be removed in version 0.3" in out
    assert out.startswith("<string>:1:") or "import_module" in code
    assert "import from afkcli.plugin instead" in out


def test_a_star_import_gives_the_public_names() -> None:
    assert run_python("from afkcli.core.errors import *; print(ErrorKind.AUTH)").startswith("auth")


@pytest.mark.parametrize("package", ["thread", "run"])
def test_a_module_that_is_a_package_now_warns_only_for_old_names(package: str) -> None:
    name, submodule = {"thread": ("load_history", "memory_store"), "run": ("Run", "runner")}[package]
    new = f"from afkcli.core.{package} import {submodule}\nimport afkcli.core.{package}"
    assert run_python(new) == ""

    out = run_python(f"{new}\n\nfrom afkcli.core.{package} import {name}\nafkcli.core.{package}.{name}")

    assert out.count("DeprecationWarning") == 1
    assert out.startswith("<string>:4: DeprecationWarning")


@pytest.mark.parametrize(
    "code",
    [
        "import afkcli.core.nowhere",
        "import afkcli.nowhere",
        "from afkcli.core import nowhere",
        "from afkcli.core.messages import Nowhere",
        "from afkcli.core.thread import Nowhere",
    ],
)
def test_a_name_that_never_was_is_an_import_error(code: str) -> None:
    assert run_python(f"try: {code}\nexcept ImportError as error: print('refused')").startswith("refused\n")


def test_the_table_is_not_imported_where_no_old_name_is_used() -> None:
    imports = "import sys, afkcli, afkcli.cli, afkcli.plugin, afkcli.wiring.runner"
    assert run_python(f"{imports}; print('afkcli.core.contract.aliases' in sys.modules)") == "False\n"
