"""Every fault of a provider ends as the table of the design says. See `python -m tests.provider_faults`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.provider_faults.__main__ import AT_ONCE, table
from tests.provider_faults.apis import Api, installed
from tests.provider_faults.endless import ENDLESS_IN_A_CONNECTION, ENDLESS_IN_AN_ANSWER
from tests.provider_faults.faults import FAULTS, IN_AN_ANSWER, Fault
from tests.provider_faults.observe import Found, observe

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="connections are reset as POSIX does it"), pytest.mark.long]


def _pairs() -> Iterator[tuple[Fault, Api]]:
    """Yield each fault with the APIs at which it is tried.

    What the connection ends that all APIs share is tried at one of them, each in turn: such a run reads up to hundreds
    of megabytes five times. `python -m tests.provider_faults` tries it at each.
    """
    apis = installed()
    connecting = [api for api in apis if api.connects_as is None]
    for api in apis:
        faults = FAULTS if api.connects_as is None else IN_AN_ANSWER
        yield from ((fault, api) for fault in (*faults, *ENDLESS_IN_AN_ANSWER))
    for number, fault in enumerate(ENDLESS_IN_A_CONNECTION):
        yield fault, connecting[number % len(connecting)]


PAIRS = {f"{fault.name}-{api.name}": (fault, api) for fault, api in _pairs()}


@pytest.fixture(scope="module")
def observed(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Found]]]:
    """What is observed of each pair that was chosen, side by side: most of it is waiting."""
    chosen = {spec.id for item in request.session.items if (spec := getattr(item, "callspec", None)) is not None}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(observe, *pair) for name, pair in PAIRS.items() if name in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", PAIRS)
def test_a_fault_ends_as_designed(name: str, observed: dict[str, Future[Found]]) -> None:
    found = observed[name].result()
    assert not found.problems, f"\n{table([found])}"
