"""An event that is not as the schema says fails the test that emitted it, or whose log has it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from afkcli.core.contract.events import StepCompleted, TextDeltaEvent, event_to_json
from afkcli.core.contract.messages import FinishReason, Role, text_message
from afkcli.core.contract.result import Usage
from afkcli.core.run.handle import EventChannel
from tests.event_checks import EVENTS

HEADER: dict[str, Any] = {
    "run_id": "0197",
    "thread_id": "t",
    "thread_key": "key",
    "turn": 1,
    "seq": 3,
    "ts": "2026-01-01T00:00:00.000Z",
    "step": 1,
}
ANSWER: dict[str, Any] = {"message": text_message(Role.ASSISTANT, "a"), "usage": Usage()}


def found() -> list[str]:
    problems = list(EVENTS.problems)
    EVENTS.problems.clear()
    return problems


def test_an_emitted_event_is_checked_also_after_many_like_it() -> None:
    channel = EventChannel()
    for _ in range(3):
        channel.put(TextDeltaEvent(**HEADER, text_delta="a"))
        channel.put(StepCompleted(**HEADER, **ANSWER, finish_reason=FinishReason.STOP))
    assert found() == []
    channel.put(TextDeltaEvent(**HEADER, text_delta=3))  # type: ignore[arg-type]
    assert found() == ["text_delta: text_delta: 3 is not of type 'string'"]
    channel.put(StepCompleted(**HEADER, **ANSWER, finish_reason="tired"))  # type: ignore[arg-type]
    assert "finish_reason: 'tired' is not one of" in found()[0]


def test_a_line_of_a_log_is_checked_unless_it_is_torn_or_no_event(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    line = event_to_json(TextDeltaEvent(**HEADER, text_delta="a"))
    other = json.dumps({**json.loads(line), "text_delta": None}, separators=(",", ":"))
    log.write_text(f'{line}\n{{"type":"note"}}\n{line[:40]}\n{line[:40]}')
    EVENTS.check_logs([log])
    assert found() == []
    log.write_text(f"{line}\n{other}\n")
    EVENTS.check_logs([log])
    assert found() == ["text_delta: text_delta: None is not of type 'string'"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "link.jsonl").symlink_to("/dev/zero")
    EVENTS.check_logs(tmp_path.glob("*.jsonl"))
    assert found() == []
