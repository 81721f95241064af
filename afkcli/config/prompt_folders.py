"""Where prompts are: in the folder `prompts` beside the user's config, and beside the afk.toml of the project.

Those of a project count under the same trust as its afk.toml: a prompt, and the schema that it references, must be as
they were when the user trusted the project. A path that the user types is theirs.

Since: 0.2.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from afkcli.config.project import ProjectFile, read_project_file
from afkcli.config.prompt_file import MAX_BYTES, SUFFIX, Prompt, read_prompt
from afkcli.core.contract.errors import ConfigError, UnknownNameError
from afkcli.core.contract.jsonform import canonical
from afkcli.core.contract.structs import FrozenStruct, field, replace
from afkcli.core.contract.text import decoded
from afkcli.host.permissions import UnsafeFileError, read_file_once, read_own_file

FOLDER = "prompts"
_MOST = 1000
"""More prompts of one folder are not looked at."""


class ProjectPrompt(FrozenStruct, kw_only=True):
    """A prompt of a project, read once.

    Args:
        name: its name.
        path: its file.
        prompt: what it says; None where it cannot be used.
        problem: why it cannot be used.
        hashes: the real paths and hashes of its file and of its schema, by the paths that name them.
        data: the bytes of its file.
    """

    name: str
    path: Path
    prompt: Prompt | None = None
    problem: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    data: bytes = b""


def prompts_beside(config: Path) -> Path:
    """Return the folder of prompts that belongs to a config file."""
    return config.parent / FOLDER


def prompt_names(folder: Path) -> list[str]:
    """Return the names of the prompts in a folder, sorted; none if it is not there."""
    try:
        files = sorted(os.listdir(folder))  # noqa: PTH208 - the names are what is needed
    except OSError:
        return []
    names = [name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX) and not name.startswith(".")]
    return [name for name in names if name][:_MOST]


def spelled(name: str, folder: Path) -> str | None:
    """Return the name of a prompt as its file in a folder has it, or None if it is not there.

    A letter with an accent may be one character or two: macOS and archives made there have two, keyboards give one.
    """
    names = prompt_names(folder)
    if name in names or name.isascii():
        return name if name in names else None
    import unicodedata  # not at the top: few names need it

    wanted = unicodedata.normalize("NFC", name)
    return next((known for known in names if unicodedata.normalize("NFC", known) == wanted), None)


def is_path(name: str) -> bool:
    """Return whether what the user typed is the path of a prompt file, and not a name."""
    return "/" in name or os.sep in name


def read_typed_prompt(typed: str, folder: str | Path | None) -> Prompt:
    """Return the prompt in a file whose path the user typed; its mode does not matter.

    Raises:
        UnknownNameError: there is no such file.
        ConfigError: it cannot be read, or is not a prompt.
    """
    path = Path(folder or ".", Path(typed).expanduser() if typed.startswith("~") else typed)
    try:
        return read_prompt(read_file_once(path, MAX_BYTES)[0], path, typed)
    except (FileNotFoundError, NotADirectoryError):
        raise UnknownNameError(f"there is no prompt file {typed}") from None
    except UnsafeFileError as error:
        raise ConfigError(f"the prompt file {typed} cannot be used: {error}") from None
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"the prompt file {typed} cannot be read: {why}") from None


def read_user_prompt(folder: Path, name: str) -> Prompt:
    """Return a prompt of the user.

    Raises:
        UnknownNameError: it is not there.
        ConfigError: it cannot be read, is not a prompt, or others can write it; the message has the command that mends
            that.
    """
    path = folder / f"{name}{SUFFIX}"
    try:
        return read_prompt(read_own_file(path, MAX_BYTES), path, name)
    except (FileNotFoundError, NotADirectoryError):
        raise UnknownNameError(f"there is no prompt {name!r}") from None
    except UnsafeFileError as error:
        raise ConfigError(f"the prompt {path} is not used: {error}") from None
    except OSError as error:
        raise ConfigError(f"the prompt {path} cannot be read: {error.strerror}") from None


def read_project_prompt(project: Path, name: str) -> ProjectPrompt:
    """Return a prompt of the project whose afk.toml is `project`; a problem with it is no error."""
    path = prompts_beside(project) / f"{name}{SUFFIX}"
    file = read_project_file(path)
    if file.refused is not None:
        return ProjectPrompt(name=name, path=path, problem=file.refused)
    hashes = {str(path): _hash(file)}
    found = ProjectPrompt(name=name, path=path, hashes=hashes, data=file.data)
    try:
        prompt = read_prompt(file.data, path, name)
        if isinstance(prompt.schema, Path):
            schema = read_project_file(prompt.schema)
            if schema.refused is not None:
                return replace(found, problem=f"its schema {prompt.schema}: {schema.refused}")
            found = replace(found, hashes={**hashes, str(prompt.schema): _hash(schema)})
            prompt = replace(prompt, schema=_json(schema))
    except ConfigError as error:
        return replace(found, problem=str(error))
    return replace(found, prompt=prompt)


def project_prompts(project: ProjectFile) -> list[ProjectPrompt]:
    """Return all prompts of a project, by name."""
    names = prompt_names(prompts_beside(project.path)) if project.refused is None else []
    return [read_project_prompt(project.path, name) for name in names]


def _hash(file: ProjectFile) -> str:
    return f"{file.path} {hashlib.sha256(file.data).hexdigest()}"


def _json(file: ProjectFile) -> dict[str, object]:
    """Return the schema in a file of the project, whose bytes trust applies to."""
    from afkcli.core.contract.jsonform import JsonError, loads

    try:
        found = loads(decoded(file.data), exactly=True)
    except (JsonError, UnicodeDecodeError) as error:
        raise ConfigError(f"the schema {file.path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"the schema {file.path} is not a JSON object")
    return dict(found)


def shown_settings(found: ProjectPrompt) -> dict[str, object]:
    """Return what a prompt of a project says, as the settings that trust switches on; its text is the last one."""
    prompt = found.prompt
    if prompt is None:
        return {"problem": found.problem}
    schema = next((path for path in found.hashes if path != str(found.path)), None) or prompt.schema
    said = {
        "tools": list(prompt.tools),
        "model": prompt.model,
        "agent": prompt.agent,
        "options": dict(prompt.options),
        "schema": schema if isinstance(schema, str) or schema is None else canonical(schema),
        "instructions": prompt.instructions,
        "variables": {name: item.default or "" for name, item in prompt.variables.items()},
        "text": prompt.text,
    }
    return {key: value for key, value in said.items() if value or key == "text"}
