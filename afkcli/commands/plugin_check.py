"""Imports every plugin module in a process of its own, so that whatever one does when it is imported stops nothing.

The parent asks with `check_plugins`. The child is this module run with the plugins as JSON on stdin; it reports a line
of JSON a plugin on a copy of stdout that the plugins do not know of. A plugin that ends the child, or hangs, is named,
and the others are asked of a new child.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afkcli.core.contract.errors import AfkError
from afkcli.host.search_path import leave_working_folder
from afkcli.loading.discovery import Plugin, Plugins
from afkcli.loading.entry_points import Distribution
from afkcli.loading.plugin_files import PROJECT_IMPORTS

HANG_SECONDS = 30.0


def check_plugins(plugins: Sequence[Plugin]) -> dict[str, str | None]:
    """Return for each plugin's id why its module cannot be used, or None where it can."""
    reasons: dict[str, str | None] = {}
    waiting = list(plugins)
    while waiting:
        reported, ending = _ask(waiting)
        reasons.update(reported)
        waiting = [plugin for plugin in waiting if plugin.id not in reasons]
        if waiting:  # the one that was being imported when the child ended
            reasons[waiting.pop(0).id] = ending
    return reasons


def _ask(plugins: Sequence[Plugin]) -> tuple[dict[str, str | None], str]:
    """Return what a child reports of `plugins`, and how it ended."""
    child = subprocess.Popen(
        # -P: the working directory is not on the path
        [sys.executable, "-P", "-m", "afkcli.commands.plugin_check"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    hung = threading.Event()
    alarm = _alarm(child, hung)
    reported: dict[str, str | None] = {}
    try:
        asked = {"plugins": [_to_json(plugin) for plugin in plugins], "guarded": _guarded()}
        child.stdin.write(json.dumps(asked).encode())
        child.stdin.close()
        for line in child.stdout:
            alarm.cancel()
            reported.update(json.loads(line))
            alarm = _alarm(child, hung)
        code = child.wait()
    finally:
        alarm.cancel()
        child.kill()
        child.wait()
        child.stdout.close()
    how = f"it did not end within {HANG_SECONDS:g} s" if hung.is_set() else f"it ended the process (exit {code})"
    return reported, f"when it is imported, {how}"


def _alarm(child: subprocess.Popen[bytes], hung: threading.Event) -> threading.Timer:
    def end() -> None:
        hung.set()
        child.kill()

    timer = threading.Timer(HANG_SECONDS, end)
    timer.daemon = True
    timer.start()
    return timer


def _to_json(plugin: Plugin) -> dict[str, str | None]:
    return {
        "id": plugin.id,
        "source": plugin.source,
        "distribution": plugin.distribution,
        "file": str(plugin.file) if plugin.file else None,
        # What was read and hashed, not what the file has now.
        "data": None if plugin.data is None else b64encode(plugin.data).decode(),
    }


def _guarded() -> list[tuple[str, dict[str, str], list[str]]]:
    """Return what the plugin files of trusted projects may import, as JSON."""
    return [
        (
            str(config),
            {str(path): b64encode(data).decode() for path, data in modules.items()},
            [str(path) for path in files],
        )
        for config, modules, files in PROJECT_IMPORTS.guarded
    ]


def _report() -> None:
    """Be the child."""
    leave_working_folder()
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with open(0, "rb") as stdin:
        asked = json.load(stdin)
    for config, modules, files in asked["guarded"]:
        found = {Path(path): b64decode(data) for path, data in modules.items()}
        PROJECT_IMPORTS.guard(Path(config), found, [Path(path) for path in files])
    for item in asked["plugins"]:
        report.write(json.dumps({item["id"]: _reason(item)}) + "\n")
        report.flush()
    report.close()
    os._exit(0)  # threads and exit handlers of plugins are not waited for


def _reason(item: dict[str, Any]) -> str | None:
    plugins = Plugins()
    kind, _, name = item["id"].partition(".")
    try:
        if item["file"]:
            plugins.add_file(Path(item["file"]), None if item["data"] is None else b64decode(item["data"]))
        else:
            origin = Distribution(name=item["distribution"])
            plugins.found[item["id"]] = Plugin(id=item["id"], source=item["source"], origin=origin)
        plugins.check_hook(kind, name)
        plugins.settings_type(kind, name)
    except AfkError as error:
        return str(error)
    except KeyboardInterrupt:
        return "it raised KeyboardInterrupt when it was imported"
    return None


if __name__ == "__main__":
    _report()
