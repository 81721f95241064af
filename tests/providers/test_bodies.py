"""Packed bodies: unpacked in small pieces, up to a limit, whatever they would become."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from afkcli.providers.bodies import PIECE_BYTES, BodyTooLongError, Decoder, unread_encoding

MB = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": (["gzip"], gzip.compress),
    "deflate": (["deflate"], zlib.compress),
    "raw deflate": (["deflate"], raw_deflate),
    "gzip in gzip": (["gzip", "gzip"], lambda data: gzip.compress(gzip.compress(data))),
    "gzip members": (["gzip"], lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
}


@pytest.mark.parametrize("what", PACKED)
@pytest.mark.parametrize("cut", [1, 100, 10 * MB])
def test_a_packed_body_is_read_however_it_is_cut(what: str, cut: int) -> None:
    layers, pack = PACKED[what]
    data = bytes(range(256)) * 20
    packed, decoder = pack(data), Decoder(layers, MB)
    found = [piece for start in range(0, len(packed), cut) for piece in decoder.feed(packed[start : start + cut])]

    assert b"".join(found) == data


@pytest.mark.parametrize("what", PACKED)
def test_a_small_body_that_becomes_large_ends_at_the_limit_without_becoming_it(what: str) -> None:
    layers, pack = PACKED[what]
    packed = pack(b"\0" * 64 * MB)
    tracemalloc.start()
    pieces = 0
    with pytest.raises(BodyTooLongError, match="longer than 2 MB"):
        for piece in Decoder(layers, 2 * MB).feed(packed):
            pieces += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert pieces <= 2 * MB
    assert peak < 16 * PIECE_BYTES


def test_what_is_packed_counts_too() -> None:
    with pytest.raises(BodyTooLongError):
        list(Decoder([], MB).feed(b"x" * (MB + 1)))


def test_a_damaged_body_is_an_error() -> None:
    with pytest.raises(zlib.error):
        list(Decoder(["gzip"], MB).feed(b"not gzip at all"))


@pytest.mark.parametrize(
    ("encoding", "unread"),
    [("", ""), ("identity", ""), ("gzip", ""), ("X-GZip, deflate", ""), ("br", "br"), ("gzip, zstd", "zstd")],
)
def test_an_encoding_that_is_not_read_is_named(encoding: str, unread: str) -> None:
    assert unread_encoding({"content-encoding": encoding}) == unread


def test_more_than_two_layers_are_not_read() -> None:
    assert unread_encoding({"content-encoding": "gzip, gzip, gzip"}) == "gzip, gzip, gzip"
