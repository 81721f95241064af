"""What the tests of batches share: a home of their own, and prompts that are read from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afkcli.batch.prompt import Defaults, Prompt
from afkcli.batch.reading import read_prompts
from afkcli.batch.sources import Source
from afkcli.batch.templates import Template
from afkcli.config.prompt_file import read_prompt
from afkcli.host.invocation import Invocation
from afkcli.host.paths import config_file
from afkcli.wiring.assembly import load_setup

Read = Callable[..., list[Prompt]]

CONFIG = """\
[agents.judge]
instructions = "You are a judge."

[agents.writer]
instructions = "You write."
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home = tmp_path / "home"
    monkeypatch.setenv("AFK_HOME", str(home))
    config = config_file({"AFK_HOME": str(home)})
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)
    config.chmod(0o600)
    monkeypatch.delenv("AFK_STORE", raising=False)
    for provider in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{provider}_API_KEY", "sk-canary-0123456789")
        monkeypatch.delenv(f"{provider}_BASE_URL", raising=False)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that reads prompts from the bytes or the text of a file."""

    def read_all(
        content: str | bytes | Path,
        name: str = "prompts.jsonl",
        *,
        prompt: str | None = None,
        variables: dict[str, str] | None = None,
        form: Any = None,
        needs_keys: bool = True,
        fixes_models: bool = False,
        **defaults: Any,
    ) -> list[Prompt]:
        path = content if isinstance(content, Path) else tmp_path / name
        if not isinstance(content, Path):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        template = None
        if prompt is not None:
            template = Template(read_prompt(prompt.encode(), tmp_path / "template.md", "template"), variables or {})
        invocation = Invocation.of_process()
        source = Source(file=str(path), stdin=invocation.stdin, form=form)
        found = read_prompts(
            source,
            load_setup(invocation),
            Defaults(**defaults),
            template,
            needs_keys=needs_keys,
            fixes_models=fixes_models,
        )
        return list(found)

    return read_all
