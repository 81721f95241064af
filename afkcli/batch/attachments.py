"""What is attached to a prompt: checked when the prompt is read, and read again when it is asked.

Since: 0.2.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from afkcli.batch.rows import RowError, unknown_field
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.wiring.attachments import Attachment

_KINDS = ("path", "url", "data")
_KNOWN = (*_KINDS, "name")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DATA_URL = re.compile(r"data:([^,;]*)(;[^,]*)?,", re.IGNORECASE)


class AttachmentReader:
    """Checks what prompts attach. A file that many prompts name is read once, as long as it is the same file.

    Args:
        folder: the folder to which paths are relative.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, ...], JsonObject]] = {}

    def read(self, value: Any) -> list[JsonObject]:
        """Return the attachments in a field: a path, a URL, a data URL, an object of one of them, or a list of these.

        Raises:
            RowError: it is none of these, or a file cannot be attached. URLs are fetched when the prompt is asked.
        """
        items = value if isinstance(value, list) else [value]
        return [self._item(item) for item in items]

    def of_data(self, data: bytes, name: str) -> JsonObject:
        """Return the attachment of bytes; `RowError` if they are nothing that a model takes."""
        try:
            attachment = Attachment(data=data, name=name)
        except UsageError as error:
            raise RowError(str(error)) from None
        return {"data": base64.b64encode(data).decode(), **_described(attachment)}

    def of_base64(self, text: str, name: str) -> JsonObject:
        """Return the attachment of bytes in base64; raises as `of_data`."""
        try:
            data = base64.b64decode(re.sub(r"\s", "", text), validate=True)
        except (binascii.Error, ValueError):
            raise RowError(f"{name} cannot be attached: it is not base64") from None
        return self.of_data(data, name)

    def _item(self, item: Any) -> JsonObject:
        if isinstance(item, str):
            return self._named(item, None)
        if not isinstance(item, dict):
            raise RowError("an attachment must be a path, a URL, or an object with 'path', 'url' or 'data'")
        for key in item:
            if key not in _KNOWN:
                raise unknown_field(key, _KNOWN, "field of an attachment")
        given = [kind for kind in _KINDS if item.get(kind) is not None]
        name = item.get("name")
        texts = [item[kind] for kind in given] + ([name] if name is not None else [])
        if len(given) != 1 or not all(isinstance(text, str) and text for text in texts):
            raise RowError("an attachment needs one of 'path', 'url' and 'data', as text (and may have a 'name')")
        if given[0] == "data" and not item["data"].startswith("data:"):
            return self.of_base64(item["data"], name or "attachment")
        return self._named(item[given[0]], name)

    def _named(self, text: str, name: str | None) -> JsonObject:
        if text[:5].lower() == "data:":
            return self._of_data_url(text, name or "attachment")
        if _URL.match(text):
            if not text.lower().startswith(("http://", "https://")):
                raise RowError(f"{text[:80]} cannot be attached: it is not an http or https URL")
            return {"url": text} | ({"name": name} if name else {})
        found = self._of_file(text)
        return found | {"name": name} if name else found

    def _of_data_url(self, url: str, name: str) -> JsonObject:
        found = _DATA_URL.match(url)
        if found is None:
            raise RowError(f"{name} cannot be attached: its data URL has no comma")
        content = url[found.end() :]
        if "base64" in (found[2] or "").lower():
            return self.of_base64(content, name)
        return self.of_data(unquote_to_bytes(content), name)

    def _of_file(self, path: str) -> JsonObject:
        if not path.strip():
            raise RowError("an attachment has an empty name; name a file or a URL")
        full = os.path.normpath(self._folder / path)
        mark = _mark(full)
        known = self._known.get(full)
        if known is not None and known[0] == mark:
            return known[1]
        try:
            attachment = Attachment.from_path(full)
        except UsageError as error:
            raise RowError(_relative(str(error))) from None
        form: JsonObject = {"path": full, **_described(attachment)}
        self._known[full] = (mark, form)
        return form


def _described(attachment: Attachment) -> JsonObject:
    part = attachment.part
    return {"name": attachment.name, "media_type": part.media_type, "size": part.size, "sha256": part.sha256}


def _mark(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116  (a path with a NUL byte too)
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _relative(line: str) -> str:
    """Return the error for a file, with where it was looked for."""
    if "No such file" in line:
        return f"{line} (paths are relative to the folder of the prompts)"
    return line


def attachment_of(form: JsonObject) -> Attachment:
    """Return what the form of an attachment in a request names; a URL is fetched.

    Raises:
        UsageError: it cannot be read, or it has changed since its prompt was read.
    """
    if "url" in form:
        found = Attachment.from_url(form["url"])
    elif "data" in form:
        found = Attachment(data=base64.b64decode(form["data"]), name=form["name"])
    else:
        found = Attachment.from_path(form["path"])
        if found.part.sha256 != form.get("sha256"):
            raise UsageError(f"{form['path']} has changed since the batch read it; run the batch again")
    return Attachment(data=found.data, name=form["name"]) if form.get("name", found.name) != found.name else found
