"""`--replay FILE`: reads a recording, and hands out its runs."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import MAX_LINE_BYTES, JsonError, JsonObject, loads_object
from afkcli.core.contract.protocols import Store
from afkcli.core.run.tape import Tape
from afkcli.host.secrets import Secrets
from afkcli.wiring.recording_form import HEADER, VERSION, wrong_field
from afkcli.wiring.replaying import RECORD_AGAIN, RunReplay
from afkcli.wiring.thread_copies import RecordedThreads


class Replay:
    """A recording that answers the runs of one runner, in the order in which they start.

    Args:
        path: the file.
        secrets: what is masked before a request is compared.
        show: takes a text of several lines for a person: how a request differs.

    Raises:
        UsageError: the file cannot be read, or is not a recording that this afk knows.
    """

    def __init__(
        self, path: str | os.PathLike[str], secrets: Secrets, show: Callable[[str], None] = lambda text: None
    ) -> None:
        self.path = Path(path)
        self.secrets = secrets
        self.show = show
        self.signal: int | None = None
        self._contents: dict[str, JsonObject] = {}
        self._runs: list[list[JsonObject]] = []
        self._begun = 0
        self._read()

    is_real = False

    def store(self, opens: Callable[[], Store]) -> Callable[[], Store]:
        """Return what opens copies of the user's threads, and of the history that was recorded."""
        return lambda: RecordedThreads(opens, self.history, self.content)

    def close(self) -> None:
        """Close nothing."""

    def tape(self) -> Tape:
        """Return what answers the next run.

        Raises:
            UsageError: the recording has no more runs.
        """
        if self._begun == len(self._runs):
            count = "1 run" if len(self._runs) == 1 else f"{len(self._runs)} runs"
            raise UsageError(f"the recording {self.path} has {count}, and this is one more; {RECORD_AGAIN}")
        lines = self._runs[self._begun]
        self._begun += 1
        return RunReplay(self, lines)

    def next_model(self) -> str | None:
        """Return the full name of the model that the next run had, for an agent that names none."""
        return str(self._runs[self._begun][0].get("model")) if self._begun < len(self._runs) else None

    def history(self) -> tuple[str, str, list[JsonObject]]:
        """Return the key of the thread of the next run, the run's id, and the records before its turn."""
        lines = self._runs[self._begun] if self._begun < len(self._runs) else [{}]
        records = [line for line in lines if line.get("type") == "record"]
        return str(lines[0].get("thread_key") or ""), str(lines[0].get("run_id") or ""), records

    def content(self, sha256: str) -> bytes | None:
        """Return a content that was recorded; None if it is not there, or is not what its hash says."""
        form = self._contents.get(sha256)
        try:
            data = base64.b64decode(str(form["base64"]), validate=True) if form is not None else None
        except (ValueError, KeyError):
            return None
        if data is None or form is None or form.get("masked") or hashlib.sha256(data).hexdigest() == sha256:
            return data
        return None

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                    self._take(number, line)
        except OSError as error:
            raise UsageError(f"the recording {self.path} cannot be read: {error.strerror}") from None
        if not self._runs:
            raise self._wrong("is empty" if self._is_new else "has no run", "record it again")

    _is_new = True

    def _take(self, number: int, line: bytes) -> None:
        try:
            form = loads_object(line)
        except JsonError:
            form = {}
        if number == 1:
            self._check_header(form)
            return
        if line.isspace():  # an editor may leave one
            return
        if not line.endswith(b"\n"):
            raise self._wrong(f"is cut in line {number}", "its run was killed, or a disk was full; record it again")
        if not form:
            raise self._wrong(f"is damaged in line {number}: it is not a JSON object", "record it again")
        kind, run = form.get("type"), form.get("run")
        wrong = wrong_field(form)
        if wrong is not None:
            what = f"is damaged in line {number}: the field {wrong!r} is missing, or has a wrong type"
            raise self._wrong(what, "record it again")
        if kind == "content":
            self._contents[form["sha256"]] = form
        elif kind == "run" and run == len(self._runs) + 1:
            self._runs.append([form])
        elif isinstance(kind, str) and isinstance(run, int) and 1 <= run <= len(self._runs):
            self._runs[run - 1].append(form)
        else:
            raise self._wrong(f"is damaged in line {number}", "record it again")

    def _check_header(self, form: JsonObject) -> None:
        self._is_new = False
        version = form.get("v")
        if form.get("type") != HEADER or not isinstance(version, int):
            raise self._wrong("is not a recording", "`afk run --record FILE` makes one; `afk replay` shows event logs")
        if version > VERSION:
            raise self._wrong(f"is of version {version}, and this afk reads up to {VERSION}", "upgrade afk")

    def _wrong(self, what: str, hint: str) -> UsageError:
        return UsageError(f"{self.path} {what}; {hint}")
