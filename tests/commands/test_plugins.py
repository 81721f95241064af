"""`afk plugins`, as a user meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Install, on_terminal
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
        assert row.endswith("ok") or "afk plugins install afk-" in row


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
    from afkcli.loading.entry_points import Distribution

    hanging, fine = tmp_path / "hanging.py", tmp_path / "fine.py"
    hanging.write_text("import time; time.sleep(600)")
    fine.write_text(HOOK + "...")
    plugins = [
        Plugin(id=f"sink.{path.stem}", source=str(path), origin=Distribution(name=path.name), file=path)
        for path in (hanging, fine)
    ]
    before = plugin_check.HANG_SECONDS
    plugin_check.HANG_SECONDS = 8.0  # the other one has a process of its own, which has to start in this time
    try:
        reasons = plugin_check.check_plugins(plugins)
    finally:
        plugin_check.HANG_SECONDS = before
    assert "did not end within 8 s" in str(reasons["sink.hanging"])
    assert reasons["sink.fine"] is None


UNMARKED = [
    "AFK_HOOKS = 1\ndef afk_{kind}(settings): ...",
    "import pluggy\nAFK_HOOKS = 1\n@pluggy.HookimplMarker('other')\ndef afk_{kind}(settings): ...",
    "AFK_HOOKS = 1\nclass afk_{kind}: ...",
    "AFK_HOOKS = 1\nafk_{kind} = 3",
    "from afkcli import hookimpl\nAFK_HOOKS = 1\n@hookimpl\ndef afk_other(settings): ...",
]


@pytest.mark.parametrize("kind", ["provider", "store", "sink", "tools", "command"])
def test_a_hook_without_its_mark_is_named(shell: Shell, install: Install, kind: str) -> None:
    modules = {f"bare{number}": source.format(kind=kind) for number, source in enumerate(UNMARKED)}
    install("bare", {"afk": {f"{kind}.{name}": name for name in modules}}, **modules)
    rows = listed(shell)
    found = {row["check"]: row for row in shell.afk("doctor", "--json").events}
    for name in modules:
        assert rows[f"{kind}.{name}"]["status"] == "broken"
        assert f"has no @hookimpl afk_{kind}" in rows[f"{kind}.{name}"]["reason"]
        assert f"has no @hookimpl afk_{kind}" in found[f"{kind}.{name}"]["detail"]


def test_a_hook_of_a_file_without_its_mark_is_named(shell: Shell) -> None:
    (shell.folder / "bare.py").write_text(UNMARKED[0].format(kind="tools"))
    row = listed(shell, "--plugin", "bare.py")["bare"]
    assert row["status"] == "broken"
    assert "its afk_tools is not marked" in row["reason"]


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("plain.py", b"x = 1\n", "has no AFK_HOOKS"),
        ("empty.py", b"", "has no AFK_HOOKS"),
        ("text.py", b"Dear all, this is a letter.\n", "SyntaxError"),
        ("letter.txt", b"Dear all\n", "its name must end in .py"),
        ("binary.py", bytes(range(256)), "cannot be loaded"),
        ("raises.py", b"raise RuntimeError('one\\ntwo')\n", "RuntimeError"),
        ("ends.py", b"raise SystemExit(0)\n", "SystemExit"),
        ("without.py", b"AFK_HOOKS = 1\n", "has no hook of afk"),
        ("newer.py", b"AFK_HOOKS = 99\n", "needs hook version 99"),
        ("unmarked.py", b"AFK_HOOKS = 1\ndef afk_tools(): return []\n", "its afk_tools is not marked"),
        ("folder.py", None, "not a regular file"),
        ("missing.py", ..., "there is no plugin file"),
    ],
)
@pytest.mark.parametrize("command", [("run", "hi"), ("tools",)], ids=["run", "tools"])
def test_a_named_file_that_is_no_plugin_is_a_wrong_call(
    keyed: Shell, server: Any, command: tuple[str, ...], name: str, source: Any, said: str
) -> None:
    path = keyed.folder / name
    if source is None:
        path.mkdir()
    elif source is not ...:
        path.write_bytes(source)
    first, *rest = command
    done = keyed.in_process(first, "--plugin", name, *rest)
    assert (done.code, done.out) == (2, ""), done.err
    (line,) = done.err.splitlines()
    assert name in line
    assert said in line
    assert server.requests == []


COMMAND = (
    "import click\nfrom afkcli import hookimpl\nAFK_HOOKS = 1\n"
    "@hookimpl\ndef afk_command():\n    return click.Command('both', callback=lambda: click.echo('called'))"
)


def test_a_command_that_two_distributions_claim_is_named_wherever_it_is_met(shell: Shell, install: Install) -> None:
    for name in ("first", "second", "third"):
        install(name, {"afk": {"command.both": f"{name}_both"}}, **{f"{name}_both": COMMAND})
    install("alone", {"afk": {"command.alone": "alone_command"}}, alone_command=COMMAND)
    said = "the plugin name 'command.both' is claimed by first and second and third; uninstall one of them"
    for arguments in (("both",), ("both", "--help"), ("both", "x")):
        done = shell.afk(*arguments)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"afk: {said}\n"
    assert listed(shell)["command.both"]["reason"] == said
    found = {row["check"]: row for row in shell.afk("doctor", "--json").events}
    assert (found["command.both"]["status"], said in found["command.both"]["detail"]) == ("warn", True)
    assert shell.afk("alone").out == "called\n"


def test_a_command_with_the_name_of_one_of_afk_is_named(shell: Shell, install: Install) -> None:
    for name in ("run", "threads", "turn"):  # afk has no command `turn`
        install(name, {"afk": {f"command.{name}": f"a_{name}"}}, **{f"a_{name}": COMMAND})

    rows = listed(shell)

    for name in ("run", "threads"):
        said = f"afk {name} is a command of afk's own, so this one is never called"
        assert (rows[f"command.{name}"]["status"], rows[f"command.{name}"]["reason"]) == ("conflict", said)
    assert rows["command.turn"]["status"] == "ok"


def test_on_a_narrow_terminal_the_list_has_the_names_and_what_is_wrong(shell: Shell) -> None:
    code, seen = on_terminal(shell, "plugins", NO_COLOR="1", columns=40)
    lines = seen.split("\r\n")
    assert code == 0
    assert lines[0].split() == ["ID", "VERSION", "STATUS"]
    assert any(line.split()[::2] == ["provider.openai", "ok"] for line in lines)
    assert max(map(len, lines)) <= 40
