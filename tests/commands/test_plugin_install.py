"""`afk plugins install` and `uninstall`, in real environments of pip, uv, uv tool and pipx, without a network."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from afkcli.core.contract.errors import UsageError
from afkcli.installing.environment import find_environment
from tests.docs.pages import REPOSITORY, blocks
from tests.e2e.shell import LIMIT
from tests.wheelhouse import afk_wheel, installed_wheel, make_wheel, needed_by

HOOK = "from afkcli import hookimpl\nAFK_HOOKS = 1\n@hookimpl\ndef afk_{}(settings): return []\n"
GROWN = {"afk": {"tools.grown": "afk_tools_grown"}}
BIN = "Scripts" if os.name == "nt" else "bin"


class World:
    """A folder of wheels, the variables that have installers use it, and environments with afk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.empty = folder / "empty"
        for path in (self.wheels, self.empty):
            path.mkdir()
        for name in needed_by("afkcli"):
            installed_wheel(self.wheels, name)
        afk_wheel(self.wheels)
        self.variables = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(folder / "home"),
            "AFK_HOME": str(folder / "afk"),
            "AFK_WORKER": "off",
            "UV_CACHE_DIR": str(folder / "cache"),
            "UV_FIND_LINKS": str(self.wheels),
            "UV_NO_INDEX": "1",
            "UV_OFFLINE": "1",
            "UV_NO_CONFIG": "1",
            "UV_TOOL_DIR": str(folder / "tools"),
            "UV_TOOL_BIN_DIR": str(folder / "tool-bin"),
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIPX_HOME": str(folder / "pipx"),
            "PIPX_BIN_DIR": str(folder / "pipx-bin"),
            "PIPX_DEFAULT_BACKEND": "uv",
        }
        self.plugin("demo", requires=["afkcli>=0.1", "demo-lib"], headers=["Summary: Shows how", "License: MIT"])
        make_wheel(self.wheels, "demo-lib", files={"demo_lib.py": ""})

    def plugin(self, name: str, version: str = "1.0", **more: Any) -> Path:
        """Write a wheel of a plugin with tools."""
        more.setdefault("files", {f"afk_tools_{name}.py": HOOK.format("tools")})
        more.setdefault("points", {"afk": {f"tools.{name}": f"afk_tools_{name}"}})
        return make_wheel(self.wheels, f"afk-tools-{name}", version, **more)

    def run(self, *command: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)),
            cwd=cwd or self.empty,
            env={**self.variables, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def made(self, *command: str | Path, **env: str) -> None:
        done = self.run(*command, **env)
        assert done.returncode == 0, done.stderr[-2000:]

    def uv_environment(self, path: Path) -> Path:
        """Make a virtual environment with afk by uv, and return its afk."""
        self.made("uv", "venv", "-q", "--python", sys.executable, path)
        self.made("uv", "pip", "install", "-q", "--python", path / BIN / "python", "afkcli")
        return path / BIN / "afk"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("installing"))


@pytest.fixture(scope="session")
def by_pip(world: World) -> Path:
    path = world.folder / "by-pip"
    world.made(sys.executable, "-m", "venv", path)
    world.made(path / BIN / "python", "-m", "pip", "install", "-q", "--no-compile", "afkcli")
    return path / BIN / "afk"


@pytest.fixture(scope="session")
def by_uv(world: World) -> Path:
    return world.uv_environment(world.folder / "by-uv")


@pytest.fixture(scope="session")
def by_uv_tool(world: World) -> Path:
    world.made("uv", "tool", "install", "-q", "--python", sys.executable, "afkcli")
    return world.folder / "tool-bin" / "afk"


@pytest.fixture(scope="session")
def by_pipx(world: World) -> Path:
    world.made("pipx", "install", "--python", sys.executable, "afkcli")
    return world.folder / "pipx-bin" / "afk"


@pytest.fixture(params=["pip", "uv", "uv_tool", "pipx"])
def afk(request: pytest.FixtureRequest) -> Path:
    """The afk of each kind of environment."""
    found: Path = request.getfixturevalue(f"by_{request.param}")
    return found


def versions(afk: Path) -> dict[str, str]:
    """Return what is installed in an environment."""
    stems = [info.name.removesuffix(".dist-info") for info in packages(afk).glob("*.dist-info")]
    return {name.replace("_", "-"): version for name, _, version in (stem.partition("-") for stem in stems)}


def packages(afk: Path) -> Path:
    """Return the folder of packages of an environment."""
    return next(afk.resolve().parent.parent.glob("lib/*/site-packages"))


def newer_sdist(world: World, name: str) -> Path:
    """Write an sdist of version 2.0, and return the file that the code which would build it writes."""
    built = world.folder / f"{name}-was-built"
    stem = f"{name.replace('-', '_')}-2.0"
    content = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "build"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "2.0"\n',
        "build.py": f"open({str(built)!r}, 'w').close()\n",
    }
    with tarfile.open(world.wheels / f"{stem}.tar.gz", "w:gz") as archive:
        for file, text in content.items():
            info = tarfile.TarInfo(f"{stem}/{file}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return built


class TestEachEnvironment:
    def test_builds_no_newer_sdist_of_a_plugin_and_of_what_it_needs(self, world: World, afk: Path) -> None:
        world.plugin("built", requires=["built-lib"])
        make_wheel(world.wheels, "built-lib", files={"built_lib.py": ""})
        built = [newer_sdist(world, name) for name in ("afk-tools-built", "built-lib")]
        done = world.run(afk, "plugins", "install", "afk-tools-built", "--yes")

        assert not any(file.exists() for file in built)
        assert done.returncode == 0, done.stderr
        now = versions(afk)
        assert (now["afk-tools-built"], now["built-lib"]) == ("1.0", "1.0")
        assert world.run(afk, "plugins", "uninstall", "afk-tools-built", "--yes").returncode == 0

    def test_gets_the_plugin_that_was_shown_and_loses_it_again(self, world: World, afk: Path) -> None:
        before = versions(afk)
        done = world.run(afk, "plugins", "install", "afk-tools-demo", "--yes")
        assert done.returncode == 0, done.stderr
        for said in ("afk-tools-demo 1.0", "Shows how", "licence: MIT", "plugins: tools.demo"):
            assert said in done.stderr
        assert "needs: afkcli>=0.1, demo-lib" in done.stderr
        assert "also installs: demo-lib 1.0" in done.stderr
        assert done.stdout.split() == ["tools.demo", "afk-tools-demo", "1.0", "ok"]
        assert versions(afk) == {**before, "afk-tools-demo": "1.0", "demo-lib": "1.0"}

        again = world.run(afk, "plugins", "install", "afk-tools-demo", "--yes")
        assert again.returncode == 0
        assert "1.0 is installed already" in again.stderr

        gone = world.run(afk, "plugins", "uninstall", "afk-tools-demo", "--yes")
        assert gone.returncode == 0, gone.stderr
        assert "its settings in the config and what it stored are left as they are" in gone.stderr
        assert "afk-tools-demo" not in versions(afk)

    def test_is_as_it_was_after_a_dry_run_and_without_an_answer(self, world: World, afk: Path) -> None:
        before = versions(afk)
        dry = world.run(afk, "plugins", "install", "afk-tools-demo", "--dry-run")
        assert (dry.returncode, dry.stdout) == (0, "")
        assert "nothing was installed: --dry-run" in dry.stderr
        asked = world.run(afk, "plugins", "install", "afk-tools-demo")
        assert asked.returncode == 2
        assert "needs a terminal; use --yes" in asked.stderr
        assert versions(afk) == before

    def test_keeps_what_afk_needs(self, world: World, afk: Path) -> None:
        world.plugin("greedy", requires=["click<8"])
        make_wheel(world.wheels, "click", "7.0", files={"click/__init__.py": ""})
        before = versions(afk)
        done = world.run(afk, "plugins", "install", "afk-tools-greedy", "--yes")

        assert done.returncode == 1
        assert "click" in done.stderr
        assert versions(afk) == before

    def test_refuses_sdists_of_the_plugin_and_of_what_it_needs(self, world: World, afk: Path) -> None:
        shutil.copy(sdist(world, "afk-tools-source"), world.wheels)
        shutil.copy(sdist(world, "source-lib"), world.wheels)
        world.plugin("sourced", requires=["source-lib"])
        before = versions(afk)
        own = world.run(afk, "plugins", "install", "afk-tools-source", "--yes")
        needed = world.run(afk, "plugins", "install", "afk-tools-sourced", "--yes")

        assert own.returncode == needed.returncode == 1
        assert "(sdists are not taken, because building one runs its code)" in own.stderr
        assert "source-lib" in needed.stderr.replace("_", "-")
        assert versions(afk) == before
        assert not (world.folder / "built").exists()


def sdist(world: World, name: str) -> Path:
    """Write an sdist that leaves a file behind when it is built."""
    stem = f"{name.replace('-', '_')}-1.0"
    folder = world.folder / "sources" / stem
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "setup.py").write_text(
        f"from pathlib import Path\nPath({str(world.folder / 'built')!r}).touch()\n"
        f"from setuptools import setup\nsetup(name={name!r}, version='1.0')\n"
    )
    (folder / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    made = shutil.make_archive(str(world.folder / stem), "gztar", folder.parent, stem)
    return Path(made)


class TestTools:
    def test_uv_tool_records_what_was_added_beside_what_was(self, world: World, by_uv_tool: Path) -> None:
        world.plugin("second")
        for name in ("afk-tools-demo", "afk-tools-second"):
            done = world.run(by_uv_tool, "plugins", "install", name, "--yes")
            assert done.returncode == 0, done.stderr
        receipt = tomllib.loads((world.folder / "tools" / "afkcli" / "uv-receipt.toml").read_text())
        assert [item["name"] for item in receipt["tool"]["requirements"]] == [
            "afkcli",
            "afk-tools-demo",
            "afk-tools-second",
        ]
        assert world.run("uv", "tool", "upgrade", "afkcli").returncode == 0
        assert {"afk-tools-demo", "afk-tools-second"} <= set(versions(by_uv_tool))
        for name in ("afk-tools-demo", "afk-tools-second"):
            world.run(by_uv_tool, "plugins", "uninstall", name, "--yes")
        assert "afk-tools-demo" not in versions(by_uv_tool)

    def test_uv_tool_keeps_the_version_of_afk_and_how_it_was_asked_for(self, world: World, tmp_path: Path) -> None:
        env = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
        newer = tmp_path / "newer"
        newer.mkdir()
        more = ("--find-links", world.wheels, "--find-links", newer, "--prerelease", "allow")
        make_wheel(newer, "afk-sink-jsonl", points={"afk": {"sink.jsonl": "x"}})
        world.made("uv", "tool", "install", "-q", "--python", sys.executable, *more, "afkcli[jsonl]<9", **env)
        before = tomllib.loads((tmp_path / "tools" / "afkcli" / "uv-receipt.toml").read_text())["tool"]
        afk_wheel(newer, "8.0")
        done = world.run(tmp_path / "bin" / "afk", "plugins", "install", "afk-tools-demo", "--yes")
        assert done.returncode == 0, done.stderr
        after = tomllib.loads((tmp_path / "tools" / "afkcli" / "uv-receipt.toml").read_text())["tool"]

        assert after["requirements"] == [*before["requirements"], {"name": "afk-tools-demo"}]
        no_sdists = {"no-build-package": ["afk-tools-demo", "demo-lib"]}  # so that no upgrade builds one
        assert after["options"] == {**before["options"], **no_sdists}
        assert after["python"] == before["python"]
        assert world.run(tmp_path / "bin" / "afk", "--version").stdout != "afk 8.0\n"
        extra = world.run(tmp_path / "bin" / "afk", "plugins", "uninstall", "afk-sink-jsonl", "--yes")
        assert extra.returncode == 1
        assert "it came with afkcli[jsonl]" in extra.stderr

    def test_pipx_records_what_was_injected(self, world: World, by_pipx: Path) -> None:
        assert world.run(by_pipx, "plugins", "install", "afk-tools-demo", "--yes").returncode == 0
        metadata = json.loads((world.folder / "pipx" / "venvs" / "afkcli" / "pipx_metadata.json").read_text())
        assert metadata["injected_packages"]["afk-tools-demo"]["package_or_url"] == "afk-tools-demo"
        assert metadata["injected_packages"]["afk-tools-demo"]["pip_args"] == ["--only-binary=:all:"]
        world.run(by_pipx, "plugins", "uninstall", "afk-tools-demo", "--yes")

    def test_pipx_finds_its_environment_wherever_the_variables_point(self, world: World, by_pipx: Path) -> None:
        done = world.run(by_pipx, "plugins", "install", "afk-tools-demo", "--yes", PIPX_HOME=str(world.empty))
        assert done.returncode == 0, done.stderr
        world.run(by_pipx, "plugins", "uninstall", "afk-tools-demo", "--yes")

    @pytest.mark.parametrize("kind", ["uv_tool", "pipx"])
    def test_a_tool_that_is_not_on_the_path_is_named_with_the_line(
        self, request: pytest.FixtureRequest, world: World, kind: str
    ) -> None:
        afk = request.getfixturevalue(f"by_{kind}")
        done = world.run(afk, "plugins", "install", "afk-tools-demo", "--yes", PATH=str(world.empty))
        lines = {
            "uv_tool": "uv tool install afkcli --with afk-tools-demo",
            "pipx": "pipx inject afkcli afk-tools-demo",
        }

        assert done.returncode == 2
        assert f"is not on the PATH; add it, or use: {lines[kind]}" in done.stderr

    def test_pip_installs_here_wherever_the_variables_point(self, world: World, by_pip: Path, tmp_path: Path) -> None:
        (tmp_path / "pip").mkdir()
        (tmp_path / "pip" / "__main__.py").write_text("raise SystemExit('the pip of the working folder')")
        elsewhere = {"PIP_TARGET": str(tmp_path / "target"), "PIP_NO_DEPS": "1"}
        done = world.run(by_pip, "plugins", "install", "afk-tools-demo", "--yes", cwd=tmp_path, **elsewhere)

        assert done.returncode == 0, done.stderr
        assert versions(by_pip)["demo-lib"] == "1.0"
        assert not (tmp_path / "target").exists()
        world.run(by_pip, "plugins", "uninstall", "afk-tools-demo", "--yes")


class TestShown:
    @pytest.mark.parametrize("kind", ["uv", "uv_tool", "pipx"])
    def test_a_newer_wheel_is_an_upgrade(self, request: pytest.FixtureRequest, world: World, kind: str) -> None:
        afk, name = request.getfixturevalue(f"by_{kind}"), f"grown-{kind.replace('_', '-')}"
        world.plugin(name, files={"afk_tools_grown.py": HOOK.format("tools")}, points=GROWN)
        assert world.run(afk, "plugins", "install", f"afk-tools-{name}", "--yes").returncode == 0
        world.plugin(name, "1.1", files={"afk_tools_grown.py": HOOK.format("tools")}, points=GROWN)
        done = world.run(afk, "plugins", "install", f"afk-tools-{name}", "--yes")

        assert done.returncode == 0, done.stderr
        assert f"afk-tools-{name} 1.1 (installed: 1.0)" in done.stderr
        assert versions(afk)[f"afk-tools-{name}"] == "1.1"
        assert world.run(afk, "plugins", "uninstall", f"afk-tools-{name}", "--yes").returncode == 0

    def test_a_file_of_a_wheel_is_installed(self, world: World, by_uv: Path, by_pip: Path, tmp_path: Path) -> None:
        wheel = make_wheel(
            tmp_path,
            "afk-tools-filed",
            files={"afk_tools_filed.py": HOOK.format("tools")},
            points={"afk": {"tools.filed": "afk_tools_filed"}},
        )
        for afk in (by_uv, by_pip):
            done = world.run(afk, "plugins", "install", f"./{wheel.name}", "--yes", "--json", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)
            assert (said["done"], said["status"]) == (True, {"tools.filed": "ok"})
            assert (said["name"], said["version"], said["plugins"]) == ("afk-tools-filed", "1.0", ["tools.filed"])

    def test_what_would_hide_or_run_by_itself_is_shown(self, world: World, by_uv: Path) -> None:
        world.plugin(
            "odd",
            files={
                "afk_tools_odd.py": "",
                "odd.pth": "import os",
                "afk_tools_odd-1.0.data/platlib/side.pth": "import os",
                "afk_tools_odd-1.0.data/scripts/own": "#!python",
                "sitecustomize.py": "",
                "click/extra.py": "",
                "click/core.py": "",
            },
            points={
                "afk": {"tools.odd": "afk_tools_odd", "command.run": "afk_tools_odd", "planet.odd": "afk_tools_odd"},
                "afk.models": {"odd-": "provider.odd"},
                "console_scripts": {"odd": "afk_tools_odd:main"},
            },
        )
        done = world.run(by_uv, "plugins", "install", "afk-tools-odd", "--dry-run", "--json")
        (said,) = map(json.loads, done.stdout.splitlines())

        assert "odd.pth may run code at each start of Python" in " ".join(said["warnings"])
        assert "side.pth may run code at each start of Python" in " ".join(said["warnings"])
        assert "sitecustomize.py may run code at each start of Python" in " ".join(said["warnings"])
        assert said["scripts"] == ["odd", "own"]
        assert "it overwrites click/core.py of what is installed" in " ".join(said["warnings"])
        assert "afk run is a command of afk's own, so command.run is never called" in said["warnings"]
        assert "planet.odd is of a kind that this afk does not know" in " ".join(said["warnings"])
        assert "models that begin with: odd-" in done.stderr
        assert "commands of the shell: odd, own" in done.stderr

    def test_a_plugin_of_the_same_name_is_named(self, world: World, by_uv: Path) -> None:
        world.plugin("shared")
        world.plugin("rival", points={"afk": {"tools.shared": "afk_tools_rival"}})
        assert world.run(by_uv, "plugins", "install", "afk-tools-shared", "--yes").returncode == 0
        dry = world.run(by_uv, "plugins", "install", "afk-tools-rival", "--dry-run")
        done = world.run(by_uv, "plugins", "install", "afk-tools-rival", "--yes")

        assert "warning: afk-tools-shared has tools.shared too: then neither of the two is used" in dry.stderr
        assert done.returncode == 1
        assert "conflict" in done.stdout
        assert world.run(by_uv, "plugins", "uninstall", "afk-tools-rival", "--yes").returncode == 0
        assert "ok" in world.run(by_uv, "plugins").stdout.split("tools.shared", 1)[1].splitlines()[0]

    def test_a_plugin_that_cannot_be_imported_is_named_and_the_exit_code_is_1(self, world: World, by_uv: Path) -> None:
        world.plugin("broken", files={"afk_tools_broken.py": "raise RuntimeError('no luck')"})
        done = world.run(by_uv, "plugins", "install", "afk-tools-broken", "--yes")

        assert done.returncode == 1
        assert "broken: " in done.stdout
        assert "no luck" in done.stdout
        world.run(by_uv, "plugins", "uninstall", "afk-tools-broken", "--yes")

    def test_escape_sequences_of_a_wheel_do_not_reach_the_terminal(self, world: World, by_uv: Path) -> None:
        world.plugin("loud", headers=["Summary: \x1b[2J\x1b]0;owned\x07 \u202ehidden"])
        done = world.run(by_uv, "plugins", "install", "afk-tools-loud", "--dry-run")

        assert "\x1b" not in done.stderr
        assert "\u202e" not in done.stderr

    def test_asks_on_a_terminal(self, world: World, by_uv: Path) -> None:
        answers = {b"n\n": 2, b"y\n": 0}
        for typed, wanted in answers.items():
            code, seen = at_terminal(world, by_uv, typed)
            assert code == wanted, seen
            assert "Install afk-tools-demo 1.0?" in seen
        world.run(by_uv, "plugins", "uninstall", "afk-tools-demo", "--yes")


def at_terminal(world: World, afk: Path, typed: bytes) -> tuple[int, str]:
    """Install the plugin on a terminal, and type an answer."""
    import pty

    main, side = pty.openpty()
    command = [str(afk), "plugins", "install", "afk-tools-demo"]
    env = {**world.variables, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        command, cwd=world.empty, env=env, stdin=side, stdout=side, stderr=side, start_new_session=True
    )
    os.close(side)
    seen = b""
    while b"Install afk" not in seen or b"]: " not in seen.rpartition(b"Install afk")[2]:
        seen += os.read(main, 65536)
    os.write(main, typed)
    try:
        while piece := os.read(main, 65536):
            seen += piece
    except OSError:  # Linux: EIO, when the other side is closed
        pass
    os.close(main)
    return process.wait(LIMIT), seen.decode(errors="replace")


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("--index-url=http://x.invalid", "No such option"),
            ("-e", "No such option"),
            ("git+https://x.invalid/a.git", "is neither the name of a distribution"),
            ("https://x.invalid/a.whl", "there is no file"),
            ("a @ file:///tmp/x", "is neither the name of a distribution"),
            (".", "is neither the name of a distribution"),
            ("./folder", "is neither the name of a distribution"),
            ("../up", "is neither the name of a distribution"),
            ("afk-tools-demo==1.0", "is neither the name of a distribution"),
            ("afk-tools-demo[extra]", "is neither the name of a distribution"),
            ("a b", "is neither the name of a distribution"),
            ("", "is neither the name of a distribution"),
            ("-", "is neither the name of a distribution"),
            ("a\n--pre", "is neither the name of a distribution"),
            ("none.whl", "there is no file none.whl"),
            ("a-1.0.tar.gz", "is an sdist; building it runs its code"),
            ("mcp", "is the name of a plugin; name what is installed: afk-tools-mcp"),
            ("tools.files", "name what is installed: afk-tools-files"),
            ("afkcli", "is afk itself"),
            ("AFK_cli", "could be fetched"),
        ],
    )
    def test_what_pip_could_take_for_something_else(self, world: World, by_uv: Path, name: str, said: str) -> None:
        before = versions(by_uv)
        done = world.run(by_uv, "plugins", "install", "--yes", name)

        assert done.returncode in (1, 2)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) <= 2
        assert versions(by_uv) == before

    def test_what_is_no_plugin(self, world: World, by_uv: Path) -> None:
        done = world.run(by_uv, "plugins", "install", "demo-lib", "--yes")

        assert done.returncode == 2
        assert "demo-lib 1.0 is not a plugin of afk" in done.stderr

    @pytest.mark.parametrize(
        ("files", "points", "said"),
        [
            ({"afkcli/evil.py": ""}, {}, "the package afkcli"),
            ({"afk/__init__.py": ""}, {}, "the package afk"),
            ({"afk.py": ""}, {}, "the package afk"),
            ({}, {"console_scripts": {"afk": "x:y"}}, "the command afk"),
            ({"afkcli.abi3.so": ""}, {}, "the package afkcli"),
            ({"afk_tools_evil-1.0.data/purelib/afkcli/entry.py": ""}, {}, "the package afkcli"),
            ({"afk_tools_evil-1.0.data/data/lib/python3/site-packages/afk.py": ""}, {}, "the package afk"),
            ({"afk_tools_evil-1.0.data/scripts/afk": ""}, {}, "the command afk"),
            ({"afk_tools_evil-1.0.data/data/bin/python3": ""}, {}, "the command python3"),
        ],
    )
    def test_what_would_damage_afk(
        self, world: World, by_uv: Path, files: dict[str, str], points: dict[str, Any], said: str
    ) -> None:
        world.plugin("evil", files=files, points={"afk": {"tools.evil": "x"}, **points})
        done = world.run(
            by_uv, "plugins", "install", str(world.wheels / "afk_tools_evil-1.0-py3-none-any.whl"), "--yes"
        )

        assert done.returncode == 2
        assert f"would overwrite {said}" in done.stderr

    @pytest.mark.parametrize("name", ["../afkcli/x.py", "/etc/x", "a/../../afk.py", "./afkcli/x.py", "a\\..\\x.py"])
    def test_a_wheel_with_a_file_outside_of_it(self, world: World, by_uv: Path, tmp_path: Path, name: str) -> None:
        wheel = world.plugin("out", files={name: ""}, points={"afk": {"tools.out": "x"}})
        done = world.run(by_uv, "plugins", "install", str(wheel), "--yes")
        wheel.unlink()

        assert done.returncode == 2
        assert "which is outside of it; it is not used" in done.stderr

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04 broken", b"text" * 100])
    def test_a_file_that_is_no_wheel(self, world: World, by_uv: Path, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a-1.0-py3-none-any.whl").write_bytes(data)
        done = world.run(by_uv, "plugins", "install", "a-1.0-py3-none-any.whl", cwd=tmp_path)

        assert done.returncode == 2
        assert "cannot be read as a wheel" in done.stderr

    def test_a_wheel_of_another_name(self, world: World, by_uv: Path, tmp_path: Path) -> None:
        shutil.copy(world.plugin("real"), tmp_path / "afk_tools_other-1.0-py3-none-any.whl")
        done = world.run(by_uv, "plugins", "install", "afk_tools_other-1.0-py3-none-any.whl", cwd=tmp_path)

        assert "has the metadata of another distribution, afk-tools-real" in done.stderr

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("click", "click is not a plugin: afk itself needs it"),
            ("Pydantic_Core", "afk itself needs it"),
            ("afkcli", "afk itself needs it"),
            ("afk-tools-nowhere", "no plugin named 'afk-tools-nowhere' is installed"),
            ("-r", "No such option"),
            ("./x", "is not the name of a distribution"),
        ],
    )
    def test_an_uninstall_of_what_is_no_plugin(self, world: World, by_uv: Path, name: str, said: str) -> None:
        before = versions(by_uv)
        done = world.run(by_uv, "plugins", "uninstall", "--yes", name)

        assert done.returncode == 2
        assert said in done.stderr
        assert versions(by_uv) == before


@pytest.fixture(scope="session")
def template(world: World) -> Path:
    path = world.folder / "template"
    world.uv_environment(path)
    return path


def copied(template: Path, path: Path) -> Path:
    """Return the afk of a copy of an environment."""
    shutil.copytree(template, path, symlinks=True)
    return _moved(template, path)


def linked(template: Path, path: Path) -> Path:
    """Return the afk of a copy that shares its files, which is cheaper; for tests that change no file."""
    shutil.copytree(template, path, symlinks=True, copy_function=os.link)
    return _moved(template, path)


def _moved(template: Path, path: Path) -> Path:
    script = path / BIN / "afk"
    text = script.read_text().replace(str(template), str(path))
    script.unlink()
    script.write_text(text)
    script.chmod(0o755)
    return script


class TestManaged:
    @pytest.mark.parametrize(
        ("files", "line"),
        [
            ({"pyproject.toml": "[project]\nname = 'x'\n", "uv.lock": ""}, "uv add afk-tools-demo"),
            ({"pyproject.toml": "[project]\nname = 'x'\n"}, "uv add afk-tools-demo"),
            ({"pyproject.toml": "", "poetry.lock": ""}, "poetry add afk-tools-demo"),
            ({"pyproject.toml": "", "pdm.lock": ""}, "pdm add afk-tools-demo"),
            ({"Pipfile": "", "Pipfile.lock": ""}, "pipenv install afk-tools-demo"),
        ],
    )
    def test_the_environment_of_a_project_is_refused_with_the_line(
        self, world: World, template: Path, tmp_path: Path, files: dict[str, str], line: str
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        afk = linked(template, tmp_path / ".venv")
        done = world.run(afk, "plugins", "install", "afk-tools-demo", "--yes")

        assert done.returncode == 2
        assert f"belongs to the project {tmp_path}; use: {line}" in done.stderr

    def test_an_environment_that_a_variable_gives_to_a_project_is_refused(
        self, world: World, template: Path, tmp_path: Path
    ) -> None:
        afk = linked(template, tmp_path / "elsewhere")
        env = {"UV_PROJECT_ENVIRONMENT": str(tmp_path / "elsewhere")}

        assert "use: uv add afk-tools-demo" in world.run(afk, "plugins", "install", "afk-tools-demo", **env).stderr

    def test_an_environment_of_one_call_is_refused(self, world: World, template: Path, tmp_path: Path) -> None:
        afk = linked(template, tmp_path / "archive-v0" / "xyz")
        done = world.run(afk, "plugins", "install", "afk-tools-demo", "--yes")

        assert done.returncode == 2
        assert "made for one call; use: uv tool install afkcli --with afk-tools-demo" in done.stderr

    def test_a_project_beside_it_without_a_lock_leaves_another_environment_alone(
        self, world: World, template: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
        afk = linked(template, tmp_path / "tools")

        assert world.run(afk, "plugins", "install", "afk-tools-demo", "--dry-run").returncode == 0

    def test_the_python_of_the_system_is_refused(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "EXTERNALLY-MANAGED").touch()
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
        monkeypatch.setattr(sysconfig, "get_path", lambda name, *rest: str(tmp_path))

        with pytest.raises(UsageError, match=r"belongs to the system \(PEP 668\).*uv tool install afkcli --with x"):
            find_environment({"PATH": os.environ["PATH"]}, "x")

    def test_an_afk_that_is_not_in_the_environment_is_refused(
        self, world: World, template: Path, tmp_path: Path
    ) -> None:
        bare = tmp_path / "bare"
        world.made("uv", "venv", "-q", "--python", sys.executable, bare)
        packages = next(template.glob("lib/*/site-packages"))
        command = (bare / BIN / "python", "-m", "afkcli", "plugins", "install", "afk-tools-demo")
        done = world.run(*command, PYTHONPATH=str(packages))

        assert done.returncode == 2
        assert f"afk was not installed into {bare}" in done.stderr


def contents(afk: Path) -> dict[str, bytes]:
    """Return the files of an environment's packages, without compiled ones and what installers note for themselves."""
    folder = packages(afk)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.parent.name.endswith(".dist-info")
    }


IN_THE_WAY = {"typing_extensions.py/in_the_way.py": ""}
"""A file that cannot be written, because a file has the name of its folder."""


class TestFailedHalfWay:
    def test_it_leaves_nothing_and_the_next_install_works(self, world: World, afk: Path) -> None:
        world.plugin("stuck", requires=["stuck-lib"], files={**IN_THE_WAY, "afk_tools_stuck.py": ""})
        make_wheel(world.wheels, "stuck-lib", files={"stuck_lib/__init__.py": ""})
        before, had = versions(afk), contents(afk)
        done = world.run(afk, "plugins", "install", "afk-tools-stuck", "--yes")

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith("; the environment is as it was\n")
        assert versions(afk) == before
        assert contents(afk) == had
        assert not list(packages(afk).glob("*stuck*"))
        after = world.run(afk, "plugins", "install", "afk-tools-demo", "--yes")
        assert after.returncode == 0, after.stderr
        world.run(afk, "plugins", "uninstall", "afk-tools-demo", "--yes")

    def test_an_upgrade_brings_the_old_version_back_while_it_can_be_had(self, world: World, tmp_path: Path) -> None:
        env = {
            "UV_TOOL_DIR": str(tmp_path / "tools"),
            "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
            "UV_CACHE_DIR": str(tmp_path / "cache"),
        }
        old = world.plugin("rising", files={"afk_tools_rising.py": HOOK.format("tools"), "afk_tools_rising_old.py": ""})
        world.made(
            "uv", "tool", "install", "-q", "--python", sys.executable, "afkcli", "--with", "afk-tools-rising", **env
        )
        afk = tmp_path / "bin" / "afk"
        had = contents(afk)
        world.plugin("rising", "1.1", files={**IN_THE_WAY, "afk_tools_rising.py": ""})
        done = world.run(afk, "plugins", "install", "afk-tools-rising", "--yes", **env)

        assert done.returncode == 1
        assert done.stderr.endswith("; the environment is as it was\n")
        assert contents(afk) == had
        assert world.run(afk, "plugins").stdout.split()[:4] == ["tools.rising", "afk-tools-rising", "1.0", "ok"]
        old.unlink()
        shutil.rmtree(tmp_path / "cache")
        again = world.run(afk, "plugins", "install", "afk-tools-rising", "--yes", **env)
        assert "; not everything could be put back: afk-tools-rising 1.0 -> removed; " in again.stderr
        receipt = tomllib.loads((tmp_path / "tools" / "afkcli" / "uv-receipt.toml").read_text())
        assert [item["name"] for item in receipt["tool"]["requirements"]] == ["afkcli", "afk-tools-rising"]

    def test_a_file_of_another_that_was_overwritten_is_put_back(
        self, world: World, template: Path, tmp_path: Path
    ) -> None:
        afk = copied(template, tmp_path / "copy")
        make_wheel(world.wheels, "first-lib", files={"shared_name.py": "first = 1\n"})
        world.made("uv", "pip", "install", "-q", "--python", afk.parent / "python", "first-lib")
        had = contents(afk)
        files = {"shared_name.py": "second = 2\n", **IN_THE_WAY, "afk_tools_rude.py": ""}
        world.plugin("rude", files=files)
        done = world.run(afk, "plugins", "install", "afk-tools-rude", "--yes")

        assert done.stderr.endswith("; the environment is as it was\n")
        assert contents(afk) == had

    def test_what_was_there_in_part_before_is_named(self, world: World, template: Path, tmp_path: Path) -> None:
        afk = copied(template, tmp_path / "copy")
        info = packages(afk) / "half-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1.0\n")
        (info / "RECORD").write_text("half.py,,\nhalf-1.0.dist-info/METADATA,,\nhalf-1.0.dist-info/RECORD,,\n")
        world.plugin("stuck", files={**IN_THE_WAY, "afk_tools_stuck.py": ""})
        done = world.run(afk, "plugins", "install", "afk-tools-stuck", "--yes")

        assert done.stderr.endswith(f"; half 1.0 is installed only in part; remove the folder {info}\n")
        assert (info / "METADATA").exists()

    def test_what_ctrl_c_left_is_removed_and_no_file_outside(
        self, world: World, template: Path, tmp_path: Path
    ) -> None:
        afk = copied(template, tmp_path / "copy")
        info = packages(afk) / "afk_tools_demo-1.0.dist-info"
        mine = tmp_path / "mine.txt"
        mine.write_text("keep")
        outside = os.path.relpath(mine, packages(afk))
        stopped = tmp_path / "path" / "uv"
        stopped.parent.mkdir()
        stopped.write_text(
            f"""#!/bin/sh
case "$*" in *--dry-run*|*--target*|*uninstall*) exec {shutil.which("uv")} "$@" ;; esac
mkdir '{info}' '{packages(afk)}/afk_demo'
printf 'afk_demo/a.py,,\\nafk_demo/b.py,,\\n{outside},,\\n' > '{info}/RECORD'
touch '{packages(afk)}/afk_demo/a.py'
kill -INT $PPID
exec sleep {LIMIT}
"""
        )
        stopped.chmod(0o755)
        path = os.pathsep.join([str(stopped.parent), world.variables["PATH"]])
        done = world.run(afk, "plugins", "install", "afk-tools-demo", "--yes", PATH=path)

        assert done.returncode == -signal.SIGINT, done.stderr
        assert not list(packages(afk).glob("afk*demo*"))
        assert mine.read_text() == "keep"


def test_the_commands_of_the_page_work_as_printed(world: World, by_uv: Path) -> None:
    world.plugin("mcp")
    (block,) = [
        block
        for block in blocks(REPOSITORY / "docs" / "how-to" / "install.md")
        if block.mark("run by") == "tests/commands/test_plugin_install.py"
    ]
    done = world.run("sh", "-ec", block.text, PATH=f"{by_uv.parent}{os.pathsep}{world.variables['PATH']}")

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("plugins: tools.mcp") == 2
    assert "uninstalled afk-tools-mcp" in done.stderr


BACKEND = """
import shutil
from pathlib import Path

def build_wheel(folder, config_settings=None, metadata_directory=None):
    (wheel,) = Path(__file__).parent.glob("*.whl")
    return Path(shutil.copy(wheel, folder)).name

build_editable = build_wheel
"""


@pytest.mark.parametrize("editable", [False, True])
def test_an_afk_that_uv_tool_installed_from_a_folder_stays_that(world: World, tmp_path: Path, editable: bool) -> None:
    source = tmp_path / "a clone"
    source.mkdir()
    afk_wheel(source)
    (source / "backend.py").write_text(BACKEND)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    env = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    how = ("--editable", source) if editable else (source,)
    world.made("uv", "tool", "install", "-q", "--python", sys.executable, *how, **env)
    receipt = tmp_path / "tools" / "afkcli" / "uv-receipt.toml"
    before = tomllib.loads(receipt.read_text())["tool"]["requirements"]
    done = world.run(tmp_path / "bin" / "afk", "plugins", "install", "afk-tools-demo", "--yes")

    assert done.returncode == 0, done.stderr
    assert tomllib.loads(receipt.read_text())["tool"]["requirements"] == [*before, {"name": "afk-tools-demo"}]
    assert world.run(tmp_path / "bin" / "afk", "plugins", "uninstall", "afk-tools-demo", "--yes").returncode == 0
    assert tomllib.loads(receipt.read_text())["tool"]["requirements"] == before
