"""What a user attaches to a message: recognised by its content, kept by its hash, sent as the model takes it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.events import Attached
from afkcli.core.contract.jsonform import JsonObject, clean_text
from afkcli.core.contract.limits import MB
from afkcli.core.contract.media_types import IMAGES, PDF, TAKEN, TEXT, media_type_of
from afkcli.core.contract.messages import FilePart, ImagePart, Message, Part, Role, TextPart, ToolResultPart
from afkcli.core.contract.protocols import Capabilities
from afkcli.core.contract.structs import FrozenStruct, force_setattr
from afkcli.core.contract.text import in_mb

MAX_BYTES = 20 * MB
"""For one attachment, and for all of one message: in base64 they grow by a third, and the Messages API, the narrowest
of the APIs, takes requests of 32 MB (https://platform.claude.com/docs/en/build-with-claude/vision#general-limits)."""
MAX_TEXT_BYTES = 8 * MB
"""More text than the largest common context (about two million tokens) takes."""
MAX_NAME = 200

AttachedPart = ImagePart | FilePart


class Attachment(FrozenStruct, kw_only=True):
    """Something that goes with a message: an image, a PDF or a text.

    Args:
        data: its bytes.
        name: what the model and the user know it by; a file's name, without folders.
        media_type: what it is, as its content tells; it need not be given.

    Raises:
        UsageError: it is empty, too large, or nothing that a model can be sent; or not of the `media_type` that is
            given.
    """

    data: bytes
    name: str
    media_type: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "name", shown_name(self.name))
        check_size(self.name, len(self.data))
        kind = media_type_of(self.data)
        if kind is None:
            raise UsageError(f"{self.name} cannot be attached: unsupported type; supported: {TAKEN}")
        if kind == TEXT and len(self.data) > MAX_TEXT_BYTES:
            raise UsageError(
                f"{self.name} cannot be attached: it is text of {in_mb(len(self.data))}, and no model takes more than "
                f"{in_mb(MAX_TEXT_BYTES)}"
            )
        if self.media_type and self.media_type != kind:
            raise UsageError(f"{self.name} cannot be attached as {self.media_type}: its content is {kind}")
        force_setattr(self, "media_type", kind)

    def __repr__(self) -> str:
        return f"Attachment(name={self.name!r}, media_type={self.media_type!r})"  # its data may be megabytes

    @property
    def part(self) -> AttachedPart:
        """Its place in a message; a text is a file there, so that a message stays small however often it is stored."""
        kind = ImagePart if self.media_type in IMAGES else FilePart
        digest = hashlib.sha256(self.data).hexdigest()
        return kind(sha256=digest, media_type=self.media_type, size=len(self.data), name=self.name)


def check_size(name: str, size: int) -> None:
    """Raise `UsageError` if something of `size` bytes is not to be attached."""
    if size == 0:
        raise UsageError(f"{name} cannot be attached: it is empty")
    if size > MAX_BYTES:
        raise UsageError(f"{name} cannot be attached: it is larger than {in_mb(MAX_BYTES)}")


def shown_name(name: str) -> str:
    """Return `name` as one line of printable text, cut in its middle where it is long."""
    line = "".join(char if char.isprintable() else "?" for char in clean_text(name)).strip() or "attachment"
    return line if len(line) <= MAX_NAME else f"{line[: MAX_NAME // 2]}…{line[-MAX_NAME // 2 + 1 :]}"


class Asked(FrozenStruct, kw_only=True):
    """The user's message, and the contents that it names by their hash."""

    message: Message
    contents: dict[str, bytes]


def ask(text: str, attachments: Sequence[Attachment]) -> Asked:
    """Return the user's message of a text and what is attached to it.

    What is attached comes before the text, as models read it best
    (https://platform.claude.com/docs/en/build-with-claude/vision).

    Raises:
        UsageError: all of it together is too large.
    """
    total = sum(len(attachment.data) for attachment in attachments)
    if total > MAX_BYTES:
        raise UsageError(
            f"the {len(attachments)} attachments are {in_mb(total)} together, and one message takes "
            f"{in_mb(MAX_BYTES)}; attach some of them to a later message"
        )
    parts = [attachment.part for attachment in attachments]
    return Asked(
        message=Message(role=Role.USER, parts=(*parts, TextPart(text=text))),
        contents={part.sha256: attachment.data for part, attachment in zip(parts, attachments, strict=True)},
    )


def attached_parts(messages: Iterable[Message]) -> Iterator[AttachedPart]:
    """Yield the images and files in `messages`, those in results of tools included."""
    for message in messages:
        if not message.is_text:
            yield from _attached(message.parts)


def _attached(parts: Iterable[Part]) -> Iterator[AttachedPart]:
    for part in parts:
        if isinstance(part, (ImagePart, FilePart)):
            yield part
        elif isinstance(part, ToolResultPart):
            yield from _attached(part.parts)


def as_named(parts: Iterable[AttachedPart]) -> tuple[Attached, ...]:
    """Return images and files as events name them."""
    return tuple(
        Attached(name=part.name, media_type=part.media_type, size=part.size, sha256=part.sha256) for part in parts
    )


def contents_named_in(body: JsonObject) -> dict[str, str]:
    """Return the hashes, each with a name, of the images and files in a record's body; where it has none, none."""
    return {part["sha256"]: _label(part) for part in _forms(body.get("messages")) if isinstance(part["sha256"], str)}


def _forms(messages: Any) -> Iterator[JsonObject]:
    """Yield the JSON forms of the images and files in those of messages, or of parts that hold parts."""
    for form in messages if isinstance(messages, list) else ():
        if isinstance(form, dict):
            if form.get("type") in ("image", "file") and "sha256" in form:
                yield form
            yield from _forms(form.get("parts"))


def _label(part: JsonObject) -> str:
    name = part.get("name")
    return shown_name(name) if isinstance(name, str) and name else f"the {part['type']} {part['sha256'][:12]}"


def label(part: AttachedPart) -> str:
    """Return what a part is called: its name, or else its hash."""
    return shown_name(part.name) if part.name else f"the {part.type} {part.sha256[:12]}"


def takes(model: Capabilities, part: AttachedPart) -> bool:
    """Return whether a model takes an image or a file; if the provider does not know, it does."""
    if isinstance(part, ImagePart):
        return model.images is not False and part.media_type in IMAGES
    return is_text(part) or (model.files is not False and part.media_type == PDF)


def is_text(part: AttachedPart) -> bool:
    """Return whether a part is a text file, which every model can be sent."""
    return isinstance(part, FilePart) and part.media_type.startswith("text/")


def refuse_what_the_model_cannot_take(message: Message, model: str, able: Capabilities) -> None:
    """Raise `UsageError` if something in `message` cannot be sent to the model named `model`."""
    for part in attached_parts([message]):
        if not takes(able, part):
            kinds = [kind for kind, known in (("images", able.images), ("PDF", able.files)) if known is not False]
            raise UsageError(
                f"{label(part)} cannot be attached: it is {part.media_type}, and {model} takes "
                f"{' and '.join(['text', *kinds])} only; choose another model with -m"
            )


def framed(part: AttachedPart, data: bytes) -> TextPart:
    """Return a text file as the model reads it: its name, then its text in a fence that the text does not end."""
    text = data.decode("utf-8-sig", "replace")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    text = text.removesuffix("\n").removesuffix("\r")
    return TextPart(text=f"Attached file: {label(part)}\n{fence}\n{text}\n{fence}\n\n")


def note_for_model(part: AttachedPart, why: str) -> TextPart:
    """Return the note that a model gets in place of an attachment that is not sent."""
    name = f"{part.type} {shown_name(part.name)}" if part.name else _A[part.type]
    return TextPart(text=f"[{name} was attached here; {why}]\n\n")


_A = {"image": "an image", "file": "a file"}
