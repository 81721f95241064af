"""The names of models that are known without asking anybody: of the config, of the plugins, and of kept lists.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from afkcli.core.contract.suggestions import near_names
from afkcli.core.contract.text import one_line
from afkcli.host.model_cache import read_lists
from afkcli.wiring.setup import Setup

_NEAR = 3


def known_models(setup: Setup) -> dict[str, str]:
    """Return the names by which models can be chosen, each with a description, which may be empty."""
    return dict(_named(setup))


def _named(setup: Setup) -> Iterator[tuple[str, str]]:
    for file in setup.config.files:
        for alias, name in file.table.get("models", {}).items():
            yield alias, one_line(str(name))
    for name in setup.plugins.names("provider"):
        yield name, "the default model of this provider"
    for kept in read_lists(setup.invocation.environment):
        for model in kept.models:
            yield f"{kept.provider}/{model.id}", model.description


def near_models(setup: Setup, name: str) -> Sequence[str]:
    """Return the known names of models that are near to a name, the nearest first."""
    known = dict(_named(setup))
    if "/" in name:
        return near_names(name, [full for full in known if "/" in full], most=_NEAR)
    bare = {full.partition("/")[2]: full for full in known if "/" in full}
    found = near_names(name, [*known, *bare], most=_NEAR)
    return list(dict.fromkeys(item if item in known else bare[item] for item in found))
