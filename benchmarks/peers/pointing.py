"""Points the peers at the scripted server: the variables and files that each needs, below the home of a case."""

from __future__ import annotations

from pathlib import Path

from benchmarks.answers import CLAUDE_MODEL, MODEL
from benchmarks.server import BenchmarkServer

LLM_MODEL = "bench"


def llm(home: Path, server: BenchmarkServer) -> dict[str, str]:
    """`llm` knows further models from a file."""
    folder = home / "llm"
    folder.mkdir()
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: {LLM_MODEL}\n  model_name: {MODEL}\n  api_base: {server.base_url}\n", encoding="utf-8"
    )
    return {"LLM_USER_PATH": str(folder)}


def codex(home: Path, server: BenchmarkServer) -> dict[str, str]:
    """Codex has servers in its config. What it sends to its maker is off, else it waits seconds for it at its end."""
    folder = home / "codex"
    folder.mkdir()
    (folder / "config.toml").write_text(
        f'model = "{MODEL}"\nmodel_provider = "bench"\ncheck_for_update_on_startup = false\n'
        f"[analytics]\nenabled = false\n"
        f'[model_providers.bench]\nname = "bench"\nbase_url = "{server.base_url}"\nwire_api = "responses"\n'
        f'env_key = "OPENAI_API_KEY"\nrequest_max_retries = 0\nstream_max_retries = 0\n',
        encoding="utf-8",
    )
    return {"CODEX_HOME": str(folder)}


def claude(home: Path, server: BenchmarkServer) -> dict[str, str]:
    """Claude Code takes the server from the variable of the SDK. What it sends to its maker besides is off."""
    return {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}


POINTING = {"llm": llm, "codex": codex, "claude": claude}

TURNS: dict[str, tuple[str, ...]] = {
    "llm": ("-m", LLM_MODEL, "hi"),
    "codex": ("exec", "--skip-git-repo-check", "hi"),
    "claude": ("-p", "--output-format", "stream-json", "--verbose", "--model", CLAUDE_MODEL, "hi"),
}
"""The arguments of a short turn."""

NEXT_TURNS: dict[str, tuple[str, ...]] = {**TURNS, "llm": ("-c", *TURNS["llm"])}
"""The arguments of a turn that continues the conversation, where the program is compared by it."""

CONTINUED: dict[str, tuple[str, ...]] = {
    "llm": NEXT_TURNS["llm"],
    "codex": ("exec", "resume", "--skip-git-repo-check", "--last", "hi"),
}
"""The arguments of a turn that continues the only conversation."""

AGAINST = {"llm": "llm", "codex": "codex exec", "claude": "claude -p", "openai-agents": "openai-agents"}
"""What the table calls the peers."""
