"""What models the configured providers offer: asked for, all at once, and kept for a day.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from afkcli.core.contract.credentials import address_secrets
from afkcli.core.contract.errors import AfkError, MissingKeyError, UnknownNameError
from afkcli.core.contract.protocols import Capabilities, ModelInfo, Provider
from afkcli.core.contract.structs import FrozenStruct, field, replace
from afkcli.core.contract.suggestions import near_names
from afkcli.host.model_cache import ModelList, read_list, write_list
from afkcli.loading.discovery import KNOWN
from afkcli.wiring.models import DEMO_PROVIDER, is_key_kept, why_given
from afkcli.wiring.plugin_objects import make_provider
from afkcli.wiring.setup import Setup

LIST_SECONDS = 15.0
"""How long a provider has to list its models."""

CLOSE_SECONDS = 2.0

KEPT_SECONDS = 24 * 3600.0
"""How long a kept list is shown without asking again. A server on this machine is always asked."""


class Listed(FrozenStruct, kw_only=True):
    """What came of asking a provider: its models by `found`, and `problem`, a line for a person.

    `is_kept` is whether the list is one that was kept. `capabilities` are those of each model, by its id.
    """

    provider: str
    found: ModelList | None = None
    is_kept: bool = False
    problem: str | None = None
    capabilities: Mapping[str, Capabilities] = field(default_factory=dict)
    default_model: str | None = None


def configured_providers(setup: Setup) -> list[str]:
    """Return the providers that are worth asking: with a key, a server or settings, of a plugin of others, and `local`.

    Raises:
        ConfigError: the keys file cannot be used.
    """
    return [name for name in setup.plugins.names("provider") if _is_configured(setup, name)]


def _is_configured(setup: Setup, name: str) -> bool:
    known = KNOWN.get(f"provider.{name}")
    if known is None or name == DEMO_PROVIDER:
        return True
    return why_given(setup, f"provider.{name}", known) is not None or is_key_kept(setup, name)


def checked_providers(setup: Setup, names: Sequence[str]) -> list[str]:
    """Return `names`; `UnknownNameError` for one that no plugin has, with the nearest."""
    for name in names:
        if f"provider.{name}" not in setup.plugins.found:
            known = setup.plugins.names("provider")
            near = near_names(name, known)
            hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(known) or 'none'}"
            raise UnknownNameError(f"there is no provider {name!r}; {hint}")
    return list(dict.fromkeys(names))


async def list_models(setup: Setup, names: Sequence[str], *, refresh: bool) -> list[Listed]:
    """Return what the providers offer. One that fails or stalls does not hold up the others.

    Args:
        setup: the config and the plugins.
        names: the providers.
        refresh: whether they are asked although a list of today is kept.
    """
    return list(await asyncio.gather(*(_listed(setup, name, refresh=refresh) for name in names)))


async def _listed(setup: Setup, name: str, *, refresh: bool) -> Listed:
    environment = setup.invocation.environment
    try:
        provider = make_provider(setup, name)
    except MissingKeyError as error:
        return Listed(provider=name, problem=str(error))
    except Exception as error:  # a provider may come from any plugin
        return Listed(provider=name, problem=_words(error))
    try:
        server = _server(provider)
        kept = read_list(name, environment)
        kept = kept if kept is not None and kept.server == server else None
        if kept is not None and not refresh and kept.age < KEPT_SECONDS and _is_far(provider):
            return _with_capabilities(provider, Listed(provider=name, found=kept, is_kept=True))
        return _with_capabilities(provider, await _asked(setup, name, provider, server, kept))
    finally:
        await _close(provider)


async def _asked(setup: Setup, name: str, provider: Provider, server: str, kept: ModelList | None) -> Listed:
    try:
        if hasattr(type(provider), "with_key"):  # a person may have to find a passphrase, which takes its own time
            await provider.with_key()  # type: ignore[attr-defined]
        async with asyncio.timeout(LIST_SECONDS):
            models = tuple(_checked(await provider.list_models()))
    except TimeoutError:
        problem = f"did not list its models within {LIST_SECONDS:g} s"
    except Exception as error:
        problem = _words(error)
    else:
        found = ModelList(provider=name, server=server, at=time.time(), models=models)
        try:
            write_list(found, setup.invocation.environment)
        except (OSError, AfkError) as error:
            setup.notify(f"the models of {name} cannot be kept: {getattr(error, 'strerror', None) or error}")
        return Listed(provider=name, found=found)
    return Listed(provider=name, found=kept, is_kept=kept is not None, problem=problem)


def _checked(models: object) -> list[ModelInfo]:
    if not isinstance(models, (list, tuple)) or not all(isinstance(item, ModelInfo) for item in models):
        raise TypeError("its plugin lists something else than models")
    return list(models)


def _with_capabilities(provider: Provider, listed: Listed) -> Listed:
    """Return `listed` with what the provider knows of each of its models."""
    models = listed.found.models if listed.found is not None else ()
    known = {model.id: _known(provider, model.id) for model in models}
    return replace(listed, capabilities=known, default_model=provider.default_model)


def _known(provider: Provider, model: str) -> Capabilities:
    try:
        capabilities = provider.capabilities(model)
    except Exception:  # as of the code of any plugin
        return Capabilities()
    return capabilities if isinstance(capabilities, Capabilities) else Capabilities()


def _address(provider: Provider) -> str:
    return _known(provider, "").sold_by or ""


def _server(provider: Provider) -> str:
    """Return what tells the server of a provider from others, without what is secret in its address."""
    address = _address(provider)
    if not address_secrets(address):
        return address
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()


def _is_far(provider: Provider) -> bool:
    """Return whether the models are those of a server on the internet, which change rarely."""
    host = urlsplit(_address(provider)).hostname or ""
    return "." in host and host.rpartition(".")[2].isalpha() and not host.endswith((".local", ".localhost"))


async def _close(provider: Provider) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await provider.aclose()
    except Exception:  # the list is there
        return


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, AfkError) else f"{type(error).__name__}: {error}"
