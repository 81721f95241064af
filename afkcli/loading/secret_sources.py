"""Where a secret setting comes from besides the environment and the config: the keys file, and a command.

Since: 0.2.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from afkcli.core.contract.errors import ConfigError
from afkcli.host.secrets import Secrets

if TYPE_CHECKING:
    from afkcli.host.key_command import KeyCommand

COMMAND = "_command"
"""What is added to the name of a secret setting for the setting of the command that prints it: `api_key_command`."""


class PendingCommand:
    """A command that has to run before a setting has its value: its words, and what an error calls it."""

    def __init__(self, words: Sequence[str], what: str) -> None:
        self.words = tuple(words)
        self.what = what


class SecretSources:
    """The keys file of this user, read when a key is first looked for, and the keys that commands have printed.

    A command runs once: what it printed is kept as long as this object.

    Args:
        environment: names the folder of the file, and is the environment of commands.
        secrets: is given every key of the file, and what commands print.
        terminal: the path of the terminal, for commands that ask for a passphrase.
        stdin: the descriptor of stdin, which may be a terminal where `terminal` cannot be opened.
        runs_commands: whether commands may run at all.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        secrets: Secrets,
        terminal: str | None = None,
        stdin: int | None = None,
        *,
        runs_commands: bool = True,
    ) -> None:
        self._environment = environment
        self._secrets = secrets
        self._terminal = terminal
        self._stdin = stdin
        self.runs_commands = runs_commands
        self._keys: dict[str, str] | None = None
        self._printed: dict[tuple[str, ...], str] = {}
        self._lock = threading.Lock()  # two commands would ask for their passphrases at the same time
        self._running: KeyCommand | None = None

    def keys(self) -> Mapping[str, str]:
        """Return the keys of the keys file by name; `ConfigError` if the file cannot be used."""
        if self._keys is None:
            from afkcli.host.keys import keys_file, read_keys

            try:
                path = keys_file(self._environment)
            except ConfigError:  # no home folder: then there is no config either
                self._keys = {}
                return self._keys
            self._keys = read_keys(path)
            self._secrets.add(self._keys)
        return self._keys

    def printed(self, command: PendingCommand) -> str | None:
        """Return what a command has printed, or None if it has not run."""
        return self._printed.get(command.words)

    def run(self, command: PendingCommand) -> str:
        """Run a command, if it has not run, and return the key that it printed; `ConfigError` if it printed none."""
        with self._lock:
            found = self._printed.get(command.words)
            if found is None:
                found = self._printed[command.words] = self._run(command)
            return found

    def stop(self) -> None:
        """End the command that runs, from another thread."""
        running = self._running
        if running is not None:
            running.stop()

    def _run(self, command: PendingCommand) -> str:
        from afkcli.host.bound_starts import Start, start_problem
        from afkcli.host.key_command import KeyCommand
        from afkcli.host.paths import config_dir

        folder = config_dir(self._environment)
        start = Start(command=command.words[0], args=command.words[1:])
        self._running = KeyCommand(
            command.words,
            command.what,
            environment=self._environment,
            folder=folder,
            terminal=self._terminal,
            stdin=self._stdin,
            mask=self._secrets.mask,
            problem=lambda program: start_problem(start, program, folder),
        )
        try:
            key = self._running.run()
        finally:
            self._running = None
        self._secrets.add(key)
        return key


def main_secret(names: Sequence[str]) -> str | None:
    """Return the secret text that the name of a provider alone means: `api_key`, or the only one."""
    return "api_key" if "api_key" in names else names[0] if len(names) == 1 else None


def stored_name(table: str, setting: str, main: str | None) -> str:
    """Return the name in the keys file of a secret text.

    Args:
        table: its table in the config, such as `[providers.openai]`.
        setting: its name there.
        main: the setting of that table that needs no name.
    """
    where = table.strip("[]").removeprefix("providers.")
    return where if setting == main and table.startswith("[providers.") else f"{where}.{setting}"


def command_words(value: object) -> Sequence[str] | None:
    """Return the words of a command in the config, or None if it is no list of words."""
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        return None
    return value if value[0].strip() and not any("\0" in word for word in value) else None
