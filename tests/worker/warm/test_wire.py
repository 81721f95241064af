"""The form of the hand-over: what is sent is what is received, and anything else is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.worker import wire

TEXTS = st.binary(max_size=20).filter(lambda text: b"\0" not in text)
NAMES = st.binary(min_size=1, max_size=10).filter(lambda text: b"\0" not in text and b"=" not in text)


def order(**given: object) -> wire.Order:
    values: dict[str, object] = {
        "pid": 12,
        "flags": 7,
        "umask": 0o022,
        "ignored": 1 << 12,
        "blocked": 1 << 63,
        "arguments": [b"/bin/afk", b"run", b""],
        "environment": {b"A": b"", b"B": b"=x"},
    }
    return wire.Order(**{**values, **given})  # type: ignore[arg-type]


def values(order: wire.Order) -> dict[str, object]:
    return {name: getattr(order, name) for name in wire.Order.__slots__}


def payload_of(frame: bytes) -> bytes:
    assert frame.startswith(wire.MAGIC)
    size = int.from_bytes(frame[8:12], "little")
    assert len(frame) == 12 + size
    return frame[12:]


@given(arguments=st.lists(TEXTS, min_size=1, max_size=5), environment=st.dictionaries(NAMES, TEXTS, max_size=5))
def test_what_is_sent_is_received(arguments: list[bytes], environment: dict[bytes, bytes]) -> None:
    sent = order(arguments=arguments, environment=environment)

    assert values(wire.order_of(payload_of(wire.frame(sent)))) == values(sent)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_payload_are_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        wire.order_of(data)


@given(st.integers(min_value=0, max_value=80), st.integers(min_value=0, max_value=255))
def test_a_cut_or_changed_payload_raises_nothing_else_than_a_value_error(at: int, byte: int) -> None:
    payload = bytearray(payload_of(wire.frame(order())))
    if at < len(payload):
        payload[at] = byte
    for data in (bytes(payload), bytes(payload[:at])):
        with contextlib.suppress(ValueError):
            wire.order_of(data)


def test_a_payload_of_another_version_is_refused() -> None:
    payload = payload_of(wire.frame(order()))

    with pytest.raises(ValueError, match="version"):
        wire.order_of((wire.VERSION + 1).to_bytes(4, "little") + payload[4:])


def test_a_payload_with_something_behind_it_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        wire.order_of(payload_of(wire.frame(order())) + b"x")


def test_what_is_longer_than_linux_allows_is_not_sent() -> None:
    with pytest.raises(ValueError, match="payload"):
        wire.frame(order(arguments=[b"x" * wire.MAX_PAYLOAD]))
