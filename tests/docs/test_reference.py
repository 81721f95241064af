"""The reference is complete and has nothing else: it is compared with the code."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
import pytest

import afkcli
import afkcli.plugin
from afkcli.command_group import cli
from afkcli.config import checking
from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.events import EVENT_TYPES, Header
from afkcli.core.contract.messages import Message, Part
from afkcli.core.contract.result import AgentResult, RunState, ToolExecution, Usage
from afkcli.front_page import COMMANDS
from afkcli.loading.discovery import discover, section
from afkcli.loading.settings import settings_type
from tests.docs import api_reference
from tests.docs.pages import REPOSITORY, first_column, sections

REFERENCE = REPOSITORY / "docs" / "reference"

OUR_PLUGINS = sorted(
    path.parent.name
    for path in REPOSITORY.glob("plugins/*/pyproject.toml")
    if path.parent.name != "provider_litellm" or importlib.util.find_spec("litellm")  # .ci/litellm has it
)
HEADER = {field.name for field in dataclasses.fields(Header)}


def names(section: str) -> set[str]:
    """Return the names in the first column of the tables of a section."""
    return {name for row in first_column(section) for name in row}


def fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


class TestEvents:
    page = sections(REFERENCE / "events.md")

    def test_the_header_has_the_fields_of_every_event(self) -> None:
        assert names(self.page["What every event carries"]) == HEADER | {"v", "type"}

    def test_every_type_has_its_section(self) -> None:
        known = list(self.page)
        types = known[known.index("Types") + 1 : known.index("Objects")]

        assert sorted(types) == sorted(EVENT_TYPES)

    def test_every_class_of_an_event_is_a_type(self) -> None:
        # By name, because `slots=True` makes each class twice.
        assert {kind.__name__ for kind in EVENT_TYPES.values()} == {kind.__name__ for kind in Header.__subclasses__()}

    @pytest.mark.parametrize("name", EVENT_TYPES)
    def test_the_line_of_a_type_in_the_log_shows_fields_that_it_has(self, name: str) -> None:
        assert set(EVENT_TYPES[name].brief) <= fields(EVENT_TYPES[name])

    @pytest.mark.parametrize("name", EVENT_TYPES)
    def test_a_type_has_its_fields(self, name: str) -> None:
        section = self.page[name].partition("| code |")[0]

        assert names(section) == fields(EVENT_TYPES[name]) - HEADER - {"type"}

    @pytest.mark.parametrize("kind", [AgentResult, Usage, ToolExecution, Message])
    def test_an_object_has_its_fields(self, kind: Any) -> None:
        assert names(self.page[kind.__name__]) == fields(kind)

    @pytest.mark.parametrize("part", get_args(Part))
    def test_a_part_has_its_fields(self, part: Any) -> None:
        type_ = next(field.default for field in dataclasses.fields(part) if field.name == "type")
        text = " ".join(self.page["Message"].split())
        found = re.search(rf"`{type_}`(?: and `\w+`)? \(([^)]*)\)", text)

        assert found is not None
        assert set(re.findall(r"`(\w+)`", found[1])) == fields(part) - {"type", "provider_data"}

    def test_every_kind_of_error_is_listed(self) -> None:
        assert names(self.page["Kinds of errors"]) == {str(kind) for kind in ErrorKind}

    def test_every_state_is_listed(self) -> None:
        assert set(re.findall(r"\| `(\w+)`", self.page["States and exit codes"])) >= {str(state) for state in RunState}


class TestConfig:
    page = sections(REFERENCE / "config.md")

    @pytest.mark.parametrize(
        ("heading", "known"),
        [
            ("Keys of the top level", checking.TOP_LEVEL_KEYS),
            ("Keys of an agent", checking.NAMED_AGENT_KEYS),
            ("Approvals", {**checking.APPROVAL_KEYS, **checking.RULE_KEYS}),
            ("Options", checking.OPTION_KEYS),
            ("Limits", checking.LIMIT_KEYS),
            ("Budgets", checking.BUDGET_KEYS),
            ("Threads", checking.THREADS_KEYS),
            ("Worker", checking.WORKER_KEYS),
        ],
    )
    def test_every_key_is_listed(self, heading: str, known: Mapping[str, object]) -> None:
        assert names(self.page[heading]) == set(known)

    @pytest.mark.parametrize("folder", OUR_PLUGINS)
    def test_every_setting_of_our_plugins_is_listed(self, folder: str) -> None:
        kind, _, name = folder.partition("_")
        module = discover().load(kind, name)
        settings = settings_type(inspect.unwrap(getattr(module, f"afk_{kind}")))

        assert names(self.page[f"[{section(kind)}.{name}]"]) == fields(settings)

    def test_every_variable_is_listed(self) -> None:
        sources = [*REPOSITORY.glob("afkcli/**/*.py"), *REPOSITORY.glob("plugins/*/afk_*/**/*.py")]
        named = {name for path in sources for name in re.findall(r'"(AFK_[A-Z_]+)"', path.read_text(encoding="utf-8"))}

        assert names(self.page["Environment variables"]) == named - {"AFK_HOOKS", "AFK_NAME"}


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command of afk, groups included: its path, the command, its context."""
    root = click.Context(cli, info_name="afk")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=root)
        yield context.command_path, command, context
        if isinstance(command, click.Group):
            for inner_name in getattr(command, "places", command.commands):
                inner = command.get_command(context, inner_name)
                assert inner is not None
                inner_context = click.Context(inner, info_name=inner_name, parent=context)
                yield inner_context.command_path, inner, inner_context


ALL_COMMANDS = list(commands())


class TestCommandLine:
    page = sections(REFERENCE / "cli.md")

    def test_the_sections_are_those_of_the_commands(self) -> None:
        told = [heading for heading in self.page if heading.startswith("afk ")]

        assert told == [path for path, _, _ in ALL_COMMANDS]

    @pytest.mark.parametrize(("path", "command", "context"), ALL_COMMANDS, ids=[path for path, _, _ in ALL_COMMANDS])
    def test_a_section_has_exactly_the_options_of_its_command(
        self, path: str, command: click.Command, context: click.Context
    ) -> None:
        section = self.page[path]
        options = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]

        assert names(section) == {name for option in options for name in (*option.opts, *option.secondary_opts)}
        usage = f"{path} {' '.join(command.collect_usage_pieces(context))}"
        assert usage.replace("[COMMAND]", "COMMAND") in section.replace("[COMMAND]", "COMMAND")  # as click writes it
        for option in options:
            assert option.envvar is None or f"`{option.envvar}`" in section


class TestPythonApi:
    @pytest.mark.parametrize("path", api_reference.pages(), ids=lambda path: path.name)
    def test_a_generated_page_is_up_to_date(self, path: Path) -> None:
        assert path.read_text(encoding="utf-8") == api_reference.pages()[path], f"run: {api_reference.COMMAND}"

    def test_every_public_name_has_its_section(self) -> None:
        python, plugin = sections(REFERENCE / "api.md"), sections(REFERENCE / "plugin-api.md")

        assert {*afkcli.__all__} - {"__version__"} <= set(python)
        assert {*afkcli.plugin.__all__, *api_reference.HOOKS} <= set(plugin)

    def test_a_docstring_keeps_its_arguments_errors_and_version(self) -> None:
        text = api_reference.text_of(
            """Dig a bed.

            Args:
                number: which bed,
                    counted from 1.

            Raises:
                ToolError: there is no such bed.

            Since: 0.2.
            """
        )

        assert text.split("\n\n") == [
            "Dig a bed.",
            "Takes:",
            "- `number`: which bed, counted from 1.",
            "Raises:",
            "- `ToolError`: there is no such bed.",
            "Since 0.2.",
        ]
