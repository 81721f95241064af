"""A worker serves its commands in every locale, also where Python replaces the one that it was given (PEP 538)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.warm.conftest import WarmShell

PLUGIN = """
from afkcli import hookimpl
AFK_HOOKS = 1
AFK_NAME = "locales"

@hookimpl
def afk_tools(settings):
    import os, subprocess, sys
    import locale
    found = {name: os.environ.get(name) for name in ("LANG", "LC_ALL", "LC_CTYPE")}
    given = subprocess.run(["sh", "-c", "echo $LANG,$LC_ALL,$LC_CTYPE"], capture_output=True, text=True).stdout
    print(found, given, locale.setlocale(locale.LC_CTYPE), sys.getfilesystemencoding(), sys.stdout.encoding,
          sys.stdout.errors, file=sys.stderr)
    return []
"""


def pid_of_worker(shell: WarmShell) -> int:
    assert shell.worker is not None
    return shell.worker.pid


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LANG": "C"},
        {"LANG": "xx_YY.UTF-8"},
        {"LC_CTYPE": "C"},
        {"LC_ALL": "C"},
    ],
)
def test_a_run_is_warm_and_has_the_locale_of_a_cold_one(
    fresh: WarmShell, tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANG", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    fresh.env.update(variables)
    plugin = tmp_path / "locales.py"
    plugin.write_text(PLUGIN)
    words = ["run", "-n", "-q", "--no-memory", "--plugin", str(plugin), "--tool", "locales.*", "hi"]
    cold = fresh.afk(*words, AFK_WORKER="off")

    state = fresh.warm_up()
    warm = fresh.warm(lambda: fresh.afk(*words))

    assert "'LC_CTYPE'" in cold.err
    assert (warm.code, warm.out, warm.err) == (cold.code, cold.out, cold.err)
    assert pid_of_worker(fresh) == state.pid


def test_a_locale_that_a_parent_in_python_has_set_is_that_of_the_worker(
    fresh: WarmShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANG", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    state = fresh.warm_up()

    fresh.warm(lambda: fresh.afk("threads", LC_CTYPE="C.UTF-8"))

    assert pid_of_worker(fresh) == state.pid


def test_what_python_says_of_a_locale_that_it_replaces_is_said(
    fresh: WarmShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANG", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    fresh.env.update(PYTHONCOERCECLOCALE="warn")
    cold = fresh.afk("tools", AFK_WORKER="off")
    fresh.warm_up()

    beside = fresh.afk("tools")

    assert "LC_CTYPE" in cold.err
    assert beside == cold
