"""A real MCP server over stdio that misbehaves when it is told to; the protocol is written by hand, without the SDK.

    python scripted_server.py [--at-start KIND] [--list KIND] [--note FILE]

Each tool is one behaviour; `--note` is a file to which every start, list, call and cancellation is appended as a line.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n\x00 and so on"

OBJECT = {"type": "object", "properties": {}}
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
LOOK = {"type": "object", "properties": {"pid": {"type": "integer"}, "key": {"type": "string"}}}
BIG = 9 * 1024 * 1024
FOR_EVER = 3600
COMPLETE = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.waiting: dict[Any, dict[str, Any]] = {}
        self.states: dict[Any, Any] = {}
        self.answered = threading.Condition()
        self.writing = threading.Lock()
        self.reading = threading.Event()
        self.reading.set()
        self.settled = threading.Event()

    # -- the wire ------------------------------------------------------------------------------------------------------

    def send(self, message: dict[str, Any]) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

    def write(self, text: str) -> None:
        with self.writing:
            sys.stdout.write(text)
            sys.stdout.flush()

    def note(self, line: str) -> None:
        if self.options.note:
            with Path(self.options.note).open("a") as file:
                file.write(line + "\n")

    def note_process(self, *pids: int) -> None:
        with Path(self.options.note or os.devnull).with_suffix(".pids").open("a") as file:
            file.writelines(f"{pid}\n" for pid in pids)

    def ask(self, method: str, params: dict[str, Any], id_: str) -> dict[str, Any]:
        """Send a request to the client and return its answer."""
        self.send({"id": id_, "method": method, "params": params})
        with self.answered:
            self.answered.wait_for(lambda: id_ in self.waiting)
            return self.waiting.pop(id_)

    def serve(self) -> None:
        self.note("start")
        self.note_process(os.getpid())
        getattr(self, f"start_{self.options.at_start}")()
        for line in sys.stdin:
            message = json.loads(line)
            if "method" not in message:
                with self.answered:
                    self.waiting[message["id"]] = message
                    self.answered.notify_all()
            elif "id" not in message:
                if message["method"] == "notifications/cancelled":
                    self.note("cancelled")
            else:
                threading.Thread(target=self.answer, args=(message,), daemon=True).start()
                if "stop_reading" in line:  # the tool says so before the next line is read
                    self.settled.wait()
            self.reading.wait()

    def answer(self, message: dict[str, Any]) -> None:
        method, params = message["method"], message.get("params", {})
        if method == "initialize" and self.options.at_start in _REFUSALS:
            self.send({"id": message["id"], **_REFUSALS[self.options.at_start]})
        elif method == "initialize" and self.options.at_start == "modern":
            about: dict[str, Any] = {"supported": ["2026-07-28"], "requested": params["protocolVersion"]}
            error = {"code": -32022, "message": "no version in common", "data": about}
            self.send({"id": message["id"], "error": error})
        elif method == "server/discover":
            about = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
            self.send({"id": message["id"], "result": {**about, **COMPLETE}})
        elif method == "initialize":
            version = params["protocolVersion"]
            about = {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}}
            self.send({"id": message["id"], "result": {**about, "serverInfo": {"name": "scripted", "version": "1"}}})
        elif method == "tools/list":
            self.note("list")
            getattr(self, f"list_{self.options.list}")(message["id"], params)
        elif method == "tools/call":
            self.note(f"call {params['name']}")
            self.states[message["id"]] = params.get("requestState")
            getattr(self, f"tool_{params['name']}")(message["id"], params.get("arguments") or {})
        else:
            self.send({"id": message["id"], "error": {"code": -32601, "message": f"no method {method}"}})

    def text(self, id_: Any, text: str, **more: Any) -> None:
        self.send({"id": id_, "result": {"content": [{"type": "text", "text": text}], **more}})

    # -- at the start --------------------------------------------------------------------------------------------------

    def start_well(self) -> None:
        pass

    def start_modern(self) -> None:
        """Know the protocol of 2026-07-28 alone."""

    start_modern_invalid_request = start_modern_invalid_params = start_modern_version = start_modern

    def start_hang(self) -> None:
        sys.stderr.write("loading the index\n")
        sys.stderr.flush()
        time.sleep(FOR_EVER)

    def start_die(self) -> None:
        sys.stderr.write("a line before\nthe database is locked\n")
        sys.exit(7)

    def start_greet(self) -> None:
        self.write("Scripted server 1.0\n{not json}\n\n")

    def start_ignoring_sigterm(self) -> None:
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=time.sleep, args=(FOR_EVER,)).start()  # stays when stdin is closed

    def start_launcher(self) -> None:
        """Be what `npx` is: the server is a child that has the pipes, and this process waits for it."""
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os._exit(0)
        self.note_process(os.getpid())

    def start_launched_ignoring_all(self) -> None:
        """The same, and neither ends when it is asked to."""
        self.start_ignoring_sigterm()
        self.start_launcher()
        threading.Thread(target=time.sleep, args=(FOR_EVER,)).start()

    # -- lists of tools ------------------------------------------------------------------------------------------------

    def tools(self, id_: Any, tools: list[Any], **more: Any) -> None:
        self.send({"id": id_, "result": {"tools": tools, **more}})

    def usual(self) -> list[dict[str, Any]]:
        names = [name.removeprefix("tool_") for name in dir(self) if name.startswith("tool_")]
        return [
            {
                "name": name,
                "description": f"Does {name}.",
                "inputSchema": TEXT if name == "echo" else LOOK if name == "look" else OBJECT,
                "annotations": {"readOnlyHint": True},
            }
            for name in names
        ]

    def list_usual(self, id_: Any, params: dict[str, Any]) -> None:
        self.tools(id_, self.usual())

    def list_changing(self, id_: Any, params: dict[str, Any]) -> None:
        """The description of `echo` is another one with every start; `env` is there with the first alone."""
        starts = Path(self.options.note).read_text().count("start")
        kept = [tool for tool in self.usual() if starts == 1 or tool["name"] != "env"]
        self.tools(id_, _renamed(kept, f"Start {starts}"))

    def list_growing(self, id_: Any, params: dict[str, Any]) -> None:
        """The description of `echo` is another one with every list."""
        lists = Path(self.options.note).read_text().count("list")
        self.tools(id_, _renamed(self.usual(), f"List {lists}"))

    def list_modern(self, id_: Any, params: dict[str, Any]) -> None:
        self.tools(id_, self.usual(), **COMPLETE)

    def list_hang(self, id_: Any, params: dict[str, Any]) -> None:
        time.sleep(FOR_EVER)

    def list_die(self, id_: Any, params: dict[str, Any]) -> None:
        sys.stderr.write("no memory left\n")
        sys.stderr.flush()
        os._exit(9)

    def list_pages(self, id_: Any, params: dict[str, Any]) -> None:
        page = int(params.get("cursor") or 0)
        more = {"nextCursor": str(page + 1)} if page < 2 else {}
        self.tools(id_, [{"name": f"page{page}", "inputSchema": OBJECT}], **more)

    def list_endless(self, id_: Any, params: dict[str, Any]) -> None:
        self.tools(id_, [], nextCursor="again")

    def list_same_cursor(self, id_: Any, params: dict[str, Any]) -> None:
        page = 1 if params.get("cursor") else 0
        self.tools(id_, [{"name": f"page{page}", "inputSchema": OBJECT}], nextCursor="same")

    def list_same_page(self, id_: Any, params: dict[str, Any]) -> None:
        """Know no cursors: each page is the first one, and has another cursor."""
        self.tools(id_, [{"name": "page0", "inputSchema": OBJECT}], nextCursor=str(time.monotonic_ns()))

    def list_in_a_circle(self, id_: Any, params: dict[str, Any]) -> None:
        page = int(params.get("cursor") or 0)
        self.tools(id_, [{"name": f"page{page}", "inputSchema": OBJECT}], nextCursor=str((page + 1) % 3))

    def list_without_end(self, id_: Any, params: dict[str, Any]) -> None:
        page = int(params.get("cursor") or 0)
        self.tools(id_, [{"name": f"page{page}", "inputSchema": OBJECT}], nextCursor=str(page + 1))

    def list_empty_cursor(self, id_: Any, params: dict[str, Any]) -> None:
        self.tools(id_, [{"name": "page0", "inputSchema": OBJECT}], nextCursor="")

    def list_by_empty_cursor(self, id_: Any, params: dict[str, Any]) -> None:
        more = {} if params.get("cursor") == "" else {"nextCursor": ""}
        self.tools(id_, [{"name": f"page{0 if more else 1}", "inputSchema": OBJECT}], **more)

    def list_nullable(self, id_: Any, params: dict[str, Any]) -> None:
        text, nullable = {"type": "string"}, {"type": ["string", "null"]}
        properties = {"text": text, "limit": {"type": "integer"}, "nullable": nullable}
        schema = {"type": "object", "properties": properties, "required": ["text"]}
        self.tools(id_, [{"name": "arguments", "inputSchema": schema}])

    def list_drafts(self, id_: Any, params: dict[str, Any]) -> None:
        """Schemas as they are found in the field: of older drafts, of other languages' types, with `null`."""
        text = {"type": "string"}
        schemas: dict[str, Any] = {
            "null": None,
            "empty": {},
            "php": {"type": "object", "properties": [], "required": []},
            "untyped": {"properties": {"a": text}},
            "nulls": {"type": "object", "properties": {"a": {**text, "enum": None, "pattern": None}}, "required": None},
            "draft3": {"type": "object", "properties": {"a": {"type": "any", "required": True}, "b": text}},
            "draft4": {
                "type": "object",
                "properties": {"a": {"type": "integer", "minimum": 1, "exclusiveMinimum": True}},
                "required": True,
            },
            "python": {
                "type": "object",
                "properties": {"a": {"type": "int"}, "b": {"type": "list", "items": {"type": "float"}}},
            },
            "pattern": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^\\p{L}+$"}}},
            "beyond": {"type": "object", "properties": {"a": {"if": 7}}},
        }
        tools = [{"name": name, "inputSchema": schema} for name, schema in schemas.items()]
        self.tools(id_, [{"name": "absent"}, *tools])

    def list_huge(self, id_: Any, params: dict[str, Any]) -> None:
        self.tools(id_, [{"name": f"t{number}", "inputSchema": OBJECT} for number in range(5000)])

    def list_long(self, id_: Any, params: dict[str, Any]) -> None:
        self.tools(id_, [{"name": "long", "description": "x" * (BIG // 2), "inputSchema": OBJECT}])

    def list_odd(self, id_: Any, params: dict[str, Any]) -> None:
        good = {"name": "good", "title": "A title", "inputSchema": OBJECT, "outputSchema": {"type": "nonsense"}}
        odd: list[Any] = [
            {"name": "no_schema"},
            {"name": "not_an_object", "inputSchema": {"type": "string"}},
            {"name": "bad_type", "inputSchema": {"type": "object", "properties": {"a": {"type": "nonsense"}}}},
            {"name": "bad\x1b[31mname", "inputSchema": OBJECT},
            {"name": "good", "inputSchema": TEXT},
            {"name": "deep", "inputSchema": {"type": "object", "properties": _nested(50)}},
            "a text",
        ]
        self.tools(id_, [good, *odd])

    # -- tools ---------------------------------------------------------------------------------------------------------

    def tool_echo(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, f"you said {arguments['text']}")

    def tool_slow(self, id_: Any, arguments: dict[str, Any]) -> None:
        time.sleep(0.3)
        self.text(id_, f"slow {os.getpid()}")

    def tool_hang(self, id_: Any, arguments: dict[str, Any]) -> None:
        sys.stderr.write("waiting for the printer\n")
        sys.stderr.flush()
        time.sleep(FOR_EVER)

    def tool_die(self, id_: Any, arguments: dict[str, Any]) -> None:
        sys.stderr.write("segmentation \x1b[31mfault\n")
        sys.stderr.flush()
        os._exit(3)

    def tool_close(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Close stdout and live on."""
        sys.stdout.flush()
        os.close(1)

    def tool_leave_child(self, id_: Any, arguments: dict[str, Any]) -> None:
        """End, with a child that holds stdout open."""
        child = subprocess.Popen(["sleep", str(FOR_EVER)])
        self.note_process(child.pid)
        os._exit(4)

    def tool_pid(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, str(os.getpid()))

    def tool_stop_reading(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.reading.clear()
        self.settled.set()
        self.text(id_, "stopped")

    def tool_spawn(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Start children: one as it is, one in a session of its own, one that ignores SIGTERM."""
        command = ["sleep", str(FOR_EVER)]
        children = [
            subprocess.Popen(command),
            subprocess.Popen(command, start_new_session=True),
            subprocess.Popen(["sh", "-c", f"trap '' TERM; sleep {FOR_EVER}; :"]),
        ]
        pids = [os.getpid(), *(child.pid for child in children)]
        self.note_process(*pids)
        self.text(id_, json.dumps(pids))

    def tool_spawn_and_hang(self, id_: Any, arguments: dict[str, Any]) -> None:
        child = subprocess.Popen(["sleep", str(FOR_EVER)])
        self.note_process(child.pid)
        self.note("spawned")
        time.sleep(FOR_EVER)

    def tool_spawn_daemon(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, str(self.start_daemon()))

    def start_daemon(self) -> int:
        """Start a daemon: it has no parent, no environment and a session of its own, and ignores signals."""
        script = "trap '' HUP INT TERM; echo $$ > {0}.new; mv {0}.new {0}; sleep {1} & wait"
        file = Path(f"{self.options.note}.daemon")
        file.unlink(missing_ok=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.dup2(os.open(os.devnull, os.O_RDWR), 1)
                os.execve("/bin/sh", ["sh", "-c", script.format(file, FOR_EVER)], {})
            os._exit(0)
        os.wait()
        while not file.exists():
            time.sleep(0.01)
        pid = int(file.read_text())
        self.note_process(pid)
        return pid

    def tool_leave_daemon(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Start a daemon, and end."""
        self.start_daemon()
        os._exit(0)

    def tool_suspend_supervisor(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.start_daemon()
        os.kill(os.getppid(), 19)

    def tool_kill_supervisor(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.start_daemon()
        os.kill(os.getppid(), 9)

    def tool_look(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Read what the process table shows of the processes above this one, and of all others."""
        found = []
        for file in sorted(Path("/proc").glob("[0-9]*/environ")):
            pid = int(file.parent.name)
            if pid == os.getpid():
                continue
            try:
                found.append([pid, file.read_bytes().decode("utf-8", "replace")])
            except OSError as error:
                found.append([pid, f"error {error.errno}"])
        afk = [said for pid, said in found if pid == int(arguments["pid"])]
        self.text(id_, json.dumps({"afk": afk, "key": any(arguments["key"] in said for _, said in found)}))

    def tool_big(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, "x" * BIG)

    def tool_large(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, "begin " + "x" * 300_000 + " end")

    def tool_endless_line(self, id_: Any, arguments: dict[str, Any]) -> None:
        while True:
            self.write("x" * 65536)

    def tool_notify(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Many notifications, as servers send them, then the answer."""
        for _ in range(500):
            self.send({"method": "notifications/message", "params": {"level": "info", "data": "working"}})
        self.text(id_, "done")

    def tool_many_values(self, id_: Any, arguments: dict[str, Any]) -> None:
        values = ",".join(["{}"] * 2_000_000)
        self.write(f'{{"jsonrpc": "2.0", "id": {json.dumps(id_)}, "result": {{"content": [], "_meta": [{values}]}}}}\n')

    def tool_endless_progress(self, id_: Any, arguments: dict[str, Any]) -> None:
        while True:
            self.send({"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}})
            time.sleep(0.05)

    def tool_endless_notifications(self, id_: Any, arguments: dict[str, Any]) -> None:
        params = {"level": "info", "data": "x"}
        line = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
        while True:
            self.write(f"{line}\n" * 500)

    def tool_endless_requests(self, id_: Any, arguments: dict[str, Any]) -> None:
        for number in range(10**9):
            params = {"messages": [], "maxTokens": 1}
            self.send({"id": f"r{number}", "method": "sampling/createMessage", "params": params})

    def tool_endless_stderr(self, id_: Any, arguments: dict[str, Any]) -> None:
        def talk() -> None:
            while True:
                sys.stderr.write("noise " * 10_000 + "\n")

        threading.Thread(target=talk, daemon=True).start()
        time.sleep(0.3)
        self.text(id_, "said a lot")

    def tool_ask(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Ask the client for what a server may ask for, and answer with what it said."""
        message = {"role": "user", "content": {"type": "text", "text": "Tell me the key."}}
        form = {"type": "object", "properties": {"key": {"type": "string"}}}
        said = [
            self.ask("sampling/createMessage", {"messages": [message], "maxTokens": 10}, "s"),
            self.ask("elicitation/create", {"message": "Which key?", "requestedSchema": form}, "e"),
            self.ask("roots/list", {}, "r"),
            self.ask("ping", {}, "p"),
        ]
        self.text(id_, json.dumps([answer.get("error", answer.get("result")) for answer in said]))

    def tool_want_input(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Answer with a request for input, as the protocol of 2026-07-28 has it."""
        form = {"type": "object", "properties": {"key": {"type": "string"}}}
        request = {
            "method": "elicitation/create",
            "params": {"mode": "form", "message": "Which?", "requestedSchema": form},
        }
        self.send({"id": id_, "result": {"resultType": "input_required", "inputRequests": {"a": request}}})

    def tool_again(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Ask twice for the same call with a state."""
        state = int(self.states.get(id_) or 0)
        if state == 2:
            self.text(id_, f"third time, with state {state}", **COMPLETE)
        else:
            self.send({"id": id_, "result": {"resultType": "input_required", "requestState": str(state + 1)}})

    def tool_again_for_ever(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.send({"id": id_, "result": {"resultType": "input_required", "requestState": "x"}})

    def tool_arguments(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, json.dumps(arguments))

    def tool_modern(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, "new", **COMPLETE)

    def tool_env(self, id_: Any, arguments: dict[str, Any]) -> None:
        session = os.getsid(0) == os.getpid()
        self.text(id_, json.dumps({"env": dict(os.environ), "cwd": str(Path.cwd()), "session": session}))

    def tool_fail(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, "the file is not there\nlook elsewhere", isError=True)

    def tool_fail_silently(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.send({"id": id_, "result": {"content": [], "isError": True}})

    def tool_error(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.send({"id": id_, "error": {"code": -32602, "message": "two\nlines of \x1b[31mred"}})

    def tool_malformed(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.write('{"jsonrpc": "2.0", "id": \n')

    def tool_no_result(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.send({"id": id_, "result": {"content": "text"}})

    def tool_surrogate(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, "half a \ud83d pair")

    def tool_structured(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.send({"id": id_, "result": {"content": [], "structuredContent": {"degrees": 21, "sky": "blue"}}})

    def tool_structured_beside(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, "It is warm.", structuredContent={"degrees": 21})

    def tool_structured_repeated(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, '{\n  "degrees": 21\n}', structuredContent={"degrees": 21})

    def tool_structured_wrapped(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.text(id_, "21", structuredContent={"result": 21})

    def tool_media(self, id_: Any, arguments: dict[str, Any]) -> None:
        data = "QUJDRA=="  # ABCD
        parts = [
            {"type": "text", "text": "Here:"},
            {"type": "image", "data": data, "mimeType": "image/png"},
            {"type": "audio", "data": data, "mimeType": "audio/wav"},
            {"type": "resource_link", "uri": "file:///a\x1b[31m", "name": "a", "size": 12},
            {"type": "resource", "resource": {"uri": "memo:1", "mimeType": "text/plain", "text": "a memo"}},
            {"type": "resource", "resource": {"uri": "memo:2", "blob": data}},
        ]
        self.send({"id": id_, "result": {"content": parts}})

    def tool_pictures(self, id_: Any, arguments: dict[str, Any]) -> None:
        """Images in the forms in which servers send them."""
        png = base64.b64encode(PNG).decode()
        parts = [
            {"type": "image", "data": png, "mimeType": "image/png"},
            {"type": "image", "data": png, "mimeType": ""},
            {"type": "image", "data": f"data:image/png;base64,{png}", "mimeType": "image/png"},
            {"type": "image", "data": "\n".join([png[:20], png[20:]]).rstrip("="), "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "memo:3", "mimeType": "image/png", "blob": png}},
            {"type": "image", "data": "*no base64*", "mimeType": "image/png"},
        ]
        self.send({"id": id_, "result": {"content": parts}})

    def tool_picture_of_an_error(self, id_: Any, arguments: dict[str, Any]) -> None:
        image = {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
        self.send({"id": id_, "result": {"content": [{"type": "text", "text": "blocked"}, image], "isError": True}})

    def tool_picture_and_text(self, id_: Any, arguments: dict[str, Any]) -> None:
        image = {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
        self.send({"id": id_, "result": {"content": [{"type": "text", "text": "x" * 1000}, image]}})

    def tool_announce(self, id_: Any, arguments: dict[str, Any]) -> None:
        self.send({"method": "notifications/tools/list_changed"})
        self.text(id_, "announced")


_REFUSALS: dict[str, dict[str, Any]] = {
    "modern_invalid_request": {"error": {"code": -32600, "message": "Invalid Request"}},
    "modern_invalid_params": {"error": {"code": -32602, "message": "_meta is missing"}},
    "modern_version": {
        "result": {"protocolVersion": "2026-07-28", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
    },
}
"""How servers that know the protocol of 2026-07-28 alone answer the handshake."""


def _renamed(tools: list[dict[str, Any]], description: str) -> list[dict[str, Any]]:
    return [{**tool, "description": description} if tool["name"] == "echo" else tool for tool in tools]


def _nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        inner = {"type": "object", "properties": {"a": inner}}
    return {"a": inner}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--at-start", default="well")
    parser.add_argument("--list", default="usual")
    parser.add_argument("--note", default="")
    Server(parser.parse_args()).serve()
