"""Every fault of a provider ends as the table of the design says. See `python -m tests.provider_faults`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.provider_faults.__main__ import AT_ONCE, table
from tests.provider_faults.apis import installed
from tests.provider_faults.endless import ENDLESS, ENDLESS_IN_AN_ANSWER
from tests.provider_faults.faults import FAULTS, IN_AN_ANSWER
from tests.provider_faults.observe import Found, observe

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="connections are reset as POSIX does it"), pytest.mark.long]

PAIRS = {
    f"{fault.name}-{api.name}": (fault, api)
    for api in installed()
    for fault in ((*FAULTS, *ENDLESS) if api.connects_as is None else (*IN_AN_ANSWER, *ENDLESS_IN_AN_ANSWER))
}


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
