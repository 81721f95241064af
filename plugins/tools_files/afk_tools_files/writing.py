"""Writes a text file completely or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import ExitStack, suppress

from afk_tools_files.inside import Place, RefusedError, Roots, why
from afk_tools_files.reading import Bounds, binary, pieces

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(roots: Roots, place: Place, text: str, bounds: Bounds) -> str:
    """Create the file `place` with `text`, or replace its text; missing folders are created.

    The text goes to a file beside it, which then takes its place (rename(2)), with the mode that it had.

    Raises:
        RefusedError: it may not be written, or the existing file is not one that may be read. Nothing was changed.
    """
    data = _checked(roots, place, text, bounds)
    name, parent = place.parts[-1], _parent(place)
    with roots.folder(parent, create=True) as folder:
        before, _ = _replaced(roots, name, folder, place, bounds)
        try:
            _put(name, folder, data, before)
        except OSError as error:
            raise RefusedError(f"{place.shown!r} was not written: {error.strerror}") from None
    return f"{place.shown}: {len(data)} bytes written, {'replaces the old file' if before else 'a new file'}"


def before_and_after(roots: Roots, place: Place, text: str, bounds: Bounds) -> tuple[bytes | None, bytes]:
    """Return what the file `place` has now (None if there is no file), and what `write` would put in its place.

    Nothing is created. A folder on the way that does not exist yet is made by `write`.

    Raises:
        RefusedError: as `write`.
    """
    data = _checked(roots, place, text, bounds)
    at = Place(root=place.root, parts=(), first=place.first)
    with ExitStack() as opened:
        folder = opened.enter_context(roots.folder(at))
        for name in place.parts[:-1]:
            at = at.below(name)
            try:
                os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None, data
            except OSError as error:
                raise RefusedError(why(error, at)) from None
            folder = opened.enter_context(roots.folder(at))
        return _replaced(roots, place.parts[-1], folder, place, bounds)[1], data


def _checked(roots: Roots, place: Place, text: str, bounds: Bounds) -> bytes:
    """Return the bytes of a text that may be written to `place`."""
    data = text.encode(errors="replace")
    if "\0" in text:
        raise RefusedError("the text has a NUL character; only text files are written")
    if len(data) > bounds.max_file_bytes:
        raise RefusedError(f"the text has {len(data)} bytes; at most {bounds.max_file_bytes} are written")
    if not place.parts:
        raise RefusedError(f"{place.shown!r} is a folder")
    roots.check_path(place)
    return data


def _parent(place: Place) -> Place:
    return Place(root=place.root, parts=place.parts[:-1], first=place.first)


_Replaced = tuple[os.stat_result | None, bytes | None]


def _replaced(roots: Roots, name: str, folder: int, place: Place, bounds: Bounds) -> _Replaced:
    """Return the status and the bytes of the file to replace, or None and None if there is no file."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise RefusedError(why(error, place)) from None
    descriptor = roots.open_file(name, folder, place)
    try:
        status = os.fstat(descriptor)
        if status.st_nlink > 1:
            raise RefusedError(f"{place.shown!r} has another name elsewhere (a hard link); it is not replaced")
        if status.st_uid != os.geteuid():
            raise RefusedError(f"{place.shown!r} belongs to another user; it is not replaced")
        if status.st_size > bounds.max_file_bytes:
            raise RefusedError(f"{place.shown!r} has more than {bounds.max_file_bytes} bytes; it is not replaced")
        try:
            data = b"".join(pieces(descriptor, place))
            data.decode()
        except UnicodeDecodeError:
            raise binary(place, status.st_size) from None
    finally:
        os.close(descriptor)
    if not status.st_mode & stat.S_IWUSR:
        raise RefusedError(f"{place.shown!r} may not be written: its mode is {stat.S_IMODE(status.st_mode):04o}")
    return status, data


def _put(name: str, folder: int, data: bytes, before: os.stat_result | None) -> None:
    """Write `data` beside `name`, then rename; `OSError` if that fails, and then nothing was changed."""
    beside = f".afk-{secrets.token_hex(8)}.tmp"
    descriptor = os.open(beside, _NEW, 0o666 if before is None else 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if before is not None:
                _take_over(file.fileno(), before)
            os.fsync(file.fileno())
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise
    _sync(folder)


def _take_over(descriptor: int, before: os.stat_result) -> None:
    """Give a file the mode of the one that it replaces, and its group if that is allowed."""
    if os.fstat(descriptor).st_gid != before.st_gid:
        with suppress(OSError):
            os.fchown(descriptor, -1, before.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777)


def _sync(folder: int) -> None:
    """Make the new name durable if the file system can."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(readable)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(readable)
