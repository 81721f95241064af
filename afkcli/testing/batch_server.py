"""The batch endpoints of the scripted model server, in the forms of OpenAI (`/files`, `/batches`) and of Anthropic
(`/messages/batches`).

    with ModelServer() as server:
        server.batches.script(polls=2, outcome={"expired": 3})
        ...  # what was made: server.batches.made; the ids of the requests that were worked on: server.batches.worked_on

A batch is worked on at once, and says so after `polls` questions. What can go wrong is what users of these APIs have
reported: see `BatchScript`.

Since: 0.2.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from afkcli.testing import model_wire as wire
from afkcli.testing.model_script import Step

Form = Literal["openai", "anthropic"]
Plain = Callable[[Step, Mapping[str, Any], int], dict[str, Any]]

_PLAIN: dict[str, Plain] = {
    "/v1/chat/completions": wire.chat_object,
    "/v1/responses": wire.responses_object,
    "/v1/messages": wire.messages_object,
}
_ROUTE = re.compile(
    r".*?/(?P<kind>files|messages/batches|batches)(?:/(?P<id>[\w-]+)(?:/(?P<end>content|cancel|results))?)?$"
)
ENDED = {"openai": "completed", "anthropic": "ended"}


@dataclass(kw_only=True)
class BatchScript:
    """What becomes of batches.

    Args:
        polls: how many questions about a batch are answered with a state that is not the last one.
        says: the words for such a state, one after the other; `in_progress` by default.
        step: returns what is answered to a request, from its body; the default echoes.
        outcome: how the requests of a batch end, in the order of its lines: `answered`, `failed` (a status 400),
            `expired`, `cancelled`, `missing` (no result at all, although it was worked on), `untold` (no result, and it
            was not worked on), `malformed`. After the last one they begin again.
        ends: the last word for a batch of OpenAI's form: `completed`, `expired`, `cancelled` or `failed`.
        refusals: codes; each of the next batches is made and then `failed` in its validation with one of them.
        create: what happens to the next requests that make a batch: a `Step` with a status is the answer to them;
            `lost`: the batch is made, and the connection closed without an answer; `dropped`: it is not made.
        upload: as `create`, for the next uploads.
        hidden: how often a batch and its results are answered with 404 once it has been made.
        late: how often the results are answered with 404 once the batch has ended.
        backwards: the results come in the opposite order.
        twice: each result comes twice.
        unended: the last line of the results has no end.
        cut: the files of results break off in the middle.
    """

    polls: int = 1
    says: Sequence[str] = ("in_progress",)
    step: Callable[[Mapping[str, Any]], Step] = lambda body: Step()
    outcome: Sequence[str] = ("answered",)
    ends: str = "completed"
    refusals: list[str] = field(default_factory=list)
    create: list[Step | str] = field(default_factory=list)
    upload: list[Step | str] = field(default_factory=list)
    hidden: int = 0
    late: int = 0
    backwards: bool = False
    twice: bool = False
    unended: bool = False
    cut: int = 0


@dataclass(kw_only=True)
class MadeBatch:
    """A batch that was made: its requests by `custom_id`, in the order of their lines."""

    id: str
    form: Form
    endpoint: str
    requests: dict[str, dict[str, Any]]
    metadata: dict[str, str]
    input_file: str
    created: float
    polls_left: int
    hidden_left: int
    late_left: int
    refused: str = ""
    cancelled: bool = False
    ended: bool = False
    asked: int = 0
    outcomes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent: None of `status` closes the connection without an answer, `cut` sends so much of the body."""

    status: int | None = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer of JSON."""
    return Answer(status=status, body=json.dumps(value).encode(), headers=dict(headers or {}))


class BatchService:
    """The files and batches of one server.

    `made` has all batches, `calls` the method and path of each request, `worked_on` the ids of the requests that were
    answered, which are paid. `on_call` is called with the number of a request, from 1, before it is carried out.
    """

    def __init__(self) -> None:
        self.on_call: Callable[[int], object] = lambda number: None
        self._lock = threading.RLock()
        self._script = BatchScript()
        self._number = 0
        self.files: dict[str, bytes] = {}
        self.made: dict[str, MadeBatch] = {}
        self.calls: list[tuple[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.worked_on: list[str] = []

    def script(self, **fields: Any) -> None:
        """Set what becomes of the batches that are made from now on; see `BatchScript`."""
        with self._lock:
            self._script = BatchScript(**fields)

    def end(self) -> None:
        """End all batches now, whatever `polls` says."""
        with self._lock:
            for batch in self.made.values():
                batch.polls_left = 0

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Return the answer to a request; None if it is not one to these endpoints."""
        found = _ROUTE.fullmatch(urlsplit(path).path)
        if found is None or (found["kind"] == "batches" and "/messages/" in path):
            return None
        with self._lock:
            self.calls.append((method, urlsplit(path).path))
            self.headers.append(dict(headers))
            self.on_call(len(self.calls))
            if found["kind"] == "files":
                return self._file(method, found["id"], found["end"], headers, body)
            form: Form = "anthropic" if found["kind"] == "messages/batches" else "openai"
            if found["id"] is None:
                query = {name: values[-1] for name, values in parse_qs(urlsplit(path).query).items()}
                return self._create(form, body) if method == "POST" else self._listed(form, query)
            return self._one(form, method, found["id"], found["end"])

    # -- files ---------------------------------------------------------------------------------------------------------

    def _file(self, method: str, name: str | None, end: str | None, headers: Mapping[str, str], body: bytes) -> Answer:
        if name is None:
            return self._upload(headers, body)
        if name not in self.files:
            return _error(404, f"No such File object: {name}", "invalid_request_error")
        if method == "DELETE":
            del self.files[name]
            return answer_json({"id": name, "object": "file", "deleted": True})
        if end != "content":
            return answer_json({"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch"})
        return self._content(self.files[name])

    def _content(self, content: bytes) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        if self._script.cut > 0:
            self._script.cut -= 1
            return Answer(body=content, headers=headers, cut=True)
        return Answer(body=content, headers=headers)

    def _upload(self, headers: Mapping[str, str], body: bytes) -> Answer:
        planned = self._script.upload.pop(0) if self._script.upload else None
        if isinstance(planned, Step):
            return _planned(planned)
        if planned == "dropped":
            return Answer(status=None)
        fields = _form_fields(headers.get("content-type", ""), body)
        name = self._id("file")
        self.files[name] = fields["file"]
        if planned == "lost":
            return Answer(status=None)
        made = {"id": name, "object": "file", "bytes": len(fields["file"]), "created_at": int(time.time())}
        return answer_json({**made, "filename": "batch.jsonl", "purpose": fields["purpose"].decode()})

    # -- batches -------------------------------------------------------------------------------------------------------

    def _create(self, form: Form, body: bytes) -> Answer:
        planned = self._script.create.pop(0) if self._script.create else None
        if isinstance(planned, Step):
            return _planned(planned)
        if planned == "dropped":
            return Answer(status=None)
        asked = json.loads(body)
        problem, batch = self._batch_of(form, asked)
        if batch is None:
            return _error(400, problem, "invalid_request_error")
        self.made[batch.id] = batch
        if self._script.refusals:
            batch.refused = self._script.refusals.pop(0)
        return Answer(status=None) if planned == "lost" else answer_json(self._shown(batch))

    def _batch_of(self, form: Form, asked: Mapping[str, Any]) -> tuple[str, MadeBatch | None]:
        """Return a batch as it is asked for, or what is wrong with it."""
        if form == "anthropic":
            items = [(item.get("custom_id"), item.get("params")) for item in asked.get("requests", [])]
            endpoint, metadata, file = "/v1/messages", {}, ""
        else:
            file = str(asked.get("input_file_id"))
            if file not in self.files:
                return f"No such File object: {file}", None
            lines = [json.loads(line) for line in self.files[file].splitlines() if line.strip()]
            items = [(line.get("custom_id"), line.get("body")) for line in lines]
            endpoint, metadata = str(asked.get("endpoint")), dict(asked.get("metadata") or {})
            if any(line.get("url") != endpoint or line.get("method") != "POST" for line in lines):
                return "The URL of a request does not match the endpoint of the batch.", None
        if endpoint not in _PLAIN:
            return f"unknown endpoint {endpoint}", None
        problem = _problem(form, items)
        if problem:
            return problem, None
        script = self._script
        batch = MadeBatch(
            id=self._id("batch" if form == "openai" else "msgbatch"),
            form=form,
            endpoint=endpoint,
            requests={str(name): body for name, body in items if isinstance(body, dict)},
            metadata=metadata,
            input_file=file,
            created=time.time(),
            polls_left=script.polls,
            hidden_left=script.hidden,
            late_left=script.late,
        )
        batch.outcomes = dict(zip(batch.requests, cycle(script.outcome), strict=False))
        return "", batch

    def _listed(self, form: Form, query: Mapping[str, str]) -> Answer:
        batches = [batch for batch in reversed(self.made.values()) if batch.form == form]
        after = query.get("after") or query.get("after_id")
        if after is not None:
            places = [place for place, batch in enumerate(batches) if batch.id == after]
            batches = batches[places[0] + 1 :] if places else []
        limit = int(query.get("limit", 20))
        shown = [self._shown(batch) for batch in batches[:limit]]
        ids = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
        return answer_json({"object": "list", "data": shown, "has_more": len(batches) > limit, **ids})

    def _one(self, form: Form, method: str, name: str, end: str | None) -> Answer:
        batch = self.made.get(name)
        if batch is None or batch.form != form:
            return _error(404, f"No batch found with id {name!r}", "not_found_error")
        if end == "cancel":
            return self._cancel(batch)
        if batch.hidden_left > 0:
            batch.hidden_left -= 1
            return _error(404, f"No batch found with id {name!r}", "not_found_error")
        if end == "results":
            return self._results(batch)
        batch.asked += 1
        self._advance(batch)
        return answer_json(self._shown(batch))

    def _cancel(self, batch: MadeBatch) -> Answer:
        if batch.ended:
            return _error(400, "Cannot cancel a batch that has ended.", "invalid_request_error")
        batch.cancelled = True
        return answer_json(self._shown(batch))

    def _advance(self, batch: MadeBatch) -> None:
        if batch.ended:
            return
        if batch.polls_left > 0 and not batch.cancelled and not batch.refused:
            batch.polls_left -= 1
            return
        batch.ended = True
        if batch.cancelled:
            batch.outcomes = dict.fromkeys(batch.outcomes, "cancelled")
        if not batch.refused:
            self.worked_on += [name for name, outcome in batch.outcomes.items() if outcome in ("answered", "missing")]
            if batch.form == "openai":
                self._write_files(batch)

    def _write_files(self, batch: MadeBatch) -> None:
        for kind, wanted in (("output", ("answered", "malformed")), ("error", ("failed", "expired", "cancelled"))):
            lines = [line for name, line in self._lines(batch) if batch.outcomes[name] in wanted]
            if lines:
                self.files[f"{kind}-{batch.id}"] = self._joined(lines)

    def _results(self, batch: MadeBatch) -> Answer:
        if not batch.ended or batch.late_left > 0:
            batch.late_left -= batch.ended
            return _error(404, "The results of this batch are not available.", "not_found_error")
        return self._content(self._joined([line for _, line in self._lines(batch)]))

    def _joined(self, lines: list[dict[str, Any]]) -> bytes:
        script = self._script
        if script.backwards:
            lines.reverse()
        if script.twice:
            lines = [line for line in lines for _ in range(2)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        return (text[:-1] if script.unended else text).encode()

    def _lines(self, batch: MadeBatch) -> Iterator[tuple[str, dict[str, Any]]]:
        for n, (name, body) in enumerate(batch.requests.items(), start=1):
            outcome = batch.outcomes[name]
            if outcome not in ("missing", "untold"):
                made = self._openai_line if batch.form == "openai" else self._anthropic_line
                yield name, made(batch, name, body, n, outcome)

    def _openai_line(self, batch: MadeBatch, name: str, body: dict[str, Any], n: int, outcome: str) -> dict[str, Any]:
        line: dict[str, Any] = {"id": f"batch_req_{n}", "custom_id": name, "response": None, "error": None}
        if outcome in ("expired", "cancelled"):
            return {**line, "error": {"code": f"batch_{outcome}", "message": f"This request was {outcome}."}}
        if outcome == "failed":
            said = {"error": {"message": "mark-refused", "type": "invalid_request_error", "code": "invalid_value"}}
            return {**line, "response": {"status_code": 400, "request_id": f"req_{n}", "body": said}}
        answer: Any = self._answered(batch, body, n) if outcome == "answered" else {"object": "mark-malformed"}
        return {**line, "response": {"status_code": 200, "request_id": f"req_{n}", "body": answer}}

    def _anthropic_line(
        self, batch: MadeBatch, name: str, body: dict[str, Any], n: int, outcome: str
    ) -> dict[str, Any]:
        if outcome in ("expired", "cancelled"):
            return {"custom_id": name, "result": {"type": outcome.replace("cancelled", "canceled")}}
        if outcome == "failed":
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": "mark-refused"}}
            return {"custom_id": name, "result": {"type": "errored", "error": error}}
        message: Any = self._answered(batch, body, n) if outcome == "answered" else {"type": "mark-malformed"}
        return {"custom_id": name, "result": {"type": "succeeded", "message": message}}

    def _answered(self, batch: MadeBatch, body: dict[str, Any], n: int) -> dict[str, Any]:
        return _PLAIN[batch.endpoint](self._script.step(body), body, n)

    def _shown(self, batch: MadeBatch) -> dict[str, Any]:
        return self._shown_openai(batch) if batch.form == "openai" else _shown_anthropic(batch, self._word(batch))

    def _word(self, batch: MadeBatch) -> str:
        if batch.ended:
            return ENDED[batch.form]
        if batch.cancelled:
            return "cancelling" if batch.form == "openai" else "canceling"
        return self._script.says[min(batch.asked, len(self._script.says)) - 1] if batch.asked else self._script.says[0]

    def _shown_openai(self, batch: MadeBatch) -> dict[str, Any]:
        word = self._word(batch)
        is_refused = bool(batch.refused) and batch.ended
        if batch.ended:
            word = "failed" if is_refused else "cancelled" if batch.cancelled else self._script.ends
        names = {kind: f"{kind}-{batch.id}" for kind in ("output", "error")}
        shown_files = {
            f"{kind}_file_id": name if name in self.files and batch.late_left <= 0 else None
            for kind, name in names.items()
        }
        if batch.ended and not is_refused:
            batch.late_left -= batch.late_left > 0
        errors = [{"code": batch.refused, "message": f"mark-{batch.refused}", "line": None, "param": None}]
        done = batch.ended and not is_refused
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "input_file_id": batch.input_file,
            "completion_window": "24h",
            "created_at": int(batch.created),
            "status": word,
            "metadata": batch.metadata,
            "errors": {"object": "list", "data": errors} if is_refused else None,
            "request_counts": {
                "total": len(batch.requests),
                "completed": _count(batch, "answered", "missing", "malformed") if done else 0,
                "failed": _count(batch, "failed", "expired", "cancelled") if done else 0,
            },
            **shown_files,
        }

    def _id(self, kind: str) -> str:
        self._number += 1
        return f"{kind}_{self._number:06d}"


def _count(batch: MadeBatch, *outcomes: str) -> int:
    return sum(outcome in outcomes for outcome in batch.outcomes.values())


def _shown_anthropic(batch: MadeBatch, word: str) -> dict[str, Any]:
    created = datetime.fromtimestamp(batch.created, UTC).isoformat()
    names = {"succeeded": ("answered", "missing", "malformed"), "errored": ("failed",), "canceled": ("cancelled",)}
    counts = {name: _count(batch, *outcomes) if batch.ended else 0 for name, outcomes in names.items()}
    counts["expired"] = _count(batch, "expired") if batch.ended else 0
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": word,
        "request_counts": {**counts, "processing": 0 if batch.ended else len(batch.requests)},
        "created_at": created,
        "expires_at": created,
        "ended_at": created if batch.ended else None,
        "cancel_initiated_at": None,
        "archived_at": None,
        # An address that leads nowhere: what a server says there is not to be followed.
        "results_url": "http://127.0.0.1:9/v1/nowhere" if batch.ended else None,
    }


def _problem(form: Form, items: Sequence[tuple[Any, Any]]) -> str:
    """Return what is wrong with the requests of a batch, as the APIs check it, "" if nothing is."""
    ids = [name for name, _ in items]
    if not items:
        return "A batch needs at least one request."
    if any(not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids):
        return "A custom_id does not match ^[a-zA-Z0-9_-]{1,64}$."
    if len(set(ids)) != len(ids):
        return "A custom_id is there twice."
    if any(not isinstance(body, dict) or "stream" in body for _, body in items):
        return "A request is not an object, or has the field stream."
    if form == "openai" and len({body.get("model") for _, body in items}) > 1:
        return "The requests of a batch have to be for one model."
    return ""


def _planned(step: Step) -> Answer:
    if isinstance(step.body, str) or step.body is None:
        return Answer(status=step.status, body=(step.body or "").encode(), headers=dict(step.headers))
    return answer_json(step.body, step.status, step.headers)


def _error(status: int, message: str, kind: str) -> Answer:
    return answer_json({"type": "error", "error": {"type": kind, "message": message}}, status)


def _form_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the fields of a form (multipart/form-data, RFC 7578) by their names."""
    found = re.search(r'boundary="?([^";]+)', content_type)
    fields: dict[str, bytes] = {}
    for part in body.split(b"--" + (found[1].encode() if found else b"")):
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]+)"', head)
        if name is not None:
            fields[name[1].decode()] = value.removesuffix(b"\r\n")
    return fields
