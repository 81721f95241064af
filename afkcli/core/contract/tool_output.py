"""What a tool returns: text and images, bounded, in the form in which a thread keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import TypeGuard

from afkcli.core.contract.jsonform import MAX_DEPTH, JsonError, clean_text, dumps
from afkcli.core.contract.media_types import IMAGES_TAKEN, image_type_of
from afkcli.core.contract.messages import ImagePart, TextPart
from afkcli.core.contract.structs import FrozenStruct, field, force_setattr
from afkcli.core.contract.text import one_line

MAX_OUTPUT_CHARS = 100_000
"""The longest text of a tool's output that a model gets; about 25,000 tokens, a fifth of a common context."""

MAX_IMAGES = 20
"""The most images in one result: with more, the Messages API takes only smaller ones
(https://platform.claude.com/docs/en/build-with-claude/vision#general-limits)."""

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""For all images of one result, as for the attachments of one message."""

_TYPE_CHARS = 100
_SLICE = 1 << 16


class Image(FrozenStruct):
    """An image that a tool returns, alone or in a list with text: `return ["the chart", Image(data)]`.

    Args:
        data: the bytes of the image: PNG, JPEG, GIF or WebP. The model gets a note in place of anything else.
        media_type: what the tool says that it is, for that note; what it is, its bytes decide.
        name: a name for people and for the model, such as that of a file.

    Raises:
        TypeError: `data` is not bytes.

    Since: 0.2.
    """

    data: bytes
    media_type: str = ""
    name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.data, (bytes, bytearray, memoryview)):
            raise TypeError(f"the data of an Image must be bytes, not {type(self.data).__name__}")
        force_setattr(self, "data", bytes(self.data))

    def __repr__(self) -> str:
        return f"Image(media_type={self.media_type!r}, name={self.name!r})"  # its data may be megabytes


class ToolOutput(FrozenStruct, kw_only=True):
    """The output of a call: its `parts` for the model, the `contents` of its images by SHA-256, and all of it as text.

    Since: 0.2.
    """

    parts: tuple[TextPart | ImagePart, ...]
    contents: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text, with a mark in the place of each image."""
        return "\n".join(part.text if isinstance(part, TextPart) else image_mark(part) for part in self.parts)

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images, in their order."""
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


NO_OUTPUT = ToolOutput(parts=(TextPart(text=""),))
"""The output of a tool that returned nothing, and of a call that failed."""


def tool_output(value: object) -> ToolOutput:
    """Return the output for what a tool returned: text, an `Image`, a list that has images, or a value as JSON."""
    if isinstance(value, Image):
        value = [value]
    if not _has_images(value):
        return ToolOutput(parts=(TextPart(text=output_text(value)),))
    contents: dict[str, bytes] = {}
    joined = _joined(_taken(value, contents))
    parts = [TextPart(text=piece) if isinstance(piece, str) else piece for piece in joined]
    return ToolOutput(parts=_bounded_parts(parts), contents=contents)


def _has_images(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, (list, tuple)) and any(isinstance(item, Image) for item in value)


def _taken(pieces: Iterable[object], contents: dict[str, bytes]) -> Iterator[str | ImagePart]:
    """Yield texts and images; an image that is not taken becomes a text that says why."""
    count = 0
    for piece in pieces:
        if not isinstance(piece, Image):
            yield output_text(piece)
            continue
        kind = image_type_of(piece.data)
        sha256 = hashlib.sha256(piece.data).hexdigest()
        size = sum(len(data) for data in contents.values()) + (0 if sha256 in contents else len(piece.data))
        if kind is None:
            yield _left_out(piece, f"models take {IMAGES_TAKEN} only")
        elif count >= MAX_IMAGES:
            yield _left_out(piece, f"a result may have {MAX_IMAGES} images")
        elif size > MAX_IMAGE_BYTES:
            yield _left_out(piece, f"the images of a result may have {MAX_IMAGE_BYTES >> 20} MB together")
        else:
            count += 1
            contents[sha256] = piece.data
            name = one_line(str(piece.name))[:_TYPE_CHARS] if piece.name else None
            yield ImagePart(sha256=sha256, media_type=kind, size=len(piece.data), name=name)


def _left_out(image: Image, why: str) -> str:
    told = one_line(str(image.media_type))[:_TYPE_CHARS]
    return f"[image, {f'{told}, ' if told else ''}{len(image.data)} bytes; left out: {why}]"


def image_mark(part: ImagePart) -> str:
    """Return what stands for an image where only text is shown."""
    name = f" {part.name}" if part.name else ""
    return f"[image{name}, {part.media_type}, {part.size} bytes]"


def _joined(pieces: Iterable[str | ImagePart]) -> Iterator[str | ImagePart]:
    """Yield the pieces, texts that follow one another as one."""
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if texts:
            yield "\n".join(texts)
            texts.clear()
        yield piece
    if texts:
        yield "\n".join(texts)


def _bounded_parts(parts: list[TextPart | ImagePart]) -> tuple[TextPart | ImagePart, ...]:
    """Return the parts with their texts cut to `MAX_OUTPUT_CHARS` together, each by the same share."""
    total = sum(len(part.text) for part in parts if isinstance(part, TextPart))
    if total <= MAX_OUTPUT_CHARS:
        return tuple(parts)
    return tuple(
        TextPart(text=bounded(part.text, max(2, len(part.text) * MAX_OUTPUT_CHARS // total)))
        if isinstance(part, TextPart)
        else part
        for part in parts
    )


def output_text(value: object) -> str:
    """Return the return value of a tool as text, cut to `MAX_OUTPUT_CHARS`: text unchanged, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return clean_text(bounded(value))  # cut first: cleaning copies
    if isinstance(value, (bytes, bytearray)) and len(value) > MAX_OUTPUT_CHARS:
        return _bounded_bytes(value)
    shortener = _Shortener()
    value = shortener.short(value)
    try:
        return bounded(dumps(value), removed=shortener.removed)
    except JsonError:
        return clean_text(bounded(_as_text(value), removed=shortener.removed))


class _Shortener:
    """Takes the middle out of the long texts in a value: JSON of them would be in memory several times.

    What is left is longer than the output, so `bounded` takes out the place of the cut. `removed` is how many
    characters of the JSON are gone.
    """

    def __init__(self) -> None:
        self.removed = 0

    def short(self, value: object, depth: int = 0) -> object:
        """Return a value with short texts; the value itself if it has no long one, or is nested too deeply for JSON."""
        if isinstance(value, str):
            return self._short_text(value) if len(value) > 2 * MAX_OUTPUT_CHARS else value
        if depth > MAX_DEPTH:
            return value
        if isinstance(value, dict):
            cut = {key: short for key, item in value.items() if (short := self.short(item, depth + 1)) is not item}
            return {**value, **cut} if cut else value
        if not isinstance(value, (list, tuple)):
            return value
        items = [self.short(item, depth + 1) for item in value]
        return items if any(short is not item for short, item in zip(items, value, strict=True)) else value

    def _short_text(self, text: str) -> str:
        for start in range(MAX_OUTPUT_CHARS, len(text) - MAX_OUTPUT_CHARS, _SLICE):
            piece = text[start : min(start + _SLICE, len(text) - MAX_OUTPUT_CHARS)]
            self.removed += len(encode_basestring(piece)) - 2
        return text[:MAX_OUTPUT_CHARS] + text[-MAX_OUTPUT_CHARS:]


def _bounded_bytes(data: bytes | bytearray) -> str:
    size = MAX_OUTPUT_CHARS // 8  # a byte may be shown as four characters
    cut = len(data) - 2 * size
    return f"{bytes(data[:size])!r}\n[... {cut} bytes were cut out here ...]\n{bytes(data[-size:])!r}"


def _as_text(value: object) -> str:
    try:
        return str(value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply to be shown"


def bounded(text: str, limit: int = MAX_OUTPUT_CHARS, *, removed: int = 0) -> str:
    """Return `text`; if it is longer than `limit` characters, its middle is cut out, with a visible mark.

    Args:
        removed: how many characters of the middle are gone already.
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) + removed - 2 * half} characters were cut out here ...]\n{text[-half:]}"
