"""The runner, as the seed page imports it; the code is in `afkcli`."""

from afkcli import AgentResult, MemoryStore, Runner, RunnerConfig

__all__ = ["AgentResult", "MemoryStore", "Runner", "RunnerConfig"]
