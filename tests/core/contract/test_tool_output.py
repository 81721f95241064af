"""What becomes of what a tool returns: texts, images, and values as JSON, within bounds."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afkcli
from afkcli.core.contract import tool_output as outputs
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.messages import ImagePart, TextPart
from afkcli.core.contract.tool_output import MAX_IMAGE_BYTES, MAX_IMAGES, MAX_OUTPUT_CHARS, Image, bounded, tool_output

PNG = b"\x89PNG\r\n\x1a\n\x00 and so on"
JPEG = b"\xff\xd8\xff\xe0 and so on"
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "attachments.md"


def part(data: bytes, media_type: str, name: str | None = None) -> ImagePart:
    return ImagePart(sha256=hashlib.sha256(data).hexdigest(), media_type=media_type, size=len(data), name=name)


@pytest.mark.parametrize("value", ["text", None, 7, ["a", "b"], {"a": 1}, [], ("a",)])
def test_a_value_without_images_is_one_text(value: Any) -> None:
    [text] = tool_output(value).parts
    assert isinstance(text, TextPart)
    assert tool_output(value).text == text.text
    assert dict(tool_output(value).contents) == {}


@pytest.mark.parametrize(
    "value", [Image(PNG), [Image(PNG)], (Image(PNG),), Image(bytearray(PNG)), Image(memoryview(PNG))]
)
def test_an_image_alone_or_in_a_list_is_a_part_with_its_content(value: Any) -> None:
    output = tool_output(value)
    assert output.parts == (part(PNG, "image/png"),)
    assert dict(output.contents) == {hashlib.sha256(PNG).hexdigest(): PNG}
    assert output.text == f"[image, image/png, {len(PNG)} bytes]"


def test_texts_and_images_keep_their_order_and_neighbouring_texts_are_one() -> None:
    output = tool_output(["one", 2, Image(PNG, name="a.png"), {"three": 3}, Image(JPEG), Image(PNG)])
    assert output.parts == (
        TextPart(text="one\n2"),
        part(PNG, "image/png", "a.png"),
        TextPart(text='{"three":3}'),
        part(JPEG, "image/jpeg"),
        part(PNG, "image/png"),
    )
    assert sorted(output.contents.values()) == sorted([PNG, JPEG])
    assert output.images == tuple(piece for piece in output.parts if isinstance(piece, ImagePart))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"<svg/>", "image/svg+xml"),
        (b"", "image/png"),
        (b"BM and so on", ""),
        (b"%PDF-1.7", "image/png"),
        (b"\x00\x00\x00\x20ftypavif", "image/avif"),
    ],
)
def test_what_models_do_not_take_is_a_note_whatever_the_tool_says(data: bytes, told: str) -> None:
    output = tool_output(Image(data, told))
    shown = f"{told}, " if told else ""
    why = "models take PNG, JPEG, GIF and WebP images only"
    assert output.parts == (TextPart(text=f"[image, {shown}{len(data)} bytes; left out: {why}]"),)
    assert dict(output.contents) == {}


def test_the_bytes_decide_and_not_what_the_tool_says() -> None:
    assert tool_output(Image(JPEG, "image/png")).parts == (part(JPEG, "image/jpeg"),)


def test_no_name_and_no_type_moves_a_terminal() -> None:
    output = tool_output([Image(PNG, name="a\x1b[31m\nb"), Image(b"?", "x\x1b[2J")])
    assert "\x1b" not in output.text
    assert len(output.text.splitlines()) == 2


def test_more_images_than_a_result_may_have_are_notes() -> None:
    output = tool_output([Image(PNG)] * (MAX_IMAGES + 2))
    assert len(output.images) == MAX_IMAGES
    assert output.text.count(f"left out: a result may have {MAX_IMAGES} images") == 2


def test_images_that_are_too_large_together_are_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MAX_IMAGE_BYTES", 1 << 20)
    half = PNG + bytes(600_000)
    output = tool_output([Image(half), Image(half), Image(half + b"1"), Image(PNG)])
    assert [image.size for image in output.images] == [len(half), len(half), len(PNG)]
    assert "left out: the images of a result may have 1 MB together" in output.text


def test_texts_beside_images_are_cut_to_the_limit_together() -> None:
    output = tool_output(["a" * MAX_OUTPUT_CHARS, Image(PNG), "b" * MAX_OUTPUT_CHARS])
    texts = [piece.text for piece in output.parts if isinstance(piece, TextPart)]
    assert all("characters were cut out here" in text for text in texts)
    assert sum(map(len, texts)) < MAX_OUTPUT_CHARS + 200
    assert len(output.images) == 1


def test_data_that_is_not_bytes_is_an_error_of_the_tool() -> None:
    with pytest.raises(TypeError, match="the data of an Image must be bytes, not str"):
        Image("iVBORw0KGgo=")  # type: ignore[arg-type]


def test_is_public() -> None:
    assert afkcli.Image is Image
    assert repr(Image(PNG, "image/png")) == "Image(media_type='image/png', name=None)"


def test_the_limits_are_those_that_are_documented() -> None:
    page = PAGE.read_text()
    assert f"| {MAX_IMAGES} images |" in page
    assert f"| {MAX_IMAGE_BYTES >> 20} MB for all of its images |" in page


SIZE = 8 << 20
LARGE: dict[str, Callable[[], object]] = {
    "a text": lambda: "h" * SIZE,
    "a wide text": lambda: "h" * (SIZE // 4) + "\U0001f600",
    "a list of texts": lambda: [str(number) + "h" * (SIZE // 8) for number in range(8)],
    "a dict with a text": lambda: {"status": "ok", "body": "h" * SIZE},
    "a text deep inside": lambda: {"rows": [{"cells": ("h" * SIZE, 1)}]},
    "bytes": lambda: b"\0" * SIZE,
}


@pytest.mark.parametrize("what", LARGE)
def test_a_large_output_is_cut_without_copies_of_it(what: str) -> None:
    value = LARGE[what]()
    tracemalloc.start()
    text = tool_output(value).text
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(text) < MAX_OUTPUT_CHARS + 100
    assert "were cut out here" in text
    assert peak < SIZE * 3 // 4, "JSON of it takes twice as much as it, or more"


@pytest.mark.parametrize("value", [{"a": ["b" * 1000, (1, None)]}, ["x"] * 10, {"a": {"b": "c"}}])
def test_an_output_without_long_texts_is_its_json(value: object) -> None:
    assert tool_output(value).text == dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {"a": "x" * 300_000},
        ["\n" * 300_000, "\u00e9" * 500_000],
        {"a": ["short", '"' * 250_000], "b": ("y" * 10, "\u2028" * 400_000)},
    ],
)
def test_a_large_output_is_cut_as_its_whole_json_would_be(value: object) -> None:
    assert tool_output(value).text == bounded(dumps(value))
