"""The contents of the attachments of a thread: read from the store when a call needs them, and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

from afkcli.core.contract.errors import StoreError
from afkcli.core.contract.messages import FilePart, ImagePart, Message, Part, Role, TextPart, ToolResultPart
from afkcli.core.contract.protocols import Capabilities, Store
from afkcli.core.contract.structs import Struct, field, replace
from afkcli.core.thread.attachments import AttachedPart, attached_parts, framed, is_text, label, note_for_model, takes
from afkcli.core.thread.common import begins_with

Warn = Callable[[str, str], None]


class Contents(Struct, kw_only=True):
    """The contents that one run sends, by their hash.

    Args:
        read: returns a content of the thread, or raises `LostContentError`; it does not block the event loop.
        held: the contents of the run's own message, and of the images that its tools returned.
    """

    read: Callable[[str], Awaitable[bytes]]
    held: dict[str, bytes] = field(default_factory=dict)
    _lost: dict[str, str] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _refused_by: set[str] = field(default_factory=set)
    _seen: Sequence[Message] = ()
    _has_parts: bool = False
    _made: list[Message] = field(default_factory=list)
    _made_for: tuple[object, ...] = ()

    def get(self, sha256: str) -> bytes:
        """Return a content that was loaded; `KeyError` if it was not."""
        return self.held[sha256]

    def of(self, messages: Iterable[Message]) -> dict[str, bytes]:
        """Return the contents of the attachments of `messages` that are available."""
        named = (part.sha256 for part in attached_parts(messages))
        return {sha256: self.held[sha256] for sha256 in named if sha256 in self.held}

    async def sendable(
        self, messages: Sequence[Message], model: str, capabilities: Callable[[], Capabilities], warn: Warn
    ) -> Sequence[Message]:
        """Return `messages` as the model named `model` can be sent them, the contents of their parts loaded.

        Text files become text. What the model cannot take, and what is lost or damaged, becomes a note to the model;
        `warn` is called once for each, with code and line. In a loop of tool calls the messages of one call begin with
        those of the call before; what was made of these is returned again.
        """
        if not begins_with(messages, self._seen):
            self._seen, self._has_parts, self._made = (), False, []
        self._has_parts = self._has_parts or _has_parts(messages[len(self._seen) :])
        self._seen = tuple(messages)
        if not self._has_parts:
            return messages
        able = capabilities()
        results = replace(able, images=False) if model in self._refused_by else able
        made_for = (model, able.images, able.files, results.images)
        if made_for != self._made_for:
            self._made_for, self._made = made_for, []
        for message in messages[len(self._made) :]:
            can = results if message.role is Role.TOOL else able
            parts = list(attached_parts([message]))
            await self._load(part.sha256 for part in parts if takes(can, part))
            if can is able:  # of the others one warning was raised for all
                self._tell(parts, model, able, warn)
            self._made.append(replace(message, parts=self._fitted(message.parts, can)) if parts else message)
        return list(self._made)

    def leave_out_of_results(self, messages: Iterable[Message], model: str) -> bool:
        """Leave images of tools out of later requests to the model named `model`, because its server refuses them.

        Returns:
            Whether `messages`, which were sent, have any.
        """
        results = (message for message in messages if message.role is Role.TOOL)
        has_images = any(isinstance(part, ImagePart) for part in attached_parts(results))
        if has_images:
            self._refused_by.add(model)
        return has_images

    async def _load(self, hashes: Iterable[str]) -> None:
        for sha256 in hashes:
            if sha256 in self.held or sha256 in self._lost:
                continue
            try:
                self.held[sha256] = await self.read(sha256)
            except LostContentError as error:
                self._lost[sha256] = str(error)
            except (
                Exception
            ) as error:  # a store may be anybody's plugin; the turn continues without what it cannot read
                self._lost[sha256] = f"cannot be read ({error})"

    def _tell(self, parts: Iterable[AttachedPart], model: str, able: Capabilities, warn: Warn) -> None:
        """Warn once about each attachment that is not sent."""
        for part in parts:
            if not takes(able, part):
                code, why = "attachment_left_out", f"{model} cannot {_VERBS[part.type]} it"
            elif part.sha256 in self._lost:
                code, why = "attachment_lost", f"its content {self._lost[part.sha256]}"
            else:
                continue
            line = f"{label(part)}, attached to this thread, is left out: {why}"
            if line not in self._told:
                self._told.add(line)
                warn(code, line)

    def _fitted(self, parts: tuple[Part, ...], able: Capabilities) -> tuple[Part, ...]:
        return tuple(self._fit(part, able) for part in parts)

    def _fit(self, part: Part, able: Capabilities) -> Part:
        if isinstance(part, ToolResultPart):
            fitted = zip(part.parts, self._fitted(part.parts, able), strict=True)
            return replace(part, parts=tuple(new if new is old else _stripped(new) for old, new in fitted))
        if not isinstance(part, (ImagePart, FilePart)):
            return part
        if not takes(able, part):
            return note_for_model(part, f"this model cannot {_VERBS[part.type]} it")
        if part.sha256 in self._lost:
            return note_for_model(part, "its content is lost")
        return framed(part, self.held[part.sha256]) if is_text(part) else part


def _has_parts(messages: Sequence[Message]) -> bool:
    return next(attached_parts(messages), None) is not None


_VERBS = {"image": "see", "file": "read"}


def _stripped(part: Part) -> Part:
    """Return a text part that took the place of another part, without the blank lines that are for a question."""
    return replace(part, text=part.text.strip()) if isinstance(part, TextPart) else part


class LostContentError(Exception):
    """A content is missing or damaged; the message ends a sentence that begins with it."""


def read_content(store: Store, key: str, sha256: str) -> bytes:
    """Return a content of the thread `key`, checked.

    Raises:
        LostContentError: it is missing or damaged.
        StoreError: the store failed.
    """
    data = store.content(key, sha256)
    if data is None:
        raise LostContentError("is missing from the thread")
    if not is_content(data, sha256):
        raise LostContentError("is damaged: its checksum does not match")
    return data


def is_content(data: bytes, sha256: str) -> bool:
    """Return whether `data` is what was kept by the hash `sha256` (hex)."""
    return hashlib.sha256(data).hexdigest() == sha256


def stored_contents(store: Store, key: str, hashes: Iterable[str]) -> dict[str, bytes]:
    """Return those contents of the thread `key` that the store has, as they are stored."""
    found: dict[str, bytes] = {}
    for sha256 in hashes:
        try:
            data = store.content(key, sha256)
        except StoreError:  # the others may well be readable
            continue
        if data is not None:
            found[sha256] = data
    return found
