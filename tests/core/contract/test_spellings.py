"""A secret that comes back in another spelling, or in pieces, is masked like the one that was given."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.credentials import MASK, mask

KEY = 'sk-proj-A1b2/C3+d4=E5&f6"G7'
PASSWORD = "pässwörd-12345"
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": lambda key: quote(key, safe=""),
    "a form of a URL": quote_plus,
    "URL, in small letters": lambda key: quote(key, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
    "URL, every byte": lambda key: "".join(f"%{byte:02x}" for byte in key.encode()),
    "URL, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "JSON": json.dumps,
    "JSON, slashes escaped": lambda key: json.dumps(key).replace("/", "\\/"),
    "JSON, every character": lambda key: "".join(f"\\u{ord(char):04X}" for char in key),
    "JSON in JSON": lambda key: json.dumps(json.dumps(key)),
    "JSON in JSON in JSON": lambda key: json.dumps({"error": json.dumps({"error": json.dumps(key)})}),
    "Python": repr,
    "HTML": html.escape,
    "HTML, decimal": lambda key: "".join(f"&#{ord(char)};" for char in key),
    "HTML, hexadecimal": lambda key: "".join(f"&#X{ord(char):x};" for char in key),
    "hexadecimal": lambda key: key.encode().hex(),
    "a control character in it": lambda key: f"{key[:7]}\0{key[7:]}",
    "a character without width in it": lambda key: f"{key[:7]}\u200b{key[7:]}",
    "a colour in it": lambda key: f"{key[:9]}\x1b[31m{key[9:]}",
    "a line end in it": lambda key: f"{key[:9]}\r\n{key[9:]}",
}


@pytest.mark.parametrize("key", [KEY, PASSWORD])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_masked_in_every_spelling(spelling: str, key: str) -> None:
    spelt = SPELLINGS[spelling](key)

    masked = mask(f"you sent {spelt} to me", [key])

    assert MASK in masked
    assert masked.startswith("you sent ")
    assert masked.endswith(" to me")
    assert key[6:] not in masked
    assert spelt[6:-6] not in masked


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("before", ["", "a", "ab", "someone:" * 20])
@pytest.mark.parametrize("after", ["", "x", "yz"])
def test_base64_tells_it_wherever_it_stands_in_it(encode: Callable[[bytes], bytes], before: str, after: str) -> None:
    told = encode(f"{before}{KEY}{after}".encode()).decode()

    assert MASK in mask(f"Basic {told}", [KEY])
    assert MASK in mask(quote(told, safe=""), [KEY])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key is {KEY[:12]}", f"key is {MASK}"),
        (f"key '{KEY[:-2]}…' is wrong", f"key '{MASK}…' is wrong"),
        (f"{KEY[5:]} was the key", f"{MASK} was the key"),
        (f"line: {KEY[:20]}\nnext", f"line: {MASK}\nnext"),
        (f"in %22{quote(KEY, safe='')[:24]}", f"in %22{MASK}%3"),
    ],
)
def test_a_secret_that_is_cut_is_masked(text: str, expected: str) -> None:
    assert mask(text, [KEY]) == expected


@pytest.mark.parametrize("at", range(10, len(KEY) - 9))
def test_a_secret_in_two_pieces_is_masked_in_both(at: int) -> None:
    assert mask(f"first {KEY[:at]}", [KEY]) == f"first {MASK}"
    assert mask(f"{KEY[at:]} second", [KEY]) == f"{MASK} second"


def test_words_that_a_secret_shares_with_others_stay() -> None:
    secrets = ["application/json", "https://example.com/app1", "sk-proj-0123456789", "Token 0123456789"]
    text = "the application at https://example.com takes sk-proj- keys, and a Token; 50% & more \\o/"
    assert mask(text, secrets) == text


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(sorted(SPELLINGS)))
def test_whatever_stands_around_it_nothing_of_it_is_left(before: str, after: str, spelling: str) -> None:
    masked = mask(f"{before} {SPELLINGS[spelling](PASSWORD)} {after}", [PASSWORD])
    assert PASSWORD not in masked
    assert SPELLINGS[spelling](PASSWORD) not in masked


@given(st.text(alphabet="ab%25&#;\\u0041n\x00", max_size=60))
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert mask(text, [KEY]) == text
