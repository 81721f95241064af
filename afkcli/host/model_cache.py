"""The lists of models that providers gave, kept in the cache folder, one file for each provider.

What is there may be missing, old or damaged: then there is no list.

Since: 0.2.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from afkcli.core.contract.errors import AfkError
from afkcli.core.contract.jsonform import dumps, loads
from afkcli.core.contract.protocols import ModelInfo
from afkcli.core.contract.structs import FrozenStruct
from afkcli.host.files import make_private_folder, replace_file
from afkcli.host.paths import cache_dir
from afkcli.host.permissions import UnsafeFileError, read_own_file

_MAX_BYTES = 20_000_000
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ModelList(FrozenStruct, kw_only=True):
    """The models of a provider: from which `server`, and when, in seconds since the epoch."""

    provider: str
    server: str
    at: float
    models: tuple[ModelInfo, ...]

    @property
    def age(self) -> float:
        """The seconds since the provider gave it."""
        return max(0.0, time.time() - self.at)


def write_list(found: ModelList, environment: Mapping[str, str]) -> None:
    """Keep a list; `OSError` if it cannot be written, `ConfigError` if there is no place for it."""
    folder = _folder(environment)
    make_private_folder(folder)
    models = [{"id": item.id, "description": item.description, "window": item.context_tokens} for item in found.models]
    text = dumps({"v": 1, "provider": found.provider, "server": found.server, "at": found.at, "models": models})
    replace_file(folder / _file_name(found.provider), [text, "\n"])


def read_list(provider: str, environment: Mapping[str, str]) -> ModelList | None:
    """Return the kept list of a provider, or None."""
    with suppress(AfkError):
        return _read(_folder(environment) / _file_name(provider))
    return None


def read_lists(environment: Mapping[str, str]) -> Iterator[ModelList]:
    """Yield all kept lists, by the names of their files."""
    files: Sequence[Path] = ()
    with suppress(AfkError, OSError):
        files = sorted(_folder(environment).glob("*.json"))
    for file in files:
        found = _read(file)
        if found is not None:
            yield found


def _folder(environment: Mapping[str, str]) -> Path:
    return cache_dir(environment) / "models"


def _file_name(provider: str) -> str:
    """Return the name of a provider's file: a plugin may have any name."""
    if _SAFE.fullmatch(provider):
        return f"{provider}.json"
    return f"{hashlib.sha256(provider.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.json"


def _read(file: Path) -> ModelList | None:
    try:
        kept = loads(read_own_file(file, _MAX_BYTES).decode())
        models = tuple(
            ModelInfo(id=str(item["id"]), description=str(item["description"]), context_tokens=_whole(item["window"]))
            for item in kept["models"]
        )
        return ModelList(
            provider=str(kept["provider"]), server=str(kept["server"]), at=float(kept["at"]), models=models
        )
    except (OSError, UnsafeFileError, ValueError, KeyError, TypeError):
        return None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
