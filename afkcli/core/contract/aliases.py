"""Module names of version 0.1: they still work for one release, each with one deprecation line a process.

`afkcli/__init__.py` imports this module when a module of ours is imported that does not exist, so it costs nothing
where no old name is used. The module under an old name holds nothing itself: each attribute is looked up in the modules
that have it now, so classes and functions are the same objects under both names.
"""

from __future__ import annotations

import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

REMOVED_IN = "0.3"


class Moved(NamedTuple):
    """Where the names of an old module are now: `homes` are modules of ours, `public` is what authors import from."""

    homes: tuple[str, ...]
    public: str | None = None


_PLUGIN = "afkcli.plugin"
_CONTRACT = "afkcli.core.contract"
_THREAD = "afkcli.core.thread"
_RUN = "afkcli.core.run"

OLD_MODULES: Mapping[str, Moved] = {
    "afkcli.core.agent": Moved((f"{_CONTRACT}.agent",), "afkcli"),
    "afkcli.core.approvals": Moved((f"{_RUN}.approvals", _CONTRACT)),
    "afkcli.core.attachments": Moved((f"{_THREAD}.attachments",), _PLUGIN),
    "afkcli.core.budgets": Moved((f"{_RUN}.budgets",)),
    "afkcli.core.closing": Moved((f"{_RUN}.closing",)),
    "afkcli.core.contents": Moved((f"{_THREAD}.contents",)),
    "afkcli.core.cost": Moved((f"{_RUN}.cost",)),
    "afkcli.core.errors": Moved((f"{_CONTRACT}.errors",), _PLUGIN),
    "afkcli.core.events": Moved((f"{_CONTRACT}.events",), _PLUGIN),
    "afkcli.core.exchange": Moved((f"{_THREAD}.exchange",)),
    "afkcli.core.handle": Moved((f"{_RUN}.handle",)),
    "afkcli.core.ids": Moved((f"{_CONTRACT}.ids",), _PLUGIN),
    "afkcli.core.jsonform": Moved((f"{_CONTRACT}.jsonform",), _PLUGIN),
    "afkcli.core.limits": Moved((f"{_RUN}.limits",)),
    "afkcli.core.memory": Moved((f"{_THREAD}.memory_store",), "afkcli"),
    "afkcli.core.messages": Moved((f"{_CONTRACT}.messages",), _PLUGIN),
    "afkcli.core.model_call": Moved((f"{_RUN}.model_call",)),
    "afkcli.core.opening": Moved((f"{_RUN}.opening", _THREAD)),
    "afkcli.core.options": Moved((f"{_CONTRACT}.options",)),
    "afkcli.core.protocols": Moved((f"{_CONTRACT}.protocols",), _PLUGIN),
    "afkcli.core.restore": Moved((f"{_THREAD}.restore",)),
    "afkcli.core.result": Moved((f"{_CONTRACT}.result",), _PLUGIN),
    "afkcli.core.resuming": Moved((f"{_THREAD}.resuming",)),
    "afkcli.core.run": Moved((f"{_RUN}.run", _RUN)),
    "afkcli.core.runner": Moved((f"{_RUN}.runner",), "afkcli"),
    "afkcli.core.schemas": Moved((f"{_CONTRACT}.schemas",), _PLUGIN),
    "afkcli.core.sink_thread": Moved((f"{_RUN}.sink_worker",)),
    "afkcli.core.store_thread": Moved((f"{_THREAD}.store_worker",)),
    "afkcli.core.structured": Moved((f"{_RUN}.answer", _CONTRACT), _PLUGIN),
    "afkcli.core.tasks": Moved((f"{_CONTRACT}.tasks",), _PLUGIN),
    "afkcli.core.thread": Moved((f"{_THREAD}.history", _THREAD, _CONTRACT), _PLUGIN),
    "afkcli.core.tool_calls": Moved((f"{_RUN}.tool_calls",)),
    "afkcli.core.tools": Moved((f"{_CONTRACT}.tools",), _PLUGIN),
    "afkcli.core.waiting": Moved((f"{_CONTRACT}.waiting",), _PLUGIN),
    "afkcli.api": Moved(("afkcli.wiring.runner",), "afkcli"),
    "afkcli.attachments": Moved(("afkcli.wiring.attachments",), "afkcli"),
    "afkcli.nondumpable": Moved(("afkcli.host.nondumpable",), _PLUGIN),
    "afkcli.owner": Moved(("afkcli.host.owner",), _PLUGIN),
    "afkcli.paths": Moved(("afkcli.host.paths",), _PLUGIN),
    "afkcli.providers.credentials": Moved((f"{_CONTRACT}.credentials",), _PLUGIN),
    "afkcli.render": Moved(("afkcli.screen.messages", "afkcli.core.contract.text", "afkcli.screen.text"), _PLUGIN),
    "afkcli.settings": Moved(("afkcli.loading.settings", "afkcli.host.secrets")),
}
"""The modules of 0.1 whose place has changed, those that `docs/plugins.md` named and their neighbours."""

_RENAMED = {"SinkThread": "SinkWorker", "StoreThread": "StoreWorker"}
_MISSING = object()
_warned: set[str] = set()


def find_old_module(name: str) -> ModuleSpec | None:
    """Return how to import an old module, or None if `name` was not a module of 0.1 or is there itself."""
    return ModuleSpec(name, _OldModuleLoader()) if name in OLD_MODULES else None


class _OldModuleLoader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        """Give the module its lookup, and warn where it is imported: the frames of importlib do not count."""
        _warn(module.__name__, stacklevel=3)
        module.__getattr__ = _lookup(module.__name__)  # type: ignore[method-assign]


def old_name(package: str, name: str) -> Any:
    """Return a name of the old module whose name is a package now; to be called by the package's `__getattr__`.

    Raises:
        AttributeError: the old module did not have it.
    """
    if _is_dunder(name) or find_spec(f"{package}.{name}") is not None:  # a submodule is imported after this error
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = _lookup(package)(name)
    _warn(package, stacklevel=4)
    return value


def _lookup(old: str) -> Callable[[str], Any]:
    homes = OLD_MODULES[old].homes

    def lookup(name: str) -> Any:
        if name == "__all__":
            return [public for public in vars(import_module(homes[0])) if not public.startswith("_")]
        if not _is_dunder(name):
            for wanted in (name, _RENAMED.get(name, name)):
                for module in _modules(homes):
                    value = getattr(sys.modules.get(module) or import_module(module), wanted, _MISSING)
                    if value is not _MISSING:
                        return value
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    return lookup


def _modules(homes: Sequence[str]) -> Iterator[str]:
    """Yield the modules that may have a name: the homes themselves, then their neighbours in the same packages."""
    yield from (home for home in homes if not _is_package(home))
    for package in dict.fromkeys(home if _is_package(home) else home.rpartition(".")[0] for home in homes):
        for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
            yield module.name


def _is_package(module: str) -> bool:
    return module in (_CONTRACT, _THREAD, _RUN)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _warn(old: str, *, stacklevel: int) -> None:
    if old in _warned:
        return
    _warned.add(old)
    homes, public = OLD_MODULES[old]
    instead = f"import from {public} instead" if public else f"it is internal ({homes[0]}) and has no public name"
    line = f"{old} is deprecated and will be removed in version {REMOVED_IN}: {instead}"
    warnings.warn(line, DeprecationWarning, stacklevel=stacklevel)
