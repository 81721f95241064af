"""The receipt of `uv tool install`: what it recorded, as the arguments that ask for the same again.

`uv tool install` makes the environment what its arguments say: what was asked for earlier and is left out is removed.
So adding a plugin is asking for all of it again, and for the plugin too. `uv tool upgrade` then keeps it.

Since: 0.2.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.structs import FrozenStruct
from afkcli.installing.environment import DISTRIBUTION, normalised

_PLAIN_OPTIONS = {
    "index-url": "--index-url",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "no-index": "--no-index",
    "index-strategy": "--index-strategy",
    "keyring-provider": "--keyring-provider",
    "resolution": "--resolution",
    "prerelease": "--prerelease",
    "fork-strategy": "--fork-strategy",
    "exclude-newer": "--exclude-newer",
    "link-mode": "--link-mode",
    "compile-bytecode": "--compile-bytecode",
    "no-sources": "--no-sources",
    "no-build": "--no-build",
    "no-build-package": "--no-build-package",
    "no-build-isolation": "--no-build-isolation",
    "no-binary": "--no-binary",
    "no-binary-package": "--no-binary-package",
    "reinstall": None,
    "upgrade": None,
}
"""The options that a receipt keeps, and how they are given again; None for one that is not repeated."""


class Receipt(FrozenStruct, kw_only=True):
    """What `uv tool install` recorded.

    Args:
        main: afk's own requirement, as an argument.
        others: the other requirements by their normalised names, as arguments of `--with`.
        extras: the extras of afk that were asked for.
        options: the other arguments.
        folder: where its commands are.
    """

    main: tuple[str, ...]
    others: Mapping[str, str]
    extras: tuple[str, ...]
    options: tuple[str, ...]
    folder: Path | None

    def arguments(self, others: Mapping[str, str]) -> list[str]:
        """Return the arguments of `uv tool install` for afk with other requirements than recorded."""
        extra = [word for requirement in others.values() for word in ("--with", requirement)]
        return [*self.options, *self.main, *extra]


def read_receipt(prefix: Path, line: str) -> Receipt:
    """Return the receipt in the environment `prefix`.

    Raises:
        UsageError: it has something that cannot be asked for again; the message has `line`, the command to use.
    """
    try:
        table = tomllib.loads((prefix / "uv-receipt.toml").read_text(encoding="utf-8"))["tool"]
        found = {normalised(item["name"]): item for item in table["requirements"]}
        own = found.pop(DISTRIBUTION)
        main = _editable(own) or (_requirement(own),)
        others = {name: _requirement(item) for name, item in found.items()}
        options = (*_options(table), *(("--python", str(table["python"])) if "python" in table else ()))
        paths = [Path(item["install-path"]) for item in table.get("entrypoints", ()) if item.get("name") == "afk"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"cannot be repeated ({error})"
        raise UsageError(f"what {prefix / 'uv-receipt.toml'} says {what}, so it was not changed; use: {line}") from None
    return Receipt(
        main=main,
        others=others,
        extras=tuple(own.get("extras", ())),
        options=options,
        folder=paths[0].parent if paths else None,
    )


def _editable(item: Mapping[str, Any]) -> tuple[str, ...] | None:
    path = item.get("editable")
    return ("--editable", f"{path}{_extras(item)}") if isinstance(path, str) else None


def _requirement(item: Mapping[str, Any]) -> str:
    """Return a requirement of a receipt in the form that pip and uv take."""
    unknown = set(item) - {"name", "extras", "specifier", "marker", "path", "directory", "url", "git"}
    if unknown:
        raise ValueError(f"a requirement has {', '.join(sorted(unknown))}")
    name = f"{item['name']}{_extras(item)}"
    marker = f" ; {item['marker']}" if "marker" in item else ""
    for key in ("path", "directory"):
        if key in item:
            return f"{name} @ {Path(item[key]).as_uri()}{marker}"
    if "url" in item:
        return f"{name} @ {item['url']}{marker}"
    if "git" in item:
        address = item["git"]
        reference, _, rest = address.partition("?")
        revision = rest.partition("rev=")[2].partition("&")[0].partition("#")[0]
        if rest and not revision:
            raise ValueError("a requirement of git has a branch or a subdirectory")
        return f"{name} @ git+{reference}{f'@{revision}' if revision else ''}{marker}"
    return f"{name}{item.get('specifier', '')}{marker}"


def _extras(item: Mapping[str, Any]) -> str:
    return f"[{','.join(item['extras'])}]" if item.get("extras") else ""


def _options(table: Mapping[str, Any]) -> list[str]:
    unknown = set(table) - {"requirements", "python", "entrypoints", "options"}
    if unknown:
        raise ValueError(f"it has {', '.join(sorted(unknown))}")
    arguments: list[str] = []
    for key, value in table.get("options", {}).items():
        if key == "index":
            arguments += _indexes(value)
        elif key not in _PLAIN_OPTIONS or isinstance(value, dict):
            raise ValueError(f"it has the option {key}")
        else:
            arguments += _option(_PLAIN_OPTIONS[key], value)
    return arguments


def _option(option: str | None, value: Any) -> list[str]:
    if option is None or value is False:
        return []
    if value is True:
        return [option]
    return [word for item in (value if isinstance(value, list) else [value]) for word in (option, str(item))]


def _indexes(indexes: Sequence[Mapping[str, Any]]) -> list[str]:
    arguments = []
    for index in indexes:
        if index.get("explicit") or index.get("format", "simple") != "simple":
            raise ValueError("it has an index of its own kind")
        name = f"{index['name']}=" if "name" in index else ""
        arguments += ["--default-index" if index.get("default") else "--index", f"{name}{index['url']}"]
    return arguments
