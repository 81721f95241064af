"""Finds a prompt by its name: the project's, where the user trusts it, else the user's; or by the path of a file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from afkcli.config.project import FILE_NAME, ProjectFile, find_project_file
from afkcli.config.prompt_file import SUFFIX, Prompt
from afkcli.config.prompt_folders import (
    FOLDER,
    ProjectPrompt,
    is_path,
    prompt_names,
    prompts_beside,
    read_project_prompt,
    read_typed_prompt,
    read_user_prompt,
    spelled,
)
from afkcli.config.trust import TrustState, prompt_states, record_file
from afkcli.core.contract.errors import AfkError, ConfigError, UnknownNameError, UsageError
from afkcli.core.contract.suggestions import near_names
from afkcli.host.invocation import Invocation
from afkcli.host.paths import config_file

PROJECT, USER = "project", "user"


class Listed(NamedTuple):
    """A prompt in a list: where it is from, the prompt or why it cannot be used, and whether another one hides it."""

    name: str
    path: Path
    origin: str
    prompt: Prompt | None
    problem: str | None = None
    is_hidden: bool = False


class Prompts:
    """The prompts that a command of this invocation may use."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self.user_folder = prompts_beside(config_file(invocation.environment))
        self.project: ProjectFile | None = find_project_file(invocation.folder)

    @property
    def project_folder(self) -> Path | None:
        """The folder of the project's prompts; None without a project."""
        return prompts_beside(self.project.path) if self.project is not None else None

    def names(self) -> list[str]:
        """Return the names of all prompts, sorted. No file is read."""
        folders = [folder for folder in (self.user_folder, self.project_folder) if folder is not None]
        return sorted({name for folder in folders for name in prompt_names(folder)})

    def find(self, typed: str) -> tuple[Prompt, str | None]:
        """Return a prompt, and a line for a person about one of the project that is not used, if there is one.

        Args:
            typed: its name, or the path of a file, which has a slash.

        Raises:
            UnknownNameError: there is no such prompt; the message has a near name.
            ConfigError: it cannot be used, or the user does not trust the project's.
        """
        if is_path(typed):
            return read_typed_prompt(typed, self._invocation.folder), None
        name = typed.removesuffix(SUFFIX)
        refused = None
        theirs = spelled(name, self.project_folder) if self.project_folder is not None else None
        if self.project is not None and theirs is not None:
            found = read_project_prompt(self.project.path, theirs)
            refused = self.problem(found)
            if refused is None and found.prompt is not None:
                return found.prompt, None
        own = spelled(name, self.user_folder)
        if own is not None:
            more = f"{refused}; using yours, {self.user_folder / own}{SUFFIX}" if refused is not None else None
            return read_user_prompt(self.user_folder, own), more
        if refused is not None:
            raise ConfigError(refused)
        raise UnknownNameError(self._unknown(typed, name))

    def problem(self, found: ProjectPrompt) -> str | None:
        """Return why a prompt of the project is not used, or None."""
        assert self.project is not None
        if self.project.refused is not None:
            return (
                f"the prompt {found.path} is not used: {self.project.path} is refused, because {self.project.refused}"
            )
        if not found.hashes:
            return f"the prompt {found.path} is not used: {found.problem}"
        states = prompt_states(self.project, record_file(self._invocation.environment), {found.name: found.hashes})
        if states[found.name] is TrustState.TRUSTED:
            return found.problem
        changed = states[found.name] is TrustState.CHANGED
        why = "has changed since it was trusted, or its project has" if changed else "is not trusted"
        return f"the prompt {found.path} {why}; see `afk trust`"

    def listed(self) -> Iterator[Listed]:
        """Yield all prompts by name: those of the project, and those of the user."""
        theirs = set(prompt_names(self.project_folder)) if self.project_folder is not None else set()
        own = set(prompt_names(self.user_folder))
        for name in sorted(theirs | own):
            is_used = False
            if name in theirs and self.project is not None:
                found = read_project_prompt(self.project.path, name)
                problem = self.problem(found)
                is_used = problem is None
                yield Listed(name, found.path, PROJECT, found.prompt, problem)
            if name in own:
                yield self._own(name, is_hidden=is_used)

    def _own(self, name: str, *, is_hidden: bool) -> Listed:
        path = self.user_folder / f"{name}{SUFFIX}"
        try:
            return Listed(name, path, USER, read_user_prompt(self.user_folder, name), None, is_hidden)
        except AfkError as error:
            return Listed(name, path, USER, None, str(error), is_hidden)

    def _unknown(self, typed: str, name: str) -> str:
        line = f"there is no prompt {typed!r}"
        folder = self._invocation.folder
        beside = Path(folder) / FOLDER / f"{name}{SUFFIX}" if folder is not None else None
        for file in (typed, f"{name}{SUFFIX}"):
            if folder is not None and (Path(folder) / file).is_file():
                return f"{line}; for the file {file} here, type ./{file}"
        if beside is not None and self.project is None and beside.is_file():
            return f"{line}; for {beside}, type ./{FOLDER}/{name}{SUFFIX}, or make a project with `afk init`"
        known = self.names()
        near = near_names(name, known)
        if near:
            return f"{line}; did you mean {near[0]!r}?"
        if known:
            return f"{line}; `afk prompts` lists them"
        return f"{line}; `afk prompts new {shlex.quote(name)}` writes one"


def checked_name(name: str) -> str:
    """Return the name of a new prompt.

    Raises:
        UsageError: it cannot be one.
    """
    name = name.removesuffix(SUFFIX)
    if not name or is_path(name) or name[0] in ".-~" or not name.isprintable() or len(name.encode()) > 200:
        raise UsageError(f"{name!r} cannot be the name of a prompt; use letters and digits, such as review")
    return name


def project_folder(prompts: Prompts) -> Path:
    """Return the folder of the project's prompts.

    Raises:
        UsageError: there is no project.
    """
    if prompts.project_folder is None:
        raise UsageError(f"there is no {FILE_NAME} here or above, so there is no project; `afk init` writes one")
    return prompts.project_folder
