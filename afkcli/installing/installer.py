"""Fetches, installs and uninstalls a distribution by the tool that made the environment.

Since: 0.2.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.core.contract.structs import FrozenStruct, Struct, field
from afkcli.core.contract.text import collapsed
from afkcli.installing.declared import Declared, read_unpacked, read_wheel
from afkcli.installing.environment import DISTRIBUTION, Environment, normalised
from afkcli.installing.receipt import read_receipt

_ELSEWHERE = re.compile(
    r"PIP_(TARGET|PREFIX|ROOT|USER|PYTHON|PLATFORM|ABI|IMPLEMENTATION|PYTHON_VERSION|NO_DEPS|DRY_RUN|NO_BINARY"
    r"|ONLY_BINARY|EDITABLE|REQUIREMENT|IGNORE_INSTALLED|REPORT|BREAK_SYSTEM_PACKAGES|REQUIRE_VIRTUALENV|QUIET|LOG)"
    r"|UV_(PYTHON|SYSTEM_PYTHON|PROJECT|PROJECT_ENVIRONMENT|WORKING_DIR(ECTORY)?|TARGET|PREFIX|NO_BINARY\w*|NO_BUILD\w*"
    r"|BREAK_SYSTEM_PACKAGES|ENV_FILE)"
    r"|PYTHONPATH|PYTHONHOME|PYTHONSTARTUP|VIRTUAL_ENV|__PYVENV_LAUNCHER__"
)
"""Variables that would have pip or uv install elsewhere, or otherwise than is said here."""

_MOST_SAID = 600
_ADDED = re.compile(r"^ [+~] ([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
_DECORATION = re.compile(r"^([^\w'\"(]|error: |ERROR: )+")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class InstallError(AfkError):
    """pip, pipx or uv failed; the message is what it said."""

    exit_code = 1


class Fetched(FrozenStruct, kw_only=True):
    """A distribution that was fetched: what it declares, and what is asked for to install it."""

    declared: Declared
    requirement: str
    wheel: Path | None = None


class Installer(Struct, kw_only=True):
    """Runs the tool of an environment in a folder of its own, which the caller makes and removes."""

    environment: Environment
    variables: Mapping[str, str]
    folder: Path
    constraints: Sequence[str] = field(default_factory=list)

    def fetch(self, name: str) -> Fetched:
        """Fetch the newest wheel of a distribution, without what it needs, and without running any of it.

        Raises:
            InstallError: there is none.
        """
        folder = self.folder / "fetched"
        folder.mkdir()
        try:
            if self._uses_uv:
                self._uv("install", "--target", str(folder), "--no-deps", "--no-build", name)
                declared = read_unpacked(folder)
            else:
                self._pip("download", "--no-deps", "--only-binary", ":all:", "-d", str(folder), name)
                declared = read_wheel(next(folder.glob("*.whl")))
        except InstallError as error:
            what = f"no wheel of {name} could be fetched: {error}"
            raise InstallError(f"{what} (sdists are not taken, because building one runs its code)") from None
        if normalised(declared.name) != normalised(name):
            raise InstallError(f"the wheel fetched for {name} is named {declared.name}; it was not installed")
        return Fetched(declared=declared, requirement=f"{name}=={declared.version}")

    def take(self, wheel: Path) -> Fetched:
        """Return a wheel of the user's as a distribution that was fetched."""
        path = wheel.absolute()
        declared = read_wheel(path)
        return Fetched(declared=declared, requirement=f"{declared.name} @ {path.as_uri()}", wheel=path)

    def plan(self, fetched: Fetched) -> dict[str, str]:
        """Return the versions that would be installed, by normalised name; nothing is changed.

        Raises:
            InstallError: what the distribution needs cannot be had beside afk, or only as an sdist.
        """
        if self._uses_uv:
            done = self._uv("install", "--dry-run", "--no-build", *self._bounds(), fetched.requirement)
            return {normalised(name): version for name, version in _ADDED.findall(done.stderr)}
        file = self.folder / "report.json"
        arguments = ["--dry-run", "--report", str(file), "--only-binary", ":all:", *self._bounds()]
        self._pip("install", *self._of_user(), *arguments, *self._found_in(fetched), fetched.requirement)
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        items = [item["metadata"] for item in report["install"]]
        return {normalised(item["name"]): str(item["version"]) for item in items}

    def install(self, fetched: Fetched, planned: Iterable[str] = ()) -> None:
        """Install a distribution that was fetched and what it needs, from wheels alone.

        uv tool and pipx look for the newest version again, which may be an sdist.

        Args:
            fetched: the distribution.
            planned: the names of what it needs, as `plan` returns them.

        Raises:
            InstallError: that fails.
        """
        tool, name = self.environment.tool, fetched.declared.name
        recorded = fetched.requirement if fetched.wheel else name
        if tool == "uv tool":
            # Not --no-build: afk itself, or another plugin, may have been installed from a folder.
            wheels = sorted({normalised(name), *planned})
            unbuilt = [word for item in wheels for word in ("--no-build-package", item)]
            # Without this uv keeps an older version that is installed: the record has the name alone.
            self._uv_tool({normalised(name): recorded}, "--upgrade-package", name, *unbuilt)
        elif tool == "pipx":
            force = ["--force"] if normalised(name) in self.environment.installed else []
            options = [*force, f"--pip-args={shlex.join(self._pip_args_of_pipx())}"]
            self._pipx("inject", *options, self.environment.prefix.name, str(fetched.wheel or name))
        elif tool == "uv":
            self._uv("install", "--no-build", *self._bounds(), fetched.requirement)
        else:
            arguments = ["--only-binary", ":all:", *self._bounds(), *self._found_in(fetched), fetched.requirement]
            self._pip("install", "--no-input", *self._of_user(), *arguments)

    def uninstall(self, name: str) -> None:
        """Uninstall a distribution, and nothing that it needed; `InstallError` if that fails."""
        tool = self.environment.tool
        if tool == "uv tool":
            self._uv_tool({}, without=name)
        elif tool == "pipx":
            self._pipx("uninject", self.environment.prefix.name, name, "--leave-deps")
        elif tool == "uv":
            self._uv("uninstall", name)
        else:
            self._pip("uninstall", "--yes", name)

    def remove(self, names: Sequence[str]) -> None:
        """Uninstall distributions that the records of uv and pipx do not have; `InstallError` if that fails."""
        if self._uses_uv:
            self._uv("uninstall", *names)
        else:
            self._pip("uninstall", "--yes", *names)

    def reinstall(self, requirements: Sequence[str]) -> None:
        """Install distributions anew, without what they need; `InstallError` if that fails."""
        if self._uses_uv:
            self._uv("install", "--no-deps", "--no-build", "--reinstall", *requirements)
        else:
            arguments = ("--only-binary", ":all:", "--no-deps", "--force-reinstall", *requirements)
            self._pip("install", "--no-input", *self._of_user(), *arguments)

    @property
    def _uses_uv(self) -> bool:
        """Whether packages are fetched by uv: pip is in the environment only where it made it, or pipx shares it."""
        return self.environment.tool in ("uv", "uv tool") or self._pip_of_pipx() is None

    def _pip_of_pipx(self) -> list[str] | None:
        """Return how pip is called; None in an environment of pipx that has uv for it."""
        command = [self.environment.python, "-P", "-m", "pip"]
        is_by_uv = self.environment.tool == "pipx" and self._metadata_of_pipx().get("backend") == "uv"
        return None if is_by_uv else command

    def _pip_args_of_pipx(self) -> list[str]:
        """Return the arguments for pip that pipx recorded for afk, such as an index, and that no sdist is built.

        pipx takes those that it is given in the place of the recorded ones; uv takes this one as pip does.
        """
        recorded = (self._metadata_of_pipx().get("main_package") or {}).get("pip_args") or []
        return [*(word for word in recorded if word not in ("--editable", "-e")), "--only-binary=:all:"]

    def _metadata_of_pipx(self) -> dict[str, Any]:
        try:
            found = json.loads((self.environment.prefix / "pipx_metadata.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _bounds(self) -> list[str]:
        file = self.folder / "constraints.txt"
        file.write_text("".join(f"{line}\n" for line in self.constraints), encoding="utf-8")
        return ["-c", str(file)]

    def _found_in(self, fetched: Fetched) -> list[str]:
        return [] if fetched.wheel else ["--find-links", str(self.folder / "fetched")]

    def _of_user(self) -> list[str]:
        return ["--user"] if self.environment.is_user else []

    def _pip(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run([*(self._pip_of_pipx() or []), "--disable-pip-version-check", command, *arguments])

    def _uv(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        import shutil

        program = self.environment.program
        if self.environment.tool == "pipx":
            found = shutil.which("uv", path=self.variables.get("PATH"))
            if found is None:
                raise UsageError("pipx made this environment with uv, which is not on the PATH; add it")
            program = found
        return self._run([program, "pip", command, "--python", self.environment.python, *arguments])

    def _uv_tool(self, more: Mapping[str, str], *options: str, without: str | None = None) -> None:
        line = f"uv tool install {DISTRIBUTION} --with ..."
        receipt = read_receipt(self.environment.prefix, line)
        others = {**receipt.others, **more}
        if without is not None and others.pop(normalised(without), None) is None:
            extras = f"; it came with {DISTRIBUTION}[{','.join(receipt.extras)}]" if receipt.extras else ""
            raise InstallError(f"uv has no record of {without}{extras}: {line} makes the environment anew without it")
        folders = {"UV_TOOL_DIR": str(self.environment.prefix.parent)}
        if receipt.folder is not None:
            folders["UV_TOOL_BIN_DIR"] = str(receipt.folder)
        self._run([self.environment.program, "tool", "install", *options, *receipt.arguments(others)], **folders)

    def _pipx(self, *arguments: str) -> None:
        # The folder above `venvs`: it may be another one than the variables say, as with `pipx install --global`.
        home = str(self.environment.prefix.parent.parent)
        self._run([self.environment.program, *arguments], PIPX_HOME=home, PIPX_USE_EMOJI="0", USE_EMOJI="0")

    def _run(self, command: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, so that no config of the working folder counts; `InstallError` if it fails."""
        variables = {name: value for name, value in self.variables.items() if not _ELSEWHERE.fullmatch(name)}
        try:
            done = subprocess.run(  # noqa: S603 - the program is the environment's, and no shell reads the arguments
                command,
                cwd=self.folder,
                env={**variables, "NO_COLOR": "1", "PYTHONUTF8": "1", **more},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise InstallError(f"{command[0]} cannot be started: {error.strerror}") from None
        if done.returncode != 0:
            raise InstallError(_conflict(done.stdout) or _reason(done.stderr or done.stdout))
        return done


def _conflict(text: str) -> str:
    """Return what pip says of requirements that do not go together, on one line; "" where it says nothing of that."""
    _, found, rest = text.partition("The conflict is caused by:\n")
    lines = [collapsed(line) for line in rest.partition("\n\n")[0].splitlines() if line.strip()]
    return "; ".join(lines)[:_MOST_SAID] if found else ""


def _reason(text: str) -> str:
    """Return what a tool said about its failure, on one line: from its first error on, without warnings and hints."""
    lines = [_COLOURS.sub("", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.lower().startswith(("warning", "[notice]", "hint"))]
    first = next((number for number, line in enumerate(lines) if _is_error(line)), max(len(lines) - 3, 0))
    said = [_DECORATION.sub("", line) for line in lines[first:]]
    line = collapsed(" ".join(said)) or "it failed without a message"
    return line if len(line) <= _MOST_SAID else f"{line[:_MOST_SAID]}..."


def _is_error(line: str) -> bool:
    return line.lower().startswith("error") or not line[0].isascii()  # uv draws a cross and a tree
