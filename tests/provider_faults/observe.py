"""Runs one fault against one API with the installed `afk`, and tells what was observed."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afkcli.testing.model_server import ModelServer, Step
from tests.e2e.shell import AFK, LIMIT, Finished, Shell, wait_for_output
from tests.e2e.workers import workers
from tests.provider_faults.apis import KEY, Api
from tests.provider_faults.faults import MAX_MEGABYTES, WORDS, Fault, Host, Sent
from tests.provider_faults.hosts import base_url

RETRY_DELAY = 0.05
"""The setting `retry_delay`, so that four retries take less than a second."""

FIRST, SECOND = "mark-first", "mark-second"
RESOLVER = {"RES_OPTIONS": "timeout:1 attempts:1"}
"""Where no resolver answers, the C library gives up soon. No command runs warm with it."""


@dataclass(slots=True)
class Found:
    """What was observed of one fault at one API; `problems` is what is not as the design says."""

    fault: Fault
    api: Api
    code: int = -1
    state: str = ""
    kind: str | None = None
    requests: int = 0
    sent: str = ""
    line: str = ""
    megabytes: int = 0
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.problems.append(f"{what} is {found!r}, not {wanted!r}")


def observe(fault: Fault, api: Api) -> Found:
    """Run a turn into the fault and another one after it, each a process of its own, in a clean home."""
    found = Found(fault, api)
    with tempfile.TemporaryDirectory(prefix="afk-faults-") as folder, ModelServer() as server:
        env = dict(RESOLVER) if workers() is None else {}
        shell = Shell(home=Path(folder, "home"), folder=Path(folder, "work"), env=env)
        shell.folder.mkdir()
        config = shell.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        with base_url(fault.host, server, fault.raw(api) if fault.raw is not None else None) as url:
            config.write_text(_config(api, fault, url, fault.settings))
            server.script(*fault.steps(api))
            done, found.megabytes = _first_turn(shell, server, fault, api)
        _judge_turn(found, done, shell.log(), server)
        config.write_text(_config(api, fault, server.base_url, {}))
        server.script(Step(text="ok"))
        _judge_next_turn(found, shell.afk("run", "-t", "t", "-m", api.full_model, SECOND), server)
    return found


def _config(api: Api, fault: Fault, url: str, settings: Mapping[str, Any]) -> str:
    fallback = [f"{api.full_model}-fallback"] if fault.fallback else []
    table = {"base_url": url, "api_key": KEY, **api.settings, **settings}
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    top = [f"retry_delay = {RETRY_DELAY}", f"fallback_models = {json.dumps(fallback)}"]
    return "\n".join([*top, f"[providers.{api.provider}]", *lines, ""])


def _first_turn(shell: Shell, server: ModelServer, fault: Fault, api: Api) -> tuple[Finished, int]:
    """Return how the first turn ended, and for a server of bytes how many megabytes it took, else 0."""
    arguments = ("run", "-t", "t", "-m", api.full_model, *fault.arguments, FIRST)
    if fault.raw is not None:
        return measured(shell, *arguments)
    if not any(step.fault_waits for step in fault.steps(api)):
        return shell.afk(*arguments), 0
    process = shell.start(*arguments)
    shown = b""
    with contextlib.suppress(AssertionError):  # it ended without that, which the judgement names
        shown = wait_for_output(process, fault.out.encode())
    server.release()
    out, err = process.communicate(timeout=LIMIT)
    return Finished(process.returncode, (shown + out).decode(), err.decode()), 0


MEASURED_LIMIT = 600
"""Seconds after which a run hangs: some read hundreds of megabytes, five times, on a machine that may be busy."""

_MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


def measured(shell: Shell, *arguments: str) -> tuple[Finished, int]:
    """Run `afk` to its end, and return how it ended and how many megabytes it had resident at most.

    A small process starts it: what a process takes at most counts from the memory of the one that started it.
    """
    peak = shell.home / "peak"
    done = subprocess.run(
        [sys.executable, "-S", "-c", _MEASURE, peak, AFK, *arguments],
        cwd=shell.folder,
        env=shell.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=MEASURED_LIMIT,
        check=False,
    )
    kilobytes = int(peak.read_text()) // (1024 if sys.platform == "darwin" else 1)
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode()), kilobytes // 1024


_RESUME = re.compile(r"afk: `afk threads resume \S+` continues it")


def _judge_turn(found: Found, done: Finished, log: list[dict[str, Any]], server: ModelServer) -> None:
    fault, row = found.fault, found.fault.row
    said = done.err.splitlines()
    lines = [line for line in said if not _RESUME.fullmatch(line)]
    result = log[-1]["result"]
    retries = [event for event in log if event["type"] == "retrying"]
    found.code, found.state, found.kind = done.code, result["state"], result["error_kind"]
    found.requests = sum(event["type"] == "step_started" for event in log)
    found.line = lines[-1] if lines else ""
    found.expect("exit code", found.code, row.code)
    found.expect("state", found.state, row.state)
    found.expect("kind", found.kind, fault.kind)
    found.expect("number of requests", found.requests, row.requests)
    if fault.host is Host.SCRIPTED:
        found.expect("number of requests at the server", len(server.requests), row.requests)
    found.expect("stdout", done.out, f"{fault.out}\n" if fault.out else "")
    found.expect("saved", result["saved"], True)
    wanted_retries = 0 if fault.fallback else row.requests - 1
    found.expect("number of retrying events", len(retries), wanted_retries)
    found.expect("lines that announce a retry", sum("trying again in" in line for line in lines), wanted_retries)
    found.expect("lines on stderr", len(lines), wanted_retries + fault.other_lines)
    is_cut = result["state"] == "degraded" or result["error_kind"] == "truncated"
    found.expect("the last line says how to resume", len(said) > len(lines) and lines == said[:-1], is_cut)
    most = MAX_MEGABYTES + found.api.library_megabytes
    if found.megabytes > most:
        found.problems.append(f"it took {found.megabytes} MB, more than {most}")
    _judge_delays(found, [event["delay_s"] for event in retries], server)
    if fault.says not in done.err:
        found.problems.append(f"{fault.says!r} is not in {done.err!r}")
    if KEY in done.err or KEY in json.dumps(log):
        found.problems.append("the key is shown")


def _judge_delays(found: Found, delays: list[float], server: ModelServer) -> None:
    low, high = found.fault.delays
    if not all(low <= delay <= high for delay in delays):
        found.problems.append(f"the waits are {delays}, not between {low} and {high} s")
    arrived = [request.at for request in server.requests]
    for delay, before, after in zip(delays, arrived, arrived[1:], strict=False):
        if after - before < delay - 0.001:  # the event rounds to milliseconds
            found.problems.append(f"a request came {after - before:.3f} s after the one before, not {delay} s")


def _judge_next_turn(found: Found, done: Finished, server: ModelServer) -> None:
    wanted = found.fault.row.sent
    found.expect("exit code of the next turn", (done.code, done.out), (0, "ok\n"))
    lines = 1 if wanted is Sent.LEFT_OUT else 0
    found.expect("lines of the next turn on stderr", len(done.err.splitlines()), lines)
    sent = [request.body for request in server.requests if said(request.body)[-1:] == [("user", SECOND)]]
    if not sent:
        found.problems.append(f"the next turn sent no request: {done.err.strip()}")
        return
    found.sent = _sent(said(sent[-1]), found.fault.out)
    if found.sent == Sent.AGAIN and wanted is Sent.TURN and not found.fault.out:
        found.sent = Sent.TURN  # an answer without text is a turn of the question alone
    found.expect("what the next turn sends", found.sent, wanted.value)


def said(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the roles and texts of a request's messages, in the form of any of the APIs."""
    messages: list[tuple[str, str]] = []
    for item in body.get("messages", body.get("input", ())):
        content = item.get("content") or ""
        # Questions in a row are one message.
        texts = content.split("\n\n") if isinstance(content, str) else [part.get("text", "") for part in content]
        messages += [(item["role"], text) for text in texts if text and "role" in item]
    return messages


def _sent(messages: list[tuple[str, str]], out: str) -> str:
    before = messages[:-1]
    if not before:
        return Sent.LEFT_OUT
    if before[0] != ("user", FIRST) or any(role != "assistant" for role, _ in before[1:]):
        return f"something else: {messages}"
    answer = "".join(text for _, text in before[1:])
    if not answer:
        return Sent.AGAIN
    if not answer.startswith(out):
        return f"another answer: {messages}"
    return Sent.CUT if "This answer was cut off here" in answer else Sent.TURN


__all__ = ["WORDS", "Found", "measured", "observe", "said"]
