"""What kind of thing some bytes are, decided by the bytes alone: no name and no server is believed."""

from __future__ import annotations

TEXT, PDF = "text/plain", "application/pdf"
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""The images that models take."""

IMAGES_TAKEN = "PNG, JPEG, GIF and WebP images"
TAKEN = f"{IMAGES_TAKEN}, PDF and UTF-8 text"


def media_type_of(data: bytes) -> str | None:
    """Return the media type by the first bytes of `data` (for text: all of them), or None if it is not one of `TAKEN`.

    The signatures are those of https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern and, for PDF, section
    7.5.2 of ISO 32000-2.
    """
    image = image_type_of(data)
    if image is not None:
        return image
    if data.startswith(b"%PDF-"):
        return PDF
    return TEXT if _is_text(data) else None


def image_type_of(data: bytes) -> str | None:
    """Return the media type of an image that models take, by its first bytes; None for anything else. Since: 0.2."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _is_text(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
