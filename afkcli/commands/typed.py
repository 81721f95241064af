"""The words of a call as they were typed, and what in them click takes for something else than was meant.

Every run with options imports it, so the errors of other wrong calls are in `afkcli.commands.mistakes`.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.lazy_pattern import LazyPattern

_MOST_SHOWN = 80
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_BLANKS = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_UNSEEN = "\u00ad\u200b-\u200f\u2060\ufeff"
ODD = LazyPattern(f"[{_DASHES}{_BLANKS}{_UNSEEN}]")
"""A character that looks like a blank or a hyphen, or is not seen."""
_LOOKS_LIKE_AN_OPTION = LazyPattern(rf"[{_UNSEEN}{_BLANKS}]*[-{_DASHES}]+[^\s-]")
_OPENING_QUOTES = tuple("\u201c\u201d\u201e\u201f\u2018\u201a\u201b\u00ab\u2039")


def check_arguments(ctx: click.Context, arguments: Sequence[str]) -> None:
    """Refuse what click takes for something else than was meant.

    These are: a long option with one hyphen, an option in place of a value, a typographic dash or quote at the
    beginning of a word, and an option that counts once and is given twice with different values.

    Raises:
        UsageError: the line that says so.
    """
    known = options_of(ctx, ctx.command)
    given: dict[str, str] = {}
    for option, typed, value in scan(ctx, arguments):
        if option is None:
            _check_word(value, known)
            continue
        _check_one_hyphen(ctx, typed, known)
        if typed == value or option.is_flag:
            continue
        if value in known and typed in option.opts:
            raise UsageError(
                f"Option '{typed}' needs a value, but the option '{value}' follows; if that is the value, type:"
                f" {option.opts[0]}={value}"
            )
        if value.startswith(_OPENING_QUOTES) and not any(char.isspace() for char in value):
            raise UsageError(
                f"the value of '{option.opts[0]}' begins with the typographic quote {value[0]}, which shells do not"
                f" take for a quote; type ' or \" instead"
            )
        _check_given_once(option, value, given)


def _check_word(word: str, known: Sequence[str]) -> None:
    if word.isascii() or not _LOOKS_LIKE_AN_OPTION.compiled.match(word):
        return
    plain = typed_plainly(word)
    if plain != word and plain.split()[0].partition("=")[0] in known:
        raise UsageError(
            f"{shown(word)} begins with a character that only looks like a hyphen; type: {plain} (to send it as text,"
            f" put -- before it)"
        )


def _check_one_hyphen(ctx: click.Context, typed: str, known: Sequence[str]) -> None:
    if typed.startswith("--") or len(typed) <= 2:
        return
    long = f"-{typed.partition('=')[0]}"
    if long in known:
        raise UsageError(f"No such option '{long[1:]}'; did you mean '{long}'?; {see(ctx)}")


def _check_given_once(option: click.Parameter, value: str, given: dict[str, str]) -> None:
    name = option.opts[0]
    if getattr(option, "once", False) and given.setdefault(name, value) != value:
        raise UsageError(f"Option '{name}' was given twice, with {shown(given[name])} and {shown(value)}; give it once")


def scan(ctx: click.Context, arguments: Sequence[str]) -> Iterator[tuple[click.Option | None, str, str]]:
    """Yield for each option before `--` the option, how it was typed and its value (itself if it has none).

    A word that belongs to no option is yielded with None.
    """
    options = {
        name: param for param in ctx.command.get_params(ctx) if isinstance(param, click.Option) for name in param.opts
    }
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return
        typed, equals, value = argument.partition("=")
        option = options.get(typed) if argument.startswith("--") else options.get(argument[:2])
        if option is None or not argument.startswith("-"):
            if not argument.startswith("-"):
                yield None, "", argument
            elif f"-{typed}" in options:
                yield options[f"-{typed}"], typed, argument
            continue
        if equals or not argument.startswith("--"):
            typed = argument
        if not argument.startswith("--"):
            value = argument[2:]
        if not (equals or value) and not option.is_flag:
            value = next(rest, typed)
        yield option, typed, value or typed


def options_of(ctx: click.Context, command: click.Command) -> list[str]:
    """Return the names of all options of a command."""
    return [
        name
        for param in command.get_params(ctx)
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    ]


def typed_plainly(word: str) -> str:
    """Return a word as a keyboard has it: with plain blanks and hyphens, and without characters that are not seen."""
    import re

    word = re.sub(f"[{_UNSEEN}]", "", word)
    word = re.sub(f"[{_BLANKS}]", " ", word).strip()
    start = re.match(f"[-{_DASHES}]+", word)
    if start is None or start[0].isascii():
        return word
    rest = word[start.end() :]
    return f"-{rest}" if len(rest.partition("=")[0]) == 1 else f"--{rest}"


def shown(word: str) -> str:
    """Return a word in quotes for a message, cut if it is long."""
    return repr(word if len(word) <= _MOST_SHOWN else f"{word[:_MOST_SHOWN]}...")


def see(ctx: click.Context) -> str:
    return f"see `{ctx.command_path} --help`"
