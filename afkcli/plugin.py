"""The public API of a plugin author: everything that a plugin imports from afk, and nothing else.

A plugin imports `afkcli` (`hookimpl`, `tool`, `ToolError`), this module, `afkcli.hookspecs`, and the shared parts in
`afkcli.providers` and `afkcli.testing`. Each name is imported from its home when it is first used, so importing a
plugin loads only what it uses. Names are added; a name is removed only after a release that warns about its use.

Since: 0.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from afkcli.core.contract.codecs import (
        owner_from_json,
        owner_to_json,
        thread_info_from_json,
        thread_info_to_json,
        usage_to_json,
    )
    from afkcli.core.contract.credentials import address_secrets
    from afkcli.core.contract.errors import (
        AfkError,
        ConfigError,
        CounterLimitError,
        ErrorKind,
        HeadMismatchError,
        InvalidNameError,
        LeaseLostError,
        MissingKeyError,
        NameTakenError,
        PluginContractError,
        PluginError,
        ProviderError,
        StoreError,
        ThreadBusyError,
        UnknownNameError,
        UsageError,
    )
    from afkcli.core.contract.events import Event, TextDeltaEvent, event_to_json, message_to_json
    from afkcli.core.contract.growing import GrowingText
    from afkcli.core.contract.ids import rfc3339, uuid7
    from afkcli.core.contract.jsonform import (
        MAX_LINE_BYTES,
        Json,
        JsonError,
        JsonObject,
        clean_text,
        dumps,
        loads,
        loads_object,
    )
    from afkcli.core.contract.media_types import PDF, image_type_of
    from afkcli.core.contract.messages import (
        FilePart,
        FinishReason,
        ImagePart,
        Message,
        ModelEvent,
        ModelRequest,
        ModelResponse,
        ModelWarning,
        OpaqueDelta,
        Part,
        ProviderData,
        ReasoningDelta,
        ReasoningPart,
        Role,
        TextDelta,
        TextPart,
        ToolCallDelta,
        ToolCallPart,
        ToolResultPart,
        ToolSpec,
        message_from_json,
        text_message,
    )
    from afkcli.core.contract.protocols import (
        DURABLE_KINDS,
        KEPT_KINDS,
        LEASE_SECONDS,
        NO_CONTENTS,
        Add,
        Append,
        BatchStore,
        Capabilities,
        CommandContext,
        Fork,
        LargeRecord,
        Lease,
        ModelInfo,
        OpenTurn,
        Operation,
        OperationResult,
        Owner,
        Price,
        PriceTier,
        Provider,
        Record,
        RecordKind,
        Renew,
        Sink,
        Store,
        ThreadInfo,
    )
    from afkcli.core.contract.result import RunState, Usage, usage_from_json
    from afkcli.core.contract.schemas import schema_problem
    from afkcli.core.contract.setting_sources import SettingSource, setting_source
    from afkcli.core.contract.structured import told
    from afkcli.core.contract.tasks import started
    from afkcli.core.contract.text import one_line
    from afkcli.core.contract.tool_output import MAX_OUTPUT_CHARS, Image, bounded
    from afkcli.core.contract.tools import (
        Tool,
        ToolContext,
        ToolError,
        Toolset,
        tool,
        tool_context,
    )
    from afkcli.core.contract.typed_json import from_json
    from afkcli.core.contract.waiting import say_waiting, while_waiting
    from afkcli.core.thread.attachments import attached_parts, label
    from afkcli.core.thread.history import load_history
    from afkcli.core.thread.names import title_of
    from afkcli.core.thread.records import advance
    from afkcli.core.thread.turns import SealedTurn, after_seal, turn_from_json
    from afkcli.hookspecs import HOOKS_VERSION, hookimpl
    from afkcli.host.bound_starts import Start, start_environment, start_problem
    from afkcli.host.files import make_private_folder, private_file, replace_file, sync_folder
    from afkcli.host.nondumpable import hide_memory
    from afkcli.host.owner import boot_id, current_owner, proven_dead
    from afkcli.host.paths import config_dir, data_dir, expand_user, state_dir
    from afkcli.host.secrets import keep_secret, mask_secrets
    from afkcli.processes.sandbox import (
        HIDDEN,
        ReaderSandbox,
        Sandbox,
        SandboxError,
        SandboxMode,
        make_reader_sandbox,
        make_sandbox,
    )
    from afkcli.processes.supervised import DEVNULL, PIPE, Stopped, SupervisedProcess
    from afkcli.providers.base import BaseProvider
    from afkcli.providers.failures import http_error_kind

_NAMES = {
    "afkcli.core.contract.media_types": ("PDF", "image_type_of"),
    "afkcli.core.thread.attachments": (
        "attached_parts",
        "label",
    ),
    "afkcli.core.contract.codecs": (
        "owner_from_json",
        "owner_to_json",
        "thread_info_from_json",
        "thread_info_to_json",
        "usage_to_json",
    ),
    "afkcli.core.contract.text": ("one_line",),
    "afkcli.core.contract.typed_json": ("from_json",),
    "afkcli.core.contract.credentials": ("address_secrets",),
    "afkcli.core.contract.setting_sources": ("SettingSource", "setting_source"),
    "afkcli.core.contract.errors": (
        "AfkError",
        "ConfigError",
        "CounterLimitError",
        "ErrorKind",
        "GrowingText",
        "HeadMismatchError",
        "InvalidNameError",
        "LeaseLostError",
        "MissingKeyError",
        "NameTakenError",
        "PluginContractError",
        "PluginError",
        "ProviderError",
        "StoreError",
        "ThreadBusyError",
        "UnknownNameError",
        "UsageError",
    ),
    "afkcli.core.contract.events": (
        "Event",
        "TextDeltaEvent",
        "event_to_json",
        "message_to_json",
    ),
    "afkcli.core.contract.growing": ("GrowingText",),
    "afkcli.core.contract.ids": (
        "rfc3339",
        "uuid7",
    ),
    "afkcli.core.contract.jsonform": (
        "Json",
        "JsonError",
        "JsonObject",
        "MAX_LINE_BYTES",
        "clean_text",
        "dumps",
        "loads",
        "loads_object",
    ),
    "afkcli.core.contract.messages": (
        "FilePart",
        "FinishReason",
        "ImagePart",
        "Message",
        "ModelEvent",
        "ModelRequest",
        "ModelResponse",
        "ModelWarning",
        "OpaqueDelta",
        "Part",
        "ProviderData",
        "ReasoningDelta",
        "ReasoningPart",
        "Role",
        "TextDelta",
        "TextPart",
        "ToolCallDelta",
        "ToolCallPart",
        "ToolResultPart",
        "ToolSpec",
        "message_from_json",
        "text_message",
    ),
    "afkcli.core.contract.protocols": (
        "Add",
        "Append",
        "BatchStore",
        "Operation",
        "OperationResult",
        "Renew",
        "Capabilities",
        "CommandContext",
        "DURABLE_KINDS",
        "Fork",
        "KEPT_KINDS",
        "LEASE_SECONDS",
        "LargeRecord",
        "Lease",
        "ModelInfo",
        "NO_CONTENTS",
        "OpenTurn",
        "Owner",
        "Price",
        "PriceTier",
        "Provider",
        "Record",
        "RecordKind",
        "Sink",
        "Store",
        "ThreadInfo",
    ),
    "afkcli.core.contract.result": (
        "RunState",
        "Usage",
        "usage_from_json",
    ),
    "afkcli.core.contract.schemas": ("schema_problem",),
    "afkcli.core.contract.structured": ("told",),
    "afkcli.core.contract.tasks": ("started",),
    "afkcli.core.thread.history": ("load_history",),
    "afkcli.core.thread.names": ("title_of",),
    "afkcli.core.thread.records": ("advance",),
    "afkcli.core.thread.turns": (
        "SealedTurn",
        "after_seal",
        "turn_from_json",
    ),
    "afkcli.core.contract.tool_output": (
        "MAX_OUTPUT_CHARS",
        "Image",
        "bounded",
    ),
    "afkcli.core.contract.tools": (
        "Tool",
        "ToolContext",
        "ToolError",
        "Toolset",
        "tool",
        "tool_context",
    ),
    "afkcli.core.contract.waiting": ("say_waiting", "while_waiting"),
    "afkcli.hookspecs": (
        "HOOKS_VERSION",
        "hookimpl",
    ),
    "afkcli.host.bound_starts": (
        "Start",
        "start_environment",
        "start_problem",
    ),
    "afkcli.host.files": (
        "make_private_folder",
        "private_file",
        "replace_file",
        "sync_folder",
    ),
    "afkcli.host.nondumpable": ("hide_memory",),
    "afkcli.host.owner": (
        "boot_id",
        "current_owner",
        "proven_dead",
    ),
    "afkcli.host.paths": (
        "config_dir",
        "data_dir",
        "expand_user",
        "state_dir",
    ),
    "afkcli.processes.sandbox": (
        "HIDDEN",
        "ReaderSandbox",
        "Sandbox",
        "SandboxError",
        "SandboxMode",
        "make_reader_sandbox",
        "make_sandbox",
    ),
    "afkcli.processes.supervised": (
        "DEVNULL",
        "PIPE",
        "Stopped",
        "SupervisedProcess",
    ),
    "afkcli.providers.base": ("BaseProvider",),
    "afkcli.providers.failures": ("http_error_kind",),
    "afkcli.host.secrets": (
        "keep_secret",
        "mask_secrets",
    ),
}
"""The public names by their home."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [  # written out for type checkers; a test compares it with the table above
    "ThreadBusyError",
    "InvalidNameError",
    "Add",
    "AfkError",
    "Append",
    "BaseProvider",
    "BatchStore",
    "Capabilities",
    "CommandContext",
    "ConfigError",
    "CounterLimitError",
    "DEVNULL",
    "DURABLE_KINDS",
    "ErrorKind",
    "Event",
    "FilePart",
    "FinishReason",
    "Fork",
    "HOOKS_VERSION",
    "HeadMismatchError",
    "Image",
    "ImagePart",
    "Json",
    "JsonError",
    "JsonObject",
    "KEPT_KINDS",
    "LEASE_SECONDS",
    "LargeRecord",
    "Lease",
    "LeaseLostError",
    "MAX_LINE_BYTES",
    "MAX_OUTPUT_CHARS",
    "Message",
    "MissingKeyError",
    "ModelEvent",
    "ModelInfo",
    "ModelRequest",
    "ModelResponse",
    "ModelWarning",
    "OpaqueDelta",
    "NO_CONTENTS",
    "NameTakenError",
    "OpenTurn",
    "Operation",
    "OperationResult",
    "Owner",
    "PDF",
    "PIPE",
    "Part",
    "PluginContractError",
    "PluginError",
    "Price",
    "PriceTier",
    "Provider",
    "ProviderData",
    "ProviderError",
    "ReasoningDelta",
    "ReasoningPart",
    "Record",
    "RecordKind",
    "Renew",
    "Role",
    "RunState",
    "SealedTurn",
    "SettingSource",
    "Sink",
    "Start",
    "Store",
    "StoreError",
    "Stopped",
    "make_sandbox",
    "make_reader_sandbox",
    "SandboxMode",
    "SandboxError",
    "Sandbox",
    "ReaderSandbox",
    "GrowingText",
    "HIDDEN",
    "SupervisedProcess",
    "TextDelta",
    "TextDeltaEvent",
    "TextPart",
    "ThreadInfo",
    "Tool",
    "ToolCallDelta",
    "ToolCallPart",
    "ToolContext",
    "ToolError",
    "ToolResultPart",
    "ToolSpec",
    "Toolset",
    "UnknownNameError",
    "Usage",
    "UsageError",
    "address_secrets",
    "advance",
    "after_seal",
    "attached_parts",
    "boot_id",
    "bounded",
    "clean_text",
    "config_dir",
    "current_owner",
    "data_dir",
    "dumps",
    "event_to_json",
    "expand_user",
    "from_json",
    "hide_memory",
    "hookimpl",
    "http_error_kind",
    "image_type_of",
    "keep_secret",
    "label",
    "load_history",
    "loads",
    "loads_object",
    "make_private_folder",
    "mask_secrets",
    "message_from_json",
    "message_to_json",
    "one_line",
    "owner_from_json",
    "owner_to_json",
    "private_file",
    "proven_dead",
    "replace_file",
    "rfc3339",
    "say_waiting",
    "setting_source",
    "schema_problem",
    "start_environment",
    "start_problem",
    "started",
    "state_dir",
    "sync_folder",
    "text_message",
    "thread_info_from_json",
    "thread_info_to_json",
    "title_of",
    "told",
    "tool",
    "tool_context",
    "turn_from_json",
    "usage_from_json",
    "usage_to_json",
    "uuid7",
    "while_waiting",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'afkcli.plugin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
