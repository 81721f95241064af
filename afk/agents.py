"""Agents, as the seed page imports them; the code is in `afkcli`."""

from afkcli import Agent, AgentResult, FailSafeConfig, ToolError, tool

__all__ = ["Agent", "AgentResult", "FailSafeConfig", "ToolError", "tool"]
