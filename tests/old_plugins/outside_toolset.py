"""Tools that are not known before a server was asked, written for afk 0.1."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import afkcli.core.tools
from afkcli.core.errors import ConfigError
from afkcli.core.schemas import schema_problem
from afkcli.core.tasks import started
from afkcli.render import Messages, one_line
from afkcli.settings import SECRETS, fill_settings

from afkcli import hookimpl

AFK_HOOKS = 1

SCHEMA = {"type": "object", "properties": {"plant": {"type": "string"}}, "required": ["plant"]}


@dataclass
class Bed:
    plant: str = ""
    token: str = field(default="", metadata={"secret": True})


@dataclass
class Settings:
    beds: dict[str, Any] = field(default_factory=dict)


def take(settings: Bed) -> None: ...


class Beds:
    def __init__(self, settings: Settings) -> None:
        self.beds = {name: self._bed(name, table) for name, table in settings.beds.items()}
        self.namespaces = list(self.beds)

    def _bed(self, name: str, table: Any) -> Bed:
        if not isinstance(table, dict):
            raise ConfigError(f"[tools.outside_beds.beds.{name}] is not a table")
        return fill_settings(take, table, f"[tools.outside_beds.beds.{name}]", SECRETS)

    async def list_tools(self, namespaces: Sequence[str]) -> list[afkcli.core.tools.Tool]:
        assert schema_problem(SCHEMA) is None
        await started(asyncio.sleep(0))
        for name in namespaces:
            Messages().warn(one_line(f"asked the bed {name} of {self.beds[name].token}"))
        return [
            afkcli.core.tools.Tool(
                name=f"{name}.sow",
                description="Sow a plant.",
                function=types.MethodType(sow, self.beds[name]),
                changes=False,
                parameters=SCHEMA,
            )
            for name in namespaces
        ]

    async def aclose(self) -> None:
        pass


def sow(bed: Bed, arguments: dict[str, Any]) -> str:
    return f"sowed {arguments['plant']} beside {bed.plant}"


@hookimpl
def afk_tools(settings: Settings) -> Beds:
    return Beds(settings)
