"""`--dry-run`: the request that would be sent, on stdout, to the letter; nothing is sent and nothing is written."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import LIMIT, Finished, Shell
from tests.e2e.test_approvals import PLUGIN, config

KEY = "sk-canary-0123456789"
PDF = b"%PDF-1.4\n" + bytes(range(256)) * 40


class RawServer:
    """Keeps each request as it came: its path, its headers, and the bytes of its body. It answers none."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        seen = self.requests

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen.append((self.path, headers, body))
                said = b'{"error": {"message": "no"}}'
                self.send_response(400)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the inherited name)
                """Write nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def raw() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.close()


def shown(done: Finished) -> dict[str, Any]:
    assert done.code == 0, done.err
    form: dict[str, Any] = json.loads(done.out)
    return form


def body_of(done: Finished) -> bytes:
    """Return the body to the letter: it is the last field of the object."""
    return done.out.partition('"body": ')[2].removesuffix("\n}\n").encode()


APIS = {
    "chat": ("openai/gpt-5.2-mini", "[providers.openai]\napi = 'chat'\n", "/v1/chat/completions"),
    "responses": ("openai/gpt-5.2-mini", "[providers.openai]\napi = 'responses'\n", "/v1/responses"),
    "messages": ("anthropic/claude-sonnet-5-5", "", "/v1/messages"),
}


@pytest.mark.parametrize("api", APIS)
def test_it_is_what_a_server_then_receives_byte_for_byte(shell: Shell, raw: RawServer, api: str) -> None:
    """Text beyond ASCII, an attachment, tools, options and a schema are in it."""
    model, settings, path = APIS[api]
    (shell.folder / "pen.py").write_text(PLUGIN)
    (shell.folder / "paper.pdf").write_bytes(PDF)
    config(shell, settings)
    shell.env.update(
        OPENAI_BASE_URL=f"{raw.url}/v1",
        OPENAI_API_KEY=KEY,
        ANTHROPIC_BASE_URL=raw.url,
        ANTHROPIC_API_KEY=KEY,
    )
    schema = json.dumps({"type": "object", "properties": {"größe": {"type": "number"}}, "required": ["größe"]})
    arguments = ("-m", model, "-o", "max_output_tokens=500", "-s", "Sei kurz: „so“ \\ \u2028.", "--schema", schema)
    tools = ("--plugin", "pen.py", "--tool", "pen.*", "--attach", "paper.pdf")
    dry = shell.afk("run", "-n", "--dry-run", *arguments, *tools, "Wie groß? 🎈\n")
    assert raw.requests == []
    shell.afk("run", "-n", *arguments, *tools, "Wie groß? 🎈\n")

    form, (real_path, real_headers, real_body) = shown(dry), raw.requests[0]
    assert body_of(dry) == real_body
    assert form["body"] == json.loads(real_body)
    assert real_path == path
    assert (form["method"], form["url"]) == ("POST", f"{raw.url}{path}")
    masked = {name: "***" if "key" in name else value.replace(KEY, "***") for name, value in real_headers.items()}
    assert form["headers"] == masked
    assert KEY not in dry.out + dry.err


@pytest.mark.parametrize(
    ("model", "host"),
    [("openai/gpt-5.2", "https://api.openai.com/v1/responses"), ("anthropic", "https://api.anthropic.com/v1/messages")],
)
def test_it_needs_no_key(shell: Shell, model: str, host: str) -> None:
    form = shown(shell.afk("run", "-n", "--dry-run", "-m", model, "hi"))

    assert form["url"] == host
    assert "***" in form["headers"].get("x-api-key", form["headers"].get("authorization"))


def test_the_history_of_the_thread_is_in_it_and_nothing_is_written(keyed: Shell, server: ModelServer) -> None:
    keyed.afk("run", "-t", "trip", "first")
    before = keyed.afk("threads", "show", "trip", "--raw").out, len(keyed.log())
    done = keyed.afk("run", "-t", "trip", "--dry-run", "second")
    again = keyed.afk("run", "-c", "--dry-run", "second")

    texts = [message["content"] for message in shown(done)["body"]["messages"]]
    assert texts == ["first", "reply 1: first", "second"]
    assert again.out == done.out
    assert done.err == ""
    assert (keyed.afk("threads", "show", "trip", "--raw").out, len(keyed.log())) == before
    assert len(server.requests) == 1


def test_a_new_thread_is_not_made(keyed: Shell, server: ModelServer) -> None:
    assert keyed.afk("run", "-t", "new", "--dry-run", "hi").code == 0
    assert keyed.afk("run", "--dry-run", "hi").code == 0

    assert "new" not in keyed.afk("threads").out
    assert server.requests == []
    assert keyed.log() == []


def test_what_is_left_out_of_a_long_conversation_is_said(keyed: Shell, server: ModelServer) -> None:
    config(keyed, '[windows]\n"openai/gpt-5.2-mini" = 4000\n')
    server.script(*[Step(text="word " * 1500)] * 3)
    for _ in range(3):
        keyed.afk("run", "-t", "long", "More.")
    done = keyed.afk("run", "-t", "long", "--dry-run", "More.")
    sent = keyed.afk("run", "-t", "long", "More.")

    assert "left out of the request: turn" in done.err
    assert sent.code == 0
    assert shown(done)["body"] == server.bodies[-1]


def test_a_question_that_is_asked_again(keyed: Shell, server: ModelServer) -> None:
    keyed.afk("run", "-t", "trip", "first")
    done = keyed.afk("run", "-n", "-t", "trip", "--retry", "--dry-run")

    assert [message["content"] for message in shown(done)["body"]["messages"]] == ["first"]
    assert "replaced" not in keyed.afk("threads", "show", "trip", "--raw").out


def test_a_message_that_is_too_long_ends_as_the_run_would(keyed: Shell) -> None:
    config(keyed, '[windows]\n"openai/gpt-5.2-mini" = 1000\n')
    done = keyed.afk("run", "-n", "--dry-run", "word " * 3000)

    assert (done.code, done.out) == (4, "")
    assert "tokens" in done.err


def test_a_price_that_is_unknown_refuses_it_as_the_run(keyed: Shell) -> None:
    done = keyed.afk("run", "-n", "--dry-run", "--max-cost", "1", "-m", "openai/no-such-model", "hi")

    assert (done.code, done.out) == (2, "")


def test_a_cost_limit_asks_no_server_to_count(shell: Shell, raw: RawServer) -> None:
    config(shell, '[prices]\n"anthropic/claude-sonnet-5-5" = { input = 1, output = 1 }\n')
    shell.env.update(ANTHROPIC_BASE_URL=raw.url, ANTHROPIC_API_KEY=KEY)
    done = shell.afk("run", "-n", "--dry-run", "--max-cost", "1", "-m", "anthropic/claude-sonnet-5-5", "hi")

    assert shown(done)["body"]["messages"]
    assert raw.requests == []


OWN = """
from afkcli import hookimpl
from afkcli.plugin import Message, ModelResponse, FinishReason, Role, TextPart
from afkcli.providers.base import BaseProvider
AFK_HOOKS = 1
AFK_NAME = "own"

class Own(BaseProvider):
    name = "own"
    default_model = "m"
    async def stream(self, request):
        raise SystemExit("it was asked")
        yield

@hookimpl
def afk_provider(settings):
    return Own()
"""


def test_of_a_provider_that_cannot_say_what_it_sends_the_neutral_request_is_shown(shell: Shell) -> None:
    (shell.folder / "own.py").write_text(OWN)
    done = shell.afk("run", "-n", "--dry-run", "--plugin", "own.py", "-m", "own", "hi")

    form = shown(done)
    assert form["provider"] == "own"
    assert form["request"]["model"] == "own/m"
    assert form["request"]["messages"] == [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]
    assert "the provider 'own' cannot say what it would send" in done.err


def test_the_model_in_this_process_has_a_body_and_no_address(shell: Shell) -> None:
    form = shown(shell.afk("run", "-n", "--dry-run", "hi"))

    assert set(form) == {"provider", "body"}
    assert form["body"]["messages"][-1] == {"role": "user", "content": "hi"}


def test_a_key_in_the_question_is_masked(keyed: Shell) -> None:
    done = keyed.afk("run", "-n", "--dry-run", f"My key is {KEY}.")

    assert shown(done)["body"]["messages"][0]["content"] == "My key is ***."


def test_on_a_terminal_the_content_of_an_attachment_is_shortened(keyed: Shell) -> None:
    (keyed.folder / "paper.pdf").write_bytes(PDF)
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "run", "-n", "--dry-run", "--attach", "paper.pdf", "Read.")
        terminal.wait_for("}\r\n}\r\n")
        assert process.wait(LIMIT) == 0
    size = 4 * -(-len(PDF) // 3)
    assert f"base64,[{size} characters of base64]" in terminal.seen
    assert terminal.seen.startswith("{")
    assert len(terminal.seen) < 3000


def test_the_file_of_a_run_that_is_only_shown_is_not_there(keyed: Shell, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    keyed.afk("run", "--no-memory", "-n", "--dry-run", "hi")

    assert sorted(tmp_path.rglob("*")) == before
