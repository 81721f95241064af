"""The error of a wrong call: one line that says what happened, to which word, and what to type instead.

It is imported where a call is wrong, or looks as if it could be.

Since: 0.2.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import click

from afkcli.commands.other_words import ARGUMENTS, COMMANDS, OPTIONS, QUESTION_WORDS, SENTENCES
from afkcli.commands.typed import ODD, options_of, scan, see, shown, typed_plainly
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.suggestions import is_slip_of, near_names
from afkcli.screen.shell_line import shell_line

_SLIP_CHARS = 4
"""From this length on, a word with one slip is taken for one of another program."""


def unknown_command(ctx: click.Context, name: str, rest: Sequence[str]) -> UsageError | None:
    """Return the error for a word that is no command of a group; None where another one has to say it."""
    group = ctx.command
    assert isinstance(group, click.Group)
    path = ctx.command_path.split()[1:]
    plain = typed_plainly(name)
    if plain != name and (line := _as_command_line(ctx, plain)):
        return _type_this([*path, *line, *rest], f"{shown(name)} has characters that only look like blanks or hyphens")
    what = f"No such command {shown(name)}"
    known = group.list_commands(ctx)
    words = COMMANDS.get(" ".join(path), {})
    meant = words.get(name.lower(), ())
    if not meant and not _is_text(name):
        near = near_names(name, known, most=3)
        if near:
            return UsageError(f"{what}; did you mean {' or '.join(map(repr, near))}?; {see(ctx)}")
        slips = [word for word in words if is_slip_of(name.lower(), word)] if len(name) >= _SLIP_CHARS else []
        meant = words[slips[0]] if slips and (len(name) > _SLIP_CHARS or not rest) else ()
    existing = _existing(ctx, meant)
    if existing:
        return (
            UsageError(f"{what}; {existing[1:]}")
            if existing.startswith("#")
            else _type_this(_accepted(ctx, existing.split(), rest), what)
        )
    return _as_message(name, rest, what) if not path else _as_name(path, name, rest, what)


def _as_command_line(ctx: click.Context, text: str) -> list[str]:
    """Return the words of a text that begins with a command or an option; nothing for any other text."""
    words, group = text.split(), ctx.command
    if not words or not isinstance(group, click.Group):
        return []
    if words[0] in (*group.list_commands(ctx), *options_of(ctx, group)):
        return words
    return ["run", *words] if ctx.parent is None and words[0].partition("=")[0] in _options_of_a_run(ctx) else []


def _existing(ctx: click.Context, meant: Sequence[str]) -> str | None:
    """Return the first of several lines whose commands exist."""
    return next((line for line in meant if line.startswith(("--", "#")) or _is_command(ctx, line.split())), None)


def _is_command(ctx: click.Context, words: Sequence[str]) -> bool:
    return _command(ctx, words) is not None


def _command(ctx: click.Context, words: Sequence[str]) -> click.Command | None:
    """Return the command that a line names, without its options; None if there is none."""
    root = ctx.find_root()
    command: click.Command | None = root.command
    for word in words:
        if word.startswith("-"):
            break
        command = (
            command.get_command(root, word)
            if isinstance(command, click.Group) and word in command.list_commands(root)
            else None
        )
        if command is None:
            return None
    return command


def _accepted(ctx: click.Context, line: Sequence[str], rest: Sequence[str]) -> list[str]:
    """Return a line with the words that followed the wrong command, as far as the right command accepts them."""
    if list(line) == ["--help"]:  # `afk help threads show`
        path = [word for at, word in enumerate(rest) if _is_command(ctx, rest[: at + 1])]
        return [*path, "--help"]
    command = _command(ctx, line)
    takes = command is None or any(isinstance(param, click.Argument) for param in command.params)
    if takes or not rest or rest[0].startswith("-") or _is_command(ctx, [*line, rest[0]]):
        return [*line, *rest]
    return [*line, *_as_option(" ".join(line), rest)]


def _as_option(command: str, words: Sequence[str]) -> list[str]:
    """Return the words after a command that takes no argument as a value of its option for them, or nothing."""
    option = ARGUMENTS.get(command)
    is_listing = words[0].lower() in ("ls", "list", "all", "show")
    return [option, *words] if option is not None and len(words) == 1 and not is_listing else []


def _type_this(words: Sequence[str], what: str) -> UsageError:
    return UsageError(f"{what}; type: {shell_line(['afk', *words])}")


def _is_text(name: str) -> bool:
    """Return whether a word is a whole text, or begins a question rather than being a command with a slip."""
    if name.lower() in QUESTION_WORDS:
        return True
    return any(char.isspace() for char in name.strip()) or name.endswith(("?", "!", "."))


def _as_message(name: str, rest: Sequence[str], what: str) -> UsageError:
    """Return the error for what may be a question, or a file, that was meant for `afk run`."""
    if os.path.isfile(name):  # noqa: PTH113 - only errors import pathlib here
        words = ["afk", "run", "--attach", name, *rest]
        return UsageError(f"{what}; to send this file to a model: {shell_line(words)}")
    if not name.strip():
        return UsageError(f"{what}; see `afk --help`")
    line = shell_line(["afk", "run", name, *rest])
    if _is_text(name) or any(not word.startswith("-") for word in rest):
        return UsageError(f"{what}; to send it to a model: {line}")
    return UsageError(f"{what}; see `afk --help`, or send it to a model: {line}")


def _as_name(path: Sequence[str], name: str, rest: Sequence[str], what: str) -> UsageError | None:
    """Return the error for what may be the name of something that a group lists, such as a thread."""
    if path[0] not in ("threads", "tools", "prompts", "agents") or not name.strip():
        return None
    return UsageError(
        f"{what}; see `afk {path[0]} --help`, or show what has this name: {shell_line(['afk', *path, 'show', name])}"
    )


def unknown_option(ctx: click.Context, error: click.NoSuchOption, arguments: Sequence[str]) -> UsageError:
    """Return the error for an option that does not exist, with the one of ours that was meant."""
    path = ctx.command_path.split()[1:]
    name, value = _as_typed(error.option_name, arguments)
    plain = typed_plainly(name)
    known = options_of(ctx, ctx.command)
    what = f"No such option {shown(name)}"
    if plain != name and plain.split()[0].partition("=")[0] in known:
        return UsageError(f"{shown(name)} has characters that only look like blanks or hyphens; type: {plain}")
    if not path and plain in _options_of_a_run(ctx):
        return _type_this(["run", *arguments], f"{what} before a command")
    command = " ".join(path) if path not in (["threads", "resume"], ["chat"]) else "run"
    if name in SENTENCES and command in ("", "run"):
        return UsageError(f"{what}; {SENTENCES[name]}")
    meant = _option_here(OPTIONS.get(command, {}).get(name, ()), name, known, command)
    if meant is not None:
        said = _with_value(meant, value)
        if said and not path:
            return _type_this([said], what)
        return UsageError(f"{what}; type: {said}" if said else f"{what}; the message needs no option: leave it out")
    as_argument = _as_argument(ctx, name, value, arguments)
    if as_argument:
        return _type_this(as_argument, what)
    near = near_names(name, [option for option in known if option.startswith("--")], most=3)
    if path == ["chat"] and name in _options_of_a_run(ctx):
        return UsageError(f"{what}; only `afk run` has it; {see(ctx)}")
    if path or near:
        return UsageError(f"{what}; " + (f"did you mean {' or '.join(map(repr, near))}?; " if near else "") + see(ctx))
    meant = _option_here(OPTIONS["run"].get(name, ()), name, _options_of_a_run(ctx), "run")
    if meant is None:
        return UsageError(f"{what}; {see(ctx)}")
    return _type_this(["run", *_replaced(arguments, name, value, meant)], what)


def _as_argument(ctx: click.Context, name: str, value: str | None, arguments: Sequence[str]) -> list[str]:
    """Return the line in which the name of a thread is an argument, as `afk threads` takes it; nothing otherwise."""
    path = ctx.command_path.split()[1:]
    if path[:1] != ["threads"] or name not in ("-t", "--thread") or value is None:
        return []
    if len(path) == 1:
        return ["threads", "show", value]
    takes = [param for param in ctx.command.params if isinstance(param, click.Argument)]
    return [*path, *_replaced(arguments, name, value, "")] if takes and takes[0].name != "file" else []


def _replaced(arguments: Sequence[str], name: str, value: str | None, meant: str) -> list[str]:
    """Return arguments with another option in place of one of them."""
    at = next(at for at, argument in enumerate(arguments) if argument.startswith(name))
    used = 2 if value is not None and "=" not in arguments[at] else 1
    new = meant.split()
    if value is not None:
        new = [*new[:-1], f"{new[-1]}={value}"] if meant.startswith("-o ") else [*new, value]
    return [*arguments[:at], *new, *arguments[at + used :]]


def _as_typed(name: str, arguments: Sequence[str]) -> tuple[str, str | None]:
    """Return an option as it was typed, and its value if there may be one."""
    for at, argument in enumerate(arguments):
        start, equals, value = argument.partition("=")
        if start == name or (not name.startswith("--") and argument.startswith(name)):
            following = arguments[at + 1] if at + 1 < len(arguments) else "-"
            return name, value if equals else following if not following.startswith("-") else None
        if start.startswith(name) and start != name and ODD.compiled.search(start):
            return argument, None
    return name, None


def _option_here(meant: Sequence[str], name: str, known: Sequence[str], command: str) -> str | None:
    from afkcli.core.contract.options import PORTABLE

    option = name.lstrip("-").replace("-", "_")
    if command == "run" and option in PORTABLE:
        return f"-o {option}"
    return next((item for item in meant if not item or item.startswith("-o") or item in known), None)


def _with_value(meant: str, value: str | None) -> str:
    if not meant.startswith("-o "):
        return meant
    return f"{meant}={shell_line([value]) if value is not None else 'VALUE'}"


def improved(ctx: click.Context, error: click.UsageError, arguments: Sequence[str]) -> Exception:
    """Return the error to raise in place of one of click's, with what to type instead where that is known."""
    better: UsageError | None = None
    if isinstance(error, click.NoSuchOption):
        better = unknown_option(ctx, error, arguments)
    elif isinstance(error, click.BadOptionUsage):
        better = _without_value(ctx, error)
    elif isinstance(error, click.BadParameter) and error.param is not None:
        better = _bad_value(ctx, error, arguments)
    elif error.message.startswith("Got unexpected extra argument"):
        better = _too_many(ctx, error, arguments)
    if error.ctx is None:
        error.ctx = ctx
    return better or error


def _without_value(ctx: click.Context, error: click.BadOptionUsage) -> UsageError | None:
    option = _option(ctx, error.option_name)
    if option is None or option.is_flag:
        return None
    value = option.make_metavar(ctx) if option.metavar is None else option.metavar
    return UsageError(f"Option '{error.option_name}' needs a value: {error.option_name} {value}; {see(ctx)}")


def _bad_value(ctx: click.Context, error: click.BadParameter, arguments: Sequence[str]) -> UsageError | None:
    kind = getattr(error.param, "type", None)
    wrong = re.match(r"'(.*)' is not one of ", error.message, re.DOTALL)
    if isinstance(kind, click.Choice) and wrong is not None:
        choices = [str(choice) for choice in kind.choices]
        near = near_names(wrong[1], choices) or [choice for choice in choices if is_slip_of(wrong[1], choice)]
        hint = f"did you mean {near[0]!r}?" if near else see(ctx)
        hint_of = error.param.get_error_hint(ctx) if error.param is not None else ""
        return UsageError(f"Invalid value for {hint_of}: {shown(wrong[1])} is not one of {', '.join(choices)}; {hint}")
    pair = re.match(r"'(\w+)' is not NAME=VALUE", error.message)
    if pair is not None and pair[1] in arguments[:-1]:  # `-o temperature 0`, as llm has it
        value = arguments[list(arguments).index(pair[1]) + 1]
        return (
            UsageError(f"{error.message}; type: -o {shell_line([f'{pair[1]}={value}'])}") if _is_value(value) else None
        )
    return None


def _is_value(text: str) -> bool:
    return not text.startswith("-") and not any(char.isspace() for char in text)


def _too_many(ctx: click.Context, error: click.UsageError, arguments: Sequence[str]) -> UsageError | None:
    """Return the error for a name with blanks that was typed without quotes."""
    takes = [param for param in ctx.command.params if isinstance(param, click.Argument)]
    words = [word for kind, _, word in scan(ctx, arguments) if kind is None]
    if not takes and words:
        path = ctx.command_path.split()[1:]
        if path == ["chat"]:
            line = shell_line(["afk", "run", *arguments])
            return UsageError(
                f"{error.message.rstrip('.')}; `afk chat` asks for each message; to ask once, type: {line}"
            )
        line = shell_line(["afk", *path, *_as_option(" ".join(path), words)])
        return UsageError(f"{error.message.rstrip('.')}; type: {line}")
    if any(param.nargs != 1 for param in takes):
        return None
    if len(takes) > 1:
        return UsageError(f"{error.message.rstrip('.')}; put a name with blanks in quotes; {see(ctx)}")
    others = [word for word in arguments if word not in words]
    line = shell_line([*ctx.command_path.split(), " ".join(words), *others])
    return UsageError(f"{error.message.rstrip('.')}; if the blanks are part of a name, type: {line}")


def _options_of_a_run(ctx: click.Context) -> list[str]:
    root = ctx.find_root()
    command = root.command.get_command(root, "run") if isinstance(root.command, click.Group) else None
    return options_of(root, command) if command is not None else []


def _option(ctx: click.Context, name: str) -> click.Option | None:
    options = [param for param in ctx.command.get_params(ctx) if isinstance(param, click.Option)]
    return next((param for param in options if name in (*param.opts, *param.secondary_opts)), None)
