"""The keys file: keys by name, in one file that only the user can read.

Since: 0.2.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from afkcli.core.contract.errors import ConfigError
from afkcli.host.paths import config_dir
from afkcli.host.permissions import UnsafeFileError, others_can_change, read_file_once

KEYS_FILE = "keys.json"
MAX_KEY_CHARS = 64_000
_MAX_BYTES = 10_000_000
_LOCK_SECONDS = 10.0
_LOCK_POLL_SECONDS = 0.05


def keys_file(environment: Mapping[str, str] | None = None) -> Path:
    """Return the path of the keys file, in the folder of the user's config."""
    return config_dir(environment) / KEYS_FILE


def read_keys(path: Path) -> dict[str, str]:
    """Return the keys by name; none where there is no file.

    Raises:
        ConfigError: the file is a link, another user owns it, others can read or change it (the message has the command
            that mends it), it cannot be read, or it is damaged.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"the keys file {path} cannot be read: {error.strerror}") from None
    if stat.S_ISLNK(status.st_mode):
        target = shlex.quote(os.path.realpath(path))
        raise ConfigError(f"the keys file {path} is not used: it is a link; mend it with: mv {target} {_quoted(path)}")
    try:
        data, _ = read_file_once(path, _MAX_BYTES, lambda opened: _refused(path, opened))
    except UnsafeFileError as error:
        raise ConfigError(f"the keys file {path} is not used: {error}") from None
    except OSError as error:
        raise ConfigError(f"the keys file {path} cannot be read: {error.strerror}") from None
    return _parsed(data, path)


@contextlib.contextmanager
def changed_keys(path: Path) -> Iterator[dict[str, str]]:
    """Give the keys to be changed; they are written at the end of the block, unless it raises.

    A second writer waits. A reader sees the old keys or the new ones, and so does who comes after a power loss.

    Raises:
        ConfigError: as `read_keys`, the file cannot be written, or another process keeps writing it.
    """
    from afkcli.core.contract.jsonform import dumps
    from afkcli.host.files import make_private_folder, replace_file

    try:
        make_private_folder(path.parent)
        with _locked(path.with_name("keys.lock"), path):
            for leftover in path.parent.glob(f"{KEYS_FILE}.*.new"):  # of a process that was killed while it wrote
                leftover.unlink(missing_ok=True)
            keys = read_keys(path)
            before = dict(keys)
            yield keys
            if keys != before:
                replace_file(path, [dumps(keys), "\n"])
    except OSError as error:
        raise ConfigError(f"the keys file {path} cannot be written: {error.strerror}; nothing was changed") from None


@contextlib.contextmanager
def _locked(lock: Path, path: Path) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(lock, flags, 0o600)
    try:
        until = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() > until:
                raise ConfigError(
                    f"another process is changing the keys file {path}; nothing was changed; run the command again"
                )
            time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)  # the lock ends with it


def _try_lock(descriptor: int) -> bool:
    """Return whether the lock is ours now; a platform or a file system without locks keeps no writer waiting."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _refused(path: Path, status: os.stat_result) -> str | None:
    """Return why the open keys file is not used, with the command that mends it, or None."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid != os.geteuid():
        return f"another user owns it; make it yours with: chown {os.geteuid()} {_quoted(path)}"
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"others than you can read or change it; mend it with: chmod 600 {_quoted(path)}"
    return others_can_change(path, status)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _parsed(data: bytes, path: Path) -> dict[str, str]:
    from afkcli.core.contract.jsonform import loads

    try:
        keys = loads(data.decode("utf-8-sig")) if data.strip() else {}
    except ValueError:
        keys = None
    if not isinstance(keys, dict) or not all(isinstance(value, str) for value in keys.values()):
        raise ConfigError(
            f"the keys file {path} is damaged: it is not a JSON object of names and keys; "
            "mend it, or delete it and set the keys again with `afk keys set`"
        )
    return {name: str(value) for name, value in keys.items()}


def checked_key(text: str) -> tuple[str, bool]:
    """Return a key without the blanks around it, and whether there were some besides the end of the line.

    Args:
        text: what was typed, pasted or piped in.

    Raises:
        ValueError: it is no key; the message says why, without it.
    """
    text = text.removeprefix("\ufeff")
    line = text.removesuffix("\n").removesuffix("\r")
    key = line.strip()
    if not key:
        raise ValueError("it is empty")
    if len(key.splitlines()) > 1:
        raise ValueError("it has more than one line, and a key is one line")
    if len(key) > MAX_KEY_CHARS:
        raise ValueError(f"it has {len(key)} characters, more than any key")
    if not key.isprintable():
        raise ValueError("it holds control characters")
    if not key.isascii():
        raise ValueError("it holds a character that a key cannot have")
    from afkcli.core.contract.references import is_reference

    if is_reference(key):
        raise ValueError("it is the name of a variable, not its value; only the config takes ${NAME}")
    return key, key != line
