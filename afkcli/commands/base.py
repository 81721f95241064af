"""The base classes of commands, groups of commands and options: what their `--help` shows, and how.

A command gives its examples, an option the group in which the help of a long command shows it:

    @click.command("run", cls=Command, examples=(('afk run "Hello"', "ask"),))
    @option("--thread", "-t", group=CONVERSATION, metavar="NAME", help="The thread to continue.")

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from afkcli.commands.context import invocation_of
from afkcli.screen.help_text import example_lines, help_width, table, usage_lines

F = TypeVar("F", bound=Callable[..., Any])
Examples = Sequence[tuple[str, str]]
"""Command lines that can be typed as they are, each with what it does."""

MESSAGE = "Message"
CONVERSATION = "Conversation"
MODEL = "Model and agent"
TOOLS = "Tools"
OUTPUT = "Output"
RUN_LIMITS = "Limits"
TESTING = "Tests and errors"
OTHER = "Options"
_GROUPS = (MESSAGE, CONVERSATION, MODEL, TOOLS, OUTPUT, RUN_LIMITS, TESTING)
"""The order in which a help shows the groups of options. Those that are not listed follow, and `OTHER` is last."""

_SHORT_HELP_CHARS = 400

SHOWS_AND_EXITS: Mapping[str, Any] = {"is_flag": True, "expose_value": False, "is_eager": True}
"""What `option` is given for an option that shows something and ends the command, as `--help` does.

click's own `version_option` and `help_option` look for a translation of their text in the folders of the system, at
each start and for each command.
"""


class HelpFormatter(click.HelpFormatter):
    """Lays out tables as the front page does, on narrow terminals too."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        self.write("".join(f"{line}\n" for line in usage_lines(f"{prog} {args}", self.width, _width_of)))

    def write_dl(self, rows: Iterable[tuple[str, str]], *arguments: Any, **attributes: Any) -> None:
        self.write("".join(f"{line}\n" for line in table(list(rows), self.width, measure=_width_of)))

    def write_examples(self, examples: Examples) -> None:
        self.write("".join(f"{line}\n" for line in example_lines(examples, self.width, _width_of)))


class Context(click.Context):
    """A context whose help is as wide as the terminal of the invocation."""

    def make_formatter(self) -> click.HelpFormatter:
        return HelpFormatter(width=help_width(invocation_of(self).columns()))


class Option(click.Option):
    """An option that belongs to a group of the help.

    Args:
        group: the heading of the group, one of those above or another; those without one are under `OTHER`.
        once: refuse two different values, of which click would use the last one.
        attributes: those of `click.Option`.
    """

    def __init__(self, *arguments: Any, group: str = OTHER, once: bool = False, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.group = group
        self.once = once


class EnvironmentOption(Option):
    """An option that takes its value from a variable of the invocation's environment where it is not given."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        return invocation_of(ctx).environment.get(str(self.envvar)) or None if self.envvar else None

    def get_error_hint(self, ctx: click.Context | None, *arguments: object) -> str:
        """Return what an error calls this option: its variable, if the wrong value came from that."""
        if ctx is not None and ctx.get_parameter_source(str(self.name)) is click.core.ParameterSource.ENVIRONMENT:
            return f"'{self.envvar}'"
        return super().get_error_hint(ctx)


def option(*names: str, cls: type[Option] = Option, **attributes: Any) -> Callable[[F], F]:
    """Declare an option as `click.option` does; `group` says where the help shows it."""
    return click.option(*names, cls=cls, **attributes)


class Command(click.Command):
    """A command whose help has examples, and its options in groups.

    Args:
        examples: what can be typed, and what that does.
        attributes: those of `click.Command`.
    """

    context_class = Context

    def __init__(self, *arguments: Any, examples: Examples = (), **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.examples = tuple(examples)
        self._shows_help: click.Option | None = None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option that shows the help, the same one each time; None for a command without one."""
        names = self.get_help_option_names(ctx)
        if names and self.add_help_option and self._shows_help is None:
            self._shows_help = Option(names, help="Show this message and exit.", callback=_show_help, **SHOWS_AND_EXITS)
        return self._shows_help

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; refuse what click would take for something else than was meant."""
        typed = list(args)
        if not ctx.resilient_parsing and not isinstance(self, click.Group) and _may_be_mistaken(typed):
            from afkcli.commands.typed import check_arguments

            check_arguments(ctx, typed)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            from afkcli.commands.mistakes import improved

            raise improved(ctx, error, typed) from error

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        if self.examples and isinstance(formatter, HelpFormatter):
            with formatter.section("Examples"):
                formatter.write_examples(self.examples)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by their groups; those of each group in the order in which they were declared."""
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in _GROUPS}
        others: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None:
                group = getattr(param, "group", OTHER)
                (others if group == OTHER else groups.setdefault(group, [])).append(row)
        for group, rows in (*groups.items(), (OTHER, others)):
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows)


class Group(Command, click.Group):
    """A group of commands; its help lists them before its options."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names; an unknown one is refused with what may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from afkcli.commands.mistakes import unknown_command

            better = unknown_command(ctx, args[0], args[1:]) if not isinstance(error, click.NoSuchOption) else None
            raise better or error from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, found.get_short_help_str(_SHORT_HELP_CHARS)) for name, found in commands if found is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _show_help(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(ctx.get_help())
        ctx.exit()


def _may_be_mistaken(arguments: Sequence[str]) -> bool:
    """Return whether arguments need a closer look: not one option alone, and no plain text."""
    options = [word for word in arguments if word.startswith("-")]
    one_hyphen = any(word[1:2] not in ("", "-") and len(word) > len("-x") for word in options)
    return len(options) > 1 or one_hyphen or not all(map(str.isascii, arguments))


def _width_of(text: str) -> int:
    if text.isascii():
        return len(text)
    from afkcli.screen.text import width_of

    return width_of(text)
