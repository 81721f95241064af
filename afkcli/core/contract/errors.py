"""Every error that a user can meet, with its kind and exit code.

The message of an `AfkError` is one line for a person: what happened, to which thing, and the next step.
"""

from __future__ import annotations

from enum import StrEnum

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_DEGRADED = 3
EXIT_FAILED = 4
EXIT_BUSY = 5
EXIT_DENIED = 6


class ErrorKind(StrEnum):
    """Why a model call or a run failed; the kinds of the table in ARCHITECTURE.md."""

    AUTH = "auth"
    NOT_FOUND = "not_found"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    NETWORK = "network"
    TIMEOUT = "timeout"
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    TRUNCATED = "truncated"
    INVALID_OUTPUT = "invalid_output"
    INTERNAL = "internal"


RETRIED_KINDS = frozenset({ErrorKind.RATE_LIMIT, ErrorKind.OVERLOADED, ErrorKind.NETWORK, ErrorKind.TIMEOUT})
REFUSED_KINDS = frozenset({ErrorKind.BAD_REQUEST, ErrorKind.CONTEXT_LENGTH, ErrorKind.CONTENT_FILTER})

HISTORY_REFUSED = "history"
"""The reason of a run that failed because an API refuses an earlier turn of its thread."""


MAX_ERROR_CHARS = 16_000
"""How much of what a server or a plugin says about its failure is kept; a server may say megabytes."""


class AfkError(Exception):
    """Base of all errors that afk raises on purpose; `exit_code` is what the command line ends with."""

    exit_code = EXIT_INTERNAL


class UsageError(AfkError):
    """The call itself cannot be carried out: no run was started."""

    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """A config file, an environment variable or a plugin setting is not usable."""


class MissingKeyError(ConfigError):
    """A model was named whose provider has no API key."""


class UnknownNameError(UsageError):
    """A thread, model, provider, agent or plugin was named that does not exist."""


class InvalidNameError(UsageError):
    """A thread name breaks the rules for names."""


class ConflictError(UsageError):
    """What is to be imported does not go with what is there; nothing was changed."""


class PluginError(AfkError):
    """A plugin failed to load or broke its contract."""


class PluginContractError(PluginError, UsageError):
    """What a plugin offers does not fit the contract: a type of a setting, or an object that a hook returned."""

    exit_code = EXIT_USAGE


class ThreadBusyError(AfkError):
    """Another run holds the thread."""

    exit_code = EXIT_BUSY


class LeaseLostError(AfkError):
    """The lease was taken over by another run, so nothing more may be written under it."""

    exit_code = EXIT_BUSY


class StoreError(AfkError):
    """The store could not read or write."""


class EngineError(AfkError):
    """The engine of a batch could not read or write. Since: 0.2."""


class HeadMismatchError(StoreError):
    """The thread's head is not the one that the writer expected; nothing was written."""


class UnsupportedRecordError(StoreError):
    """A thread has a record of a kind or version that this afk does not know; the thread was left unchanged."""


class NameTakenError(StoreError):
    """Another thread has that name."""

    exit_code = EXIT_USAGE


class CounterLimitError(AfkError):
    """A counter would pass its limit; nothing was added."""

    exit_code = EXIT_DEGRADED


class ProviderError(AfkError):
    """A model call failed.

    Args:
        message: one line for a person; it is cut to 16,000 characters.
        kind: one of `ErrorKind`.
        retry_after: seconds that the server asked to wait, if it did.
        status: the HTTP status, if there was one.
        said: the server's own words, on one line and without secrets; empty if there are none.

    `message_index` is the message of the request that the server named: its index among those of
    `ModelRequest.messages` whose role is not `system`, from 0; None if it named none, or another part of the request.
    """

    exit_code = EXIT_FAILED

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        retry_after: float | None = None,
        status: int | None = None,
        said: str = "",
        message_index: int | None = None,
    ) -> None:
        super().__init__(message[:MAX_ERROR_CHARS])
        self.kind = kind
        self.retry_after = retry_after
        self.status = status
        self.said = said[:MAX_ERROR_CHARS]
        self.message_index = message_index


class HistoryRefusedError(ProviderError):
    """A model call failed because its API refuses an earlier turn of the thread; the new message is not at fault."""


class LimitReachedError(AfkError):
    """A limit of the fail-safe was reached; `limit` is the name of the field."""

    exit_code = EXIT_DEGRADED

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit
