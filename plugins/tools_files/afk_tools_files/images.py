"""Image files, read within bounds. (The process of a search, which has no `afkcli`, does not import this.)"""

from __future__ import annotations

import codecs
import os

from afk_tools_files.inside import Place, RefusedError, Roots
from afk_tools_files.reading import PIECE, Bounds
from afkcli.plugin import Image, image_type_of


def read_image(roots: Roots, place: Place, bounds: Bounds) -> Image | None:
    """Return the image in a file, None if the file has none that models take; text is never an image.

    Raises:
        RefusedError: the file may not be read, or is larger than `max_file_mb`.
    """
    with roots.file(place) as descriptor:
        begun = os.pread(descriptor, PIECE, 0)
        if image_type_of(begun) is None or _may_be_text(begun):
            return None
        size = os.fstat(descriptor).st_size
        if size > bounds.max_file_bytes:
            raise RefusedError(
                f"{place.shown!r} is an image of {size} bytes, and at most {bounds.max_file_bytes} are read"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return Image(file.read(bounds.max_file_bytes), name=place.shown)


def _may_be_text(begun: bytes) -> bool:
    if b"\0" in begun:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begun)
    except UnicodeDecodeError:
        return False
    return True
