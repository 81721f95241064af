"""Where output is only ever appended."""

from __future__ import annotations

import pytest

from afkcli.host.invocation import Invocation, Stream
from afkcli.screen.display import is_append_only


@pytest.mark.parametrize(
    ("variables", "plain", "expected"),
    [
        ({"TERM": "xterm-256color"}, False, False),
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "ACCESSIBLE": "1"}, False, True),
        ({"TERM": "xterm-256color", "ACCESSIBLE": ""}, False, False),
        ({"TERM": "dumb"}, False, True),
    ],
)
def test_output_is_only_appended_for_screen_readers_and_dumb_terminals(
    variables: dict[str, str], plain: bool, expected: bool
) -> None:
    stream = Stream(1, None)
    made = Invocation(environment=variables, folder=None, stdin=stream, stdout=stream, stderr=stream)
    assert is_append_only(made, plain=plain) is expected
