"""Looks for secrets in all that afk has written: stdout, stderr, and every byte below the home folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.e2e.shell import Finished, Shell


def config_file(shell: Shell) -> Path:
    """Return the path of the user's config, and make its folder."""
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_config(shell: Shell, text: str) -> None:
    config_file(shell).write_text(text)


def assert_nowhere(shell: Shell, canaries: Iterable[str], said: Iterable[Finished]) -> None:
    """Assert that no canary is in the output or in any file but the user's own config.

    The store keeps text as it is (its rows are JSON text, uncompressed), so its bytes tell.
    """
    texts = {f"stdout or stderr of command {number}": done.out + done.err for number, done in enumerate(said)}
    for path in (*shell.home.rglob("*"), *shell.folder.rglob("*.jsonl"), *shell.folder.rglob("*.md")):
        if path.is_file() and path != config_file(shell):
            texts[str(path)] = path.read_bytes().decode("utf-8", "replace")
    for canary in canaries:
        found = {where: text[max(0, text.find(canary) - 80) :][:200] for where, text in texts.items() if canary in text}
        assert not found, f"{canary!r} is in {found}"
