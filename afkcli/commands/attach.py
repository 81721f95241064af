"""`--attach`: what goes with the message, from files, URLs and stdin."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence

from afkcli.commands.stdin import SILENCE_SECONDS, read_all
from afkcli.core.contract.errors import UsageError
from afkcli.core.thread.attachments import MAX_BYTES
from afkcli.host.invocation import Stream
from afkcli.wiring.attachments import Attachment, shown_url

STDIN = "-"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def attached(
    sources: Sequence[str], stdin: Stream, *, may_read_stdin: bool, notify: Callable[[str], None]
) -> list[Attachment]:
    """Return what is at `sources`: paths, URLs, and `-` for stdin.

    Args:
        sources: the values of `--attach`.
        stdin: the standard input.
        may_read_stdin: whether stdin may be read.
        notify: is told after 3 s of silence what is being waited for.

    Raises:
        UsageError: one of them cannot be read, or is not to be attached.
    """
    if "" in sources:
        raise UsageError("`--attach` was given an empty name; give a file, a URL, or `-` for stdin")
    if sources.count(STDIN) > 1:
        raise UsageError("`--attach -` stands twice, and there is one stdin; name files for the others")
    if STDIN in sources and not may_read_stdin:
        raise UsageError("`--attach -` reads stdin, which --no-stdin forbids; use one of them")
    return [_attached(source, stdin, notify) for source in sources]


def _attached(source: str, stdin: Stream, notify: Callable[[str], None]) -> Attachment:
    if source == STDIN:
        return Attachment(data=read_all(stdin, MAX_BYTES, notify), name="stdin")
    if not _URL.match(source):
        return Attachment.from_path(source)
    timer = threading.Timer(SILENCE_SECONDS, notify, [f"fetching {shown_url(source)}"])
    timer.daemon = True
    timer.start()
    try:
        return Attachment.from_url(source)
    finally:
        timer.cancel()
