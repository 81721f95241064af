"""The servers of the user's config, checked; and what they are given of the environment."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afkcli.plugin import (
    HIDDEN,
    MAX_OUTPUT_CHARS,
    SandboxMode,
    dumps,
    expand_references,
    expand_user,
    keep_secret,
    references,
)

PASSED_ON = ("PATH", "HOME", "LANG", "TERM", "TMPDIR", "USER", "SHELL")
"""The variables of afk's own environment that a server is given, beside all `LC_*`; never a key."""

PASSED_ON_WINDOWS = ("APPDATA", "LOCALAPPDATA", "PATHEXT", "SYSTEMROOT", "TEMP", "TMP", "USERPROFILE")

IDLE_SECONDS = 60.0

_SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_SECRET_NAME = re.compile(r"key|token|secret|passw|auth|credential|cookie|session", re.IGNORECASE)


@dataclass
class Settings:
    """`[tools.mcp]` in the user's config.

    Attributes:
        servers: `[tools.mcp.servers.NAME]`, one table a server: the fields of `ServerSettings`.
    """

    servers: dict[str, ServerSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.servers:
            if not _SERVER_NAME.fullmatch(name):
                raise ValueError(f"invalid server name {name!r}; use up to 64 letters, digits, `-` and `_`")


@dataclass(kw_only=True)
class ServerSettings:
    """`[tools.mcp.servers.NAME]`: a program with `command`, or a server of streamable HTTP with `url`.

    Attributes:
        command: the program, by its path or looked up in PATH.
        args: its arguments.
        env: variables that it is given beside the few of `PASSED_ON`; `${NAME}` in a value is afk's own variable,
            `$${` the text `${`.
        cwd: the folder that it works in; afk's own by default.
        sandbox: "workspace" lets the program write in `cwd` and `writable` alone, "read-only" nowhere; "off", the
            default, runs it with all rights of the user.
        network: whether the program may open connections in its sandbox.
        writable: more folders in which it may write there.
        hidden: files and folders that it cannot read there; afk's own are always hidden.
        url: the address of an HTTP server.
        headers: sent with every request to it; `${NAME}` in a value is a variable of afk's environment.
        read_only: the tools that change nothing, by their names without the server's; all others are taken to.
        start_timeout: seconds for the start, or the connection, and the list of its tools.
        timeout: seconds for one call.
        idle_timeout: seconds between two pieces of an answer over HTTP, keep-alives not counted. Without it, 60 within
            a body of JSON; in an event stream a server may work in silence until `timeout`.
        max_output: how many characters of a result the model is given.
    """

    command: str = ""
    args: list[str] = field(default_factory=list)
    env: dict[str, Any] = field(default_factory=dict)
    cwd: str = ""
    sandbox: SandboxMode = "off"
    network: bool = False
    writable: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=lambda: list(HIDDEN))
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict, metadata={"secret": True, "expand": False})
    read_only: list[str] = field(default_factory=list)
    start_timeout: float = 30.0
    timeout: float = 120.0
    idle_timeout: float | None = None
    max_output: int = MAX_OUTPUT_CHARS

    def __post_init__(self) -> None:
        for key, value in self.env.items():  # before an error is raised
            _keep_secret(key, value)
        if bool(self.command) == bool(self.url):
            raise ValueError("it needs `command` (a program) or `url` (an HTTP server), and not both")
        for names, owner in (
            (("args", "env", "cwd", "network", "writable"), "command"),
            (("headers", "idle_timeout"), "url"),
        ):
            stray = [name for name in names if getattr(self, name) and not getattr(self, owner)]
            if stray:
                raise ValueError(f"`{stray[0]}` goes with `{owner}`")
        self._check_sandbox()
        for name in ("start_timeout", "timeout", "idle_timeout", "max_output"):
            number = getattr(self, name)
            if number is not None and not (math.isfinite(number) and number > 0):
                raise ValueError(f"`{name}` is {number}; a number above 0 was expected")
        if self.max_output > MAX_OUTPUT_CHARS:
            raise ValueError(f"`max_output` is {self.max_output}; a model is given {MAX_OUTPUT_CHARS} at most")
        _check_env(self.env)
        _check_headers(self.headers)
        if self.url:
            _check_url(self.url)

    def _check_sandbox(self) -> None:
        if self.sandbox != "off" and not self.command:
            raise ValueError("`sandbox` goes with `command`")
        if self.sandbox == "off" and (self.network or self.writable):
            raise ValueError('`network` and `writable` need `sandbox = "workspace"` or `"read-only"`')

    def idle_limit(self, *, is_stream: bool) -> float | None:
        """Return how long an answer over HTTP may be without progress, in seconds; None for no limit of its own."""
        return self.idle_timeout or (None if is_stream else IDLE_SECONDS)

    @property
    def list_key(self) -> str:
        """A hash of what decides which tools the server has, as it was written."""
        said = [self.command, self.args, self.env, self.cwd, self.url, self.headers]
        return hashlib.sha256(dumps(said).encode()).hexdigest()

    def missing_variable(self) -> tuple[str, str] | None:
        """Return (the key, the variable) of the first reference to a variable of afk's that is not set, or None."""
        for table, values in (("env", self.env), ("headers", self.headers)):
            for key, value in values.items():
                missing = [name for name in references(value) if name not in os.environ]
                if missing:
                    return f"{table} {key}", missing[0]
        return None

    def environment(self) -> dict[str, str]:
        """Return the environment that the program is given: a few of afk's variables, and its own."""
        names = PASSED_ON_WINDOWS if os.name == "nt" else ()
        given = {name: value for name, value in os.environ.items() if name in (*PASSED_ON, *names)}
        given |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
        return given | _resolved(self.env, secret=False)

    def request_headers(self) -> dict[str, str]:
        """Return the headers of every request, the variables that they name filled in."""
        return _resolved(self.headers, secret=True)

    def folder(self) -> Path | None:
        """Return the folder that the program works in, None for afk's own."""
        return expand_user(self.cwd, "[tools.mcp.servers] cwd") if self.cwd else None


def _check_env(env: Mapping[str, Any]) -> None:
    for name, value in env.items():
        if not isinstance(value, str):
            raise ValueError(f"`env` {name} must be a text; put its value into quotes")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"`env` {name!r} cannot be a variable of an environment")
        _check_references(f"`env` {name}", value)


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"`headers` {name!r} is not a valid header name")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"`headers` {name} holds characters that a header cannot have")
        _check_references(f"`headers` {name}", value)


def _check_references(where: str, value: str) -> None:
    try:
        references(value)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None


def _check_url(url: str) -> None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("`url` is not a valid address; write http://HOST/PATH or https://HOST/PATH")


def _resolved(values: Mapping[str, str], *, secret: bool) -> dict[str, str]:
    """Return the values, the variables that they name filled in; those that are secret are masked from here on."""
    found = {}
    for name, value in values.items():
        found[name] = expand_references(value, os.environ)
        _keep_secret(name, found[name], secret=secret)
        for variable in references(value):
            _keep_secret(f"{name} {variable}", os.environ.get(variable), secret=secret)
    return found


def _keep_secret(name: str, value: object, *, secret: bool = False) -> None:
    """Have a value masked that is secret, or whose name tells that it is."""
    if secret or _SECRET_NAME.search(name):
        keep_secret(value)
