"""`afk plugins`, as a user meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.commands.conftest import Install
from tests.e2e.shell import Shell

HOOK = "from afkcli import hookimpl\nAFK_HOOKS = 1\n@hookimpl\ndef afk_sink(settings): "


def listed(shell: Shell, *arguments: str) -> dict[str, dict[str, Any]]:
    done = shell.afk("plugins", "--json", *arguments)
    assert done.code == 0, done.err
    return {row["id"]: row for row in done.events}


def test_lists_installed_plugins_and_missing_ones_with_the_command(shell: Shell) -> None:
    out = shell.afk("plugins").out
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert rows["store.disk"].split()[1:] == ["afk-store-disk", "0.1.0", "ok"]
    for row in rows.values():
        assert row.endswith("ok") or "pip install" in row


def test_names_the_fault_of_each_and_continues(shell: Shell, install: Install) -> None:
    install(
        "broken",
        {
            "afk": {
                "sink.missing": "broken_missing",
                "sink.exits": "broken_exits",
                "sink.dies": "broken_dies",
                "sink.prints": "broken_prints",
                "sink.newer": "broken_newer",
                "sink.interrupts": "broken_interrupts",
                "sink.annotated": "broken_annotated",
                "sink.object": "broken_prints:thing",
                "odd.kind": "broken_prints",
            }
        },
        broken_missing="import nowhere_at_all",
        broken_exits="import sys; sys.exit(0)",
        broken_dies="import os; os._exit(7)",
        broken_prints=f"print('{{}}'); import os; os.write(1, b'noise')\n{HOOK} 1 / 0",
        broken_newer="AFK_HOOKS = 99",
        broken_interrupts="raise KeyboardInterrupt",
        broken_annotated=HOOK.replace("settings", "settings: Nowhere") + "...",
    )
    install("first", {"afk": {"sink.both": "a"}, "afk.models": {"q-": "provider.a"}})
    install("second", {"afk": {"sink.both": "b"}, "afk.models": {"q-": "provider.b"}})
    rows = listed(shell)
    said = {id_: f"{row['status']}: {row['reason']}" for id_, row in rows.items()}
    assert "No module named 'nowhere_at_all'" in said["sink.missing"]
    assert "SystemExit: 0" in said["sink.exits"]
    assert "it ended the process (exit 7)" in said["sink.dies"]
    assert said["sink.prints"] == "ok: None"  # it raises in its hook, which is not called here
    assert "needs hook version 99" in said["sink.newer"]
    assert "KeyboardInterrupt" in said["sink.interrupts"]
    assert "Nowhere" in said["sink.annotated"]
    assert "not the name of a module" in said["sink.object"]
    assert "its kind is unknown; the kinds are provider" in said["odd.kind"]
    assert said["sink.both"].startswith("conflict: the plugin name 'sink.both' is claimed by first and second")
    assert said["q-"].startswith("conflict: the model prefix 'q-' is claimed by first and second")
    assert rows["store.disk"]["status"] == "ok"


def test_a_run_continues_beside_broken_plugins_and_names_the_sink_that_fails(keyed: Shell, install: Install) -> None:
    install(
        "bad", {"afk": {"sink.bad": "bad_sink", "store.bad": "bad_store"}}, bad_sink=HOOK + "1 / 0", bad_store="exit()"
    )
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[sinks.bad]\n")
    done = keyed.afk("run", "hi")
    assert (done.code, done.out) == (0, "reply 1: hi\n")
    assert "the sink 'bad' is left out" in done.err
    assert "ZeroDivisionError" in done.err


def test_looks_at_files_too(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(HOOK + "...")
    (shell.folder / "bad.py").write_text("raise SystemExit")
    rows = listed(shell, "--plugin", "mine.py", "--plugin", "bad.py", "--plugin", "none.py")
    assert rows["sink.mine"]["status"] == "ok"
    assert "SystemExit" in rows["bad"]["reason"]
    assert "there is no plugin file" in rows["none"]["reason"]


def test_names_a_foreign_package_afk(shell: Shell, install: Install) -> None:
    install("other-afk", {}, afk="")
    done = shell.afk("plugins")
    assert done.code == 0
    assert "'other-afk' also installs a package `afk`" in done.err


def test_a_hanging_plugin_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    from afkcli.commands import plugin_check
    from afkcli.loading.discovery import Plugin

    hanging, fine = tmp_path / "hanging.py", tmp_path / "fine.py"
    hanging.write_text("import time; time.sleep(600)")
    fine.write_text(HOOK + "...")
    plugins = [
        Plugin(id=f"sink.{path.stem}", source=str(path), distribution="", version="", file=path)
        for path in (hanging, fine)
    ]
    before = plugin_check.HANG_SECONDS
    plugin_check.HANG_SECONDS = 3.0
    try:
        reasons = plugin_check.check_plugins(plugins)
    finally:
        plugin_check.HANG_SECONDS = before
    assert "did not end within 3 s" in str(reasons["sink.hanging"])
    assert reasons["sink.fine"] is None
