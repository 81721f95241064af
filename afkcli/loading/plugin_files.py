"""Plugin files, run from the bytes that were read, and what the files of a project may import.

Python's own import reads a file again, or the bytecode in a `__pycache__` beside it. So what runs could be other code
than what was read and hashed. Here the bytes themselves are compiled, and nothing is read or written beside the file.

Since: 0.2.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType

from afkcli.host.invocation import process_environment


class BytesLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from bytes; `path` is only its name in tracebacks."""

    def __init__(self, name: str, path: str, data: bytes) -> None:
        super().__init__(name, path)
        self._data = data

    def get_data(self, path: str) -> bytes:
        """Return the bytes of the module, for `inspect.getsource` too."""
        if path != self.path:
            raise OSError(f"{path} is not the file of this module")
        return self._data

    def get_code(self, fullname: str) -> CodeType:
        """Return the bytes compiled; the encoding that they declare counts (PEP 263)."""
        code: CodeType = self.source_to_code(self._data, self.path)
        return code


def spec_of(name: str, path: Path, data: bytes) -> importlib.machinery.ModuleSpec:
    """Return the spec of the module `name` whose source is `data`."""
    spec = importlib.util.spec_from_file_location(name, path, loader=BytesLoader(name, str(path), data))
    assert spec is not None
    spec.cached = None
    return spec


def run_file(name: str, path: Path, data: bytes) -> ModuleType:
    """Return the module `name` that the source `data` makes; it raises what that raises."""
    spec = spec_of(name, path, data)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and annotations look up their module there
    try:
        assert spec.loader is not None
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class ProjectImports:
    """An import hook: from the folder of a trusted project only files that trust binds, and what is installed there.

    A plugin file may put its own folder on `sys.path`. Then whatever is planted in that folder would run, under the
    name of a helper or of any module that is not imported yet.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}
        self._modules: dict[str, tuple[Path, bytes]] = {}
        self._installed: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self.guarded: list[tuple[Path, Mapping[Path, bytes], Sequence[Path]]] = []
        """What `guard` was given, to do the same in a process of ours."""

    def guard(self, config: Path, modules: Mapping[Path, bytes], files: Sequence[Path] = ()) -> None:
        """Guard a project's folder, and the folders of its plugin files, from now on.

        Args:
            config: the project's afk.toml.
            modules: the bytes of the files that may be imported, each under its name without `.py`.
            files: the plugin files of the project.
        """
        with self._lock:
            self.guarded.append((config, modules, files))
            for folder in {config.parent, *(file.parent for file in files)}:
                self._folders |= dict.fromkeys(_places(folder), str(config))
            self._modules |= {path.stem: (path, data) for path, data in modules.items()}
            self._installed = self._installed or _installed_folders()
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return what the other import hooks find, a file that trust binds, what is installed under that name, or None.

        Raises:
            ImportError: only a file is found that trust does not bind.
        """
        found = _found_by_others(self, name, path, target)
        config = self._unbound(found)
        if found is not None and config is None:
            return found
        if name in self._modules:
            return spec_of(name, *self._modules[name])
        if found is None:
            return None
        elsewhere = self._found_elsewhere(name) if path is None else None
        if elsewhere is not None:
            return elsewhere
        raise ImportError(
            f"{found.origin} is not loaded, because trust does not bind it; name it in [plugins] modules of {config} "
            "and run `afk trust`, or install it",
            name=name,
            path=found.origin,
        )

    def _found_elsewhere(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """Return an installed module whose name a file of the project has too, and which that file must not replace."""
        places = [entry for entry in sys.path if not any(_is_below(_places(entry)[1], item) for item in self._folders)]
        found = importlib.machinery.PathFinder.find_spec(name, places)
        return found if found is not None and found.has_location and self._unbound(found) is None else None

    def _unbound(self, spec: importlib.machinery.ModuleSpec | None) -> str | None:
        """Return the afk.toml in whose folder a module was found that is not installed there, or None."""
        if spec is None or not spec.has_location or spec.origin is None or isinstance(spec.loader, BytesLoader):
            return None
        for place in _places(spec.origin):
            for folder, config in self._folders.items():
                if _is_below(place, folder) and not any(_is_below(place, known) for known in self._installed):
                    return config
        return None


PROJECT_IMPORTS = ProjectImports()
"""The one of this process, as `sys.meta_path` is."""


def _found_by_others(
    self: ProjectImports, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        if finder is not self and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
    return None


def _installed_folders() -> tuple[str, ...]:
    """Return the folders of this Python's modules, and those on `sys.path` without those that PYTHONPATH names."""
    named = {_places(entry)[0] for entry in process_environment().get("PYTHONPATH", "").split(os.pathsep)}
    on_path = [entry for entry in sys.path if Path(entry).is_absolute() and entry not in named]
    own = [path for key, path in sysconfig.get_paths().items() if key.endswith(("lib", "stdlib"))]
    return tuple({place for entry in (*own, *on_path) for place in _places(entry)})


def _places(path: str | Path) -> tuple[str, str]:
    """Return an absolute path, as it was written and with its links followed."""
    return str(Path(path).absolute()), os.path.realpath(path)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
