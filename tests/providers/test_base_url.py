"""Base URLs as people write them."""

from __future__ import annotations

import pytest

from afkcli.providers.base_url import split_base_url


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://h/v1", ("http://h/v1", {})),
        ("http://h/v1/", ("http://h/v1", {})),
        ("http://h", ("http://h", {})),
        ("http://h/v1#x", ("http://h/v1", {})),
        (
            "http://h/openai/deployments/d?api-version=2024-10-21",
            ("http://h/openai/deployments/d", {"api-version": "2024-10-21"}),
        ),
        ("http://h/v1/?a=1&b=", ("http://h/v1", {"a": "1", "b": ""})),
        ("http://h/v1?key=a%2Fb", ("http://h/v1", {"key": "a/b"})),
        ("http://h/v1/chat/completions", ("http://h/v1", {})),
        ("http://h/v1/chat/completions?a=1", ("http://h/v1", {"a": "1"})),
        ("http://h/v1/responses/", ("http://h/v1", {})),
        ("http://h/api/v1/messages", ("http://h/api", {})),
    ],
)
def test_the_path_and_the_query(url: str, wanted: tuple[str, dict[str, str]]) -> None:
    assert split_base_url(url) == wanted
