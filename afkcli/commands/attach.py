"""`--attach`: reads attachments from files, URLs and stdin."""

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
    """Return the attachments in `sources`: paths, URLs, and `-` for stdin.

    Args:
        sources: the values of `--attach`.
        stdin: the standard input.
        may_read_stdin: whether stdin may be read.
        notify: called with a line if stdin or a server sends nothing for 3 s.

    Raises:
        UsageError: one of them cannot be read, or cannot be attached.
    """
    if "" in sources:
        raise UsageError("`--attach` was given an empty name; give a file, a URL, or `-` for stdin")
    if sources.count(STDIN) > 1:
        raise UsageError("`--attach -` was given twice, but there is only one stdin; give files for the others")
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
