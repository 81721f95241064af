"""The chat on terminals of several kinds and sizes."""

from __future__ import annotations

from afkcli.testing.model_server import Step
from tests.terminal import Terminal
from tests.terminal_pictures import Stage, scenario

SLOW = Step(text="word ", repeat=2000, delay_between=0.02)


def ask(terminal: Terminal, message: str, answer: str) -> None:
    """Type a message, and wait for its answer and for the tokens in the status line."""
    terminal.type(f"{message}\n")
    terminal.wait_for(answer)
    terminal.wait_for("tokens", anywhere=False)


@scenario("chat")
def chat(stage: Stage) -> None:
    """Ctrl-C in the middle of an answer, another question, the menu of commands, and the end."""
    stage.server.script(SLOW, Step(text="Paris is the capital of France."))
    with stage.terminal("chat", "-t", "trip") as terminal:
        terminal.wait_for("trip")
        terminal.type("Tell me everything\n")
        terminal.wait_for("word word")
        terminal.key("C-c")
        terminal.wait_for("/resume continues the answer")
        ask(terminal, "Only the capital", "Paris is the capital of France.")
        stage.picture(terminal, "interrupted")
        terminal.type("/re")
        terminal.wait_for("/retry")
        stage.picture(terminal, "menu")
        terminal.key("C-c")
        terminal.key("C-d")
        terminal.wait_for_end()
        stage.picture(terminal, "left")


@scenario("chat-paste")
def paste(stage: Stage) -> None:
    """A hundred lines are pasted, then sent by Enter."""
    with stage.terminal("chat", "-t", "trip") as terminal:
        terminal.wait_for("trip")
        terminal.paste("\n".join(f"line {number}" for number in range(100)) + "\n")
        terminal.wait_for("line 99")
        stage.picture(terminal, "before")
        terminal.key("Enter")
        terminal.wait_for("reply 1")
        stage.picture(terminal, "sent")


@scenario("chat-narrow")
def narrow(stage: Stage) -> None:
    """Wide characters and right-to-left text on 40 columns without colours."""
    with stage.terminal("chat", "-t", "a-thread-with-a-long-name", columns=40, NO_COLOR="1") as terminal:
        terminal.wait_for("a-thread")
        terminal.type("日本語のテキスト、全角 \u0645\u0631\u062d\u0628\u0627\n")
        terminal.wait_for("in, 7 out")
        terminal.type("/help undo\n")
        terminal.wait_for("Undo the last")
        stage.picture(terminal)


@scenario("chat-accessible")
def accessible(stage: Stage) -> None:
    """With ACCESSIBLE=1 nothing is drawn again."""
    with stage.terminal("chat", "-t", "trip", ACCESSIBLE="1") as terminal:
        terminal.wait_for("trip")
        terminal.type("hello\n")
        terminal.wait_for("tokens of the window used")
        terminal.key("C-c")
        terminal.wait_for("press Ctrl-C again")
        stage.picture(terminal)
