"""What a run waits for, told from its events.

Since: 0.2.
"""

from __future__ import annotations

from afkcli.core.contract.events import Event
from afkcli.screen.activity import Activity

_TEXTS = {
    "step_started": "waiting for the first token",
    "step_completed": "reading the answer",
    "completed": "ending",
}
_MANY = 3


class RunActivity:
    """Tells an activity what a run waits for.

    Args:
        activity: shows it.
        shows_answer: whether pieces of the answer are written to the terminal as they come.
        shows_reasoning: the same for the model's reasoning.
    """

    def __init__(self, activity: Activity, *, shows_answer: bool = True, shows_reasoning: bool = False) -> None:
        self._activity = activity
        self._shows_answer = shows_answer
        self._shows_reasoning = shows_reasoning
        self._tools: dict[str, str] = {}
        self._last = ""
        self._is_stopping = False

    def take(self, event: Event) -> None:
        """Take the next event of the run; a line that is written changes nothing of what is waited for."""
        if self._is_stopping or (event.type == self._last and event.type in ("text_delta", "reasoning_delta")):
            return
        self._last = event.type
        if event.type in _TEXTS:
            self._activity.show(_TEXTS[event.type])
            self._tools.clear()  # a call that was cancelled is not completed
        elif event.type == "text_delta":
            self._stream("the model is writing its answer", is_shown=self._shows_answer)
        elif event.type == "reasoning_delta":
            self._stream("the model is reasoning", is_shown=self._shows_reasoning)
        elif event.type == "tool_call_delta":
            self._activity.show(f"the model is writing a call of {event.tool_name}")
        elif event.type == "retrying":
            self._activity.count_down("trying again", event.delay_s, then=_TEXTS["step_started"])
        else:
            self._take_tool(event)

    def _take_tool(self, event: Event) -> None:
        if event.type == "approval_requested":
            self._activity.show(f"waiting for a decision on {event.tool_name}")
        elif event.type == "tool_started":
            self._tools[event.tool_call_id] = event.tool_name
            self._wait_for_tools()
        elif event.type == "tool_completed":
            self._tools.pop(event.tool_call_id, None)
            self._wait_for_tools()
        elif event.type == "approval_resolved":
            self._wait_for_tools()

    def stopping(self) -> None:
        """Say that the run is stopped, and what of it has to end."""
        self._activity.show("stopping; Ctrl-C again ends at once")
        self._is_stopping = True

    def _stream(self, what: str, *, is_shown: bool) -> None:
        if is_shown:
            self._activity.show_silence("waiting for more of the answer")
        else:
            self._activity.show(what)

    def _wait_for_tools(self) -> None:
        names = list(self._tools.values())
        if len(names) > _MANY:
            self._activity.show(f"waiting for {len(names)} tools")
        elif names:
            self._activity.show(f"waiting for the tool{'s' if len(names) > 1 else ''} {' and '.join(names)}")
        else:
            self._activity.show("starting the next step")
