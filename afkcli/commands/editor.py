"""The user's editor: on a text, or on a file.

Since: 0.2.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import click

from afkcli.core.contract.errors import UsageError
from afkcli.host.invocation import Invocation


def edited_text(invocation: Invocation, text: str) -> str | None:
    """Return a question as it is after the user's editor; None if it was not saved.

    Raises:
        UsageError: the editor cannot be started, or what it left cannot be read.
    """
    with _editing(invocation, "; nothing was asked") as editor:
        return click.edit(text, editor=editor, extension=".md")


def edit_file(invocation: Invocation, path: Path) -> None:
    """Open a file in the user's editor, and wait for its end; raises as `edited_text`."""
    with _editing(invocation, "") as editor:
        click.edit(editor=editor, filename=str(path))


@contextlib.contextmanager
def _editing(invocation: Invocation, so: str) -> Iterator[str | None]:
    """Give the editor's command; what it raises becomes a `UsageError`. Ctrl-C belongs to the editor meanwhile.

    `so` ends the error: it says what the failure means for the question or the file.
    """
    environment = invocation.environment
    if not invocation.stdout.is_terminal:
        invocation.answer_descriptor()  # what the editor draws is not the answer: it goes to stderr
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # a handler, because an editor inherits SIG_IGN
    try:
        yield environment.get("VISUAL") or environment.get("EDITOR") or None
    except click.ClickException as error:
        raise UsageError(f"{error.format_message()}; set EDITOR to an editor that works") from None
    except UnicodeDecodeError:
        raise UsageError(f"the editor left a file that is not UTF-8{so}") from None
    except FileNotFoundError:
        raise UsageError(f"the editor removed the file that it was to change{so}") from None
    except ValueError as error:
        raise UsageError(f"EDITOR or VISUAL cannot be read: {error}") from None
    finally:
        signal.signal(signal.SIGINT, before)
