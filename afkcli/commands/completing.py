"""Completes a line of a shell: what was typed so far comes in, and what may follow goes out, a line each.

The scripts of `afkcli.commands.completion_scripts` call `afk` with `_AFK_COMPLETE` set to the name of the shell.
Scripts of version 0.1 set it to `bash_complete` and such; click answers them.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from afkcli.core.contract.text import prose_line
from afkcli.screen.shell_words import Cursor, bash_replacement, cursor_of, unquoted

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

    from afkcli.host.invocation import Invocation

FILES = "file"
"""The type of an item that means all names of files: the shell completes these itself."""
_MOST = 1000
_HELP_CHARS = 100


class Candidate(NamedTuple):
    """What may follow: `kind` is `plain`, `part` (no blank follows) or `file`; `help` says what it is."""

    kind: str
    value: str
    help: str = ""


def complete(root: click.Group, invocation: Invocation, shell: str) -> None:
    """Write the candidates for a line to stdout, as `kind`, value and help with tabs between them.

    Args:
        root: the group of all commands.
        invocation: its arguments are for bash the line up to the cursor and the characters that break words, for the
            other shells the words before the cursor without quotes, and the one at the cursor as it is typed.
        shell: `bash`, `zsh` or `fish`.
    """
    if shell == "bash":
        line, breaks, *_ = (*invocation.arguments, "", "")
        cursor = cursor_of(line)
        found = _in_bash(candidates(root, invocation, cursor.words[1:], cursor.value), cursor, breaks)
    else:
        *words, typed = invocation.arguments or ("",)
        found = candidates(root, invocation, words, unquoted(typed) if shell == "fish" else typed)
    out = invocation.stdout.text
    if out is not None:
        out.writelines(_lines(found, out.encoding or "utf-8", out.errors or "strict"))


def _lines(found: Iterator[Candidate], encoding: str, errors: str) -> Iterator[str]:
    """Yield a line for each candidate that can be written in the shell's encoding; one that cannot hides no other."""
    for item in found:
        try:
            item.value.encode(encoding, errors)
        except UnicodeEncodeError:
            continue
        yield f"{item.kind}\t{item.value}\t{item.help.encode(encoding, 'replace').decode(encoding)}\n"


def candidates(root: click.Group, invocation: Invocation, words: Sequence[str], incomplete: str) -> Iterator[Candidate]:
    """Yield what may follow `words`, which are those behind `afk`, in place of `incomplete`."""
    from click.shell_completion import ShellComplete

    option, equals, _ = incomplete.partition("=")
    prefix = f"{option}=" if equals and option.startswith("--") else ""
    try:
        items = ShellComplete(root, {"obj": invocation}, "afk", "").get_completions(list(words), incomplete)
    except Exception:
        return
    for item in items[:_MOST]:
        yield _candidate(item, prefix)


def _candidate(item: CompletionItem, prefix: str) -> Candidate:
    if item.type in ("file", "dir"):
        return Candidate(FILES, prefix or "-")
    value = f"{prefix}{item.value}"
    kind = "part" if value.endswith(("=", "/")) else "plain"
    return Candidate(kind, value, prose_line(item.help or "").replace("\t", " ")[:_HELP_CHARS])


def _in_bash(found: Iterator[Candidate], cursor: Cursor, breaks: str) -> Iterator[Candidate]:
    """Yield candidates with the text that readline puts in place of the word that it sees at the cursor."""
    for item in found:
        if item.kind == FILES:
            yield item
            continue
        value = bash_replacement(item.value, cursor, breaks)
        if value is not None:
            yield Candidate(item.kind, value, item.help)
