"""`afk models`, the completion of models, and model servers that `afk doctor` finds."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_server import ModelServer, Step
from afkcli.wiring import local_servers, model_lists
from afkcli.wiring.local_servers import LocalServer
from tests.commands.conftest import Install, on_terminal
from tests.e2e.shell import Shell

Answer = Callable[[str], "tuple[int, bytes] | None"]
"""Returns the status and the body for a path; None to say nothing."""


class Server:
    """A server that answers GET requests from a script, and keeps their paths."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                said = answer(self.path)
                if said is None:
                    outer.released.wait(60)
                    return
                self.send_response(said[0])
                self.send_header("Content-Length", str(len(said[1])))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(said[1])

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def serving(answer: Any) -> Iterator[Server]:
    """Run a server; `answer` is a function, a status with a body, or what is said as JSON."""
    said = answer if callable(answer) else lambda path: answer if isinstance(answer, tuple) else _json(answer)
    server = Server(said)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.http.shutdown()
        server.http.server_close()


def _json(value: Any) -> tuple[int, bytes]:
    return 200, json.dumps(value).encode()


def user_config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def models(shell: Shell, *arguments: str, **env: str) -> dict[str, dict[str, Any]]:
    done = shell.in_process("models", "--json", *arguments, **env)
    assert done.code == 0, done.err
    return {row["model"]: row for row in done.events}


def test_each_provider_says_what_it_offers_with_window_price_and_alias(shell: Shell) -> None:
    user_config(
        shell,
        '[models]\nfast = "openai/small"\n[prices."openai/small"]\ninput = 0.5\noutput = 2\n'
        '[windows]\n"openai/small" = 9000\n',
    )
    with serving({"data": [{"id": "small"}, {"id": "large", "context_length": 64000}]}) as server:
        rows = models(shell, OPENAI_BASE_URL=server.url)
    assert rows["openai/small"]["context_tokens"] == 9000
    assert rows["openai/small"]["price"] == {"input": 0.5, "output": 2}
    assert rows["openai/small"]["aliases"] == ["fast"]
    assert rows["openai/large"]["context_tokens"] == 64000
    assert rows["openai/large"]["price"] is None
    assert rows["local/smollm2-135m-instruct"]["default"]
    out = shell.in_process("models", OPENAI_BASE_URL="http://127.0.0.1:1/v1").out
    assert [line.split()[:3] for line in out.splitlines() if "large" in line] == []  # that is another server
    with serving({"data": [{"id": "large"}]}) as server:
        out = shell.in_process("models", OPENAI_BASE_URL=server.url).out
    assert [line.split()[:4] for line in out.splitlines() if "/large" in line] == [
        ["openai/large", "unknown", "unknown", "-"]
    ]


def test_words_choose_the_models_that_have_all_of_them(shell: Shell) -> None:
    listed = {"data": [{"id": "qwen-coder"}, {"id": "qwen"}, {"id": "x", "display_name": "A coder by Qwen"}]}
    with serving(listed) as server:
        shell.env["OPENAI_BASE_URL"] = server.url
        assert set(models(shell, "-q", "QWEN coder")) == {"openai/qwen-coder", "openai/x"}
        assert set(models(shell, "-q", "qwen", "-q", "coder")) == {"openai/qwen-coder", "openai/x"}
        done = shell.in_process("models", "-q", "nothing-like-it")
    assert (done.code, done.out) == (0, "")
    assert done.err == "afk: no model has the words 'nothing-like-it'\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b"not found"), "(404)"),
        ((401, b'{"error": {"message": "bad key"}}'), "refused the key"),
        ((200, b"<!DOCTYPE html><title>Sign in</title>"), "is not JSON"),
        ((200, b""), "is not JSON"),
        ((200, b'{"error": "no models here"}'), "is not a list of models"),
        ((503, b"starting"), "503"),
    ],
)
def test_a_provider_that_fails_is_named_in_a_line_and_hides_no_other(
    shell: Shell, answer: tuple[int, bytes], said: str
) -> None:
    with serving(answer) as server:
        done = shell.in_process("models", OPENAI_BASE_URL=server.url)
        alone = shell.in_process("models", "--provider", "openai", OPENAI_BASE_URL=server.url)
    assert done.code == 0
    assert "local/smollm2" in done.out
    assert done.err.startswith("afk: openai: ")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert (alone.code, alone.out) == (4, "")


def test_a_provider_that_stalls_does_not_hold_up_the_others(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_lists, "LIST_SECONDS", 3.0)
    with serving(lambda path: None) as server:
        done = shell.in_process("models", OPENAI_BASE_URL=server.url)
        server.released.set()
    assert done.code == 0
    assert "local/smollm2" in done.out
    assert "openai: did not list its models within 3 s" in done.err


def cache_file(shell: Shell, provider: str = "openai") -> Path:
    return shell.home / "afk" / "cache" / "models" / f"{provider}.json"


def test_a_server_that_is_gone_is_answered_from_the_kept_list_with_its_age(shell: Shell) -> None:
    with serving({"data": [{"id": "small"}]}) as server:
        shell.env["OPENAI_BASE_URL"] = server.url
        assert models(shell)["openai/small"]["kept"] is False
    kept = json.loads(cache_file(shell).read_text())
    cache_file(shell).write_text(json.dumps({**kept, "at": time.time() - 3 * 3600}))

    done = shell.in_process("models")

    assert done.code == 0
    assert "openai/small" in done.out
    assert "3 h ago" in done.out
    assert "; this is its list of 3 h ago" in done.err
    assert cache_file(shell).stat().st_mode & 0o777 == 0o600


def test_a_list_of_another_server_is_not_shown(shell: Shell) -> None:
    with serving({"data": [{"id": "small"}]}) as server:
        models(shell, OPENAI_BASE_URL=server.url)
    done = shell.in_process("models", "--provider", "openai", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert (done.code, done.out) == (4, "")


def test_a_kept_list_of_the_internet_is_shown_for_a_day_and_then_asked_for_again(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_lists, "_is_far", lambda provider: True)
    with serving({"data": [{"id": "small"}]}) as server:
        shell.env["OPENAI_BASE_URL"] = server.url
        models(shell)
        assert models(shell)["openai/small"]["kept"] is True
        assert len(server.asked) == 1
        models(shell, "--refresh")
        assert len(server.asked) == 2
        kept = json.loads(cache_file(shell).read_text())
        cache_file(shell).write_text(json.dumps({**kept, "at": time.time() - 2 * 86400}))
        models(shell)
        assert len(server.asked) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"v": 1}', '{"models": 7}', "\x00\xff"])
def test_a_damaged_cache_is_no_list(shell: Shell, content: str) -> None:
    cache_file(shell).parent.mkdir(parents=True)
    cache_file(shell).write_text(content)
    with serving({"data": [{"id": "small"}]}) as server:
        assert "openai/small" in models(shell, OPENAI_BASE_URL=server.url)


def test_a_cache_that_cannot_be_written_is_a_line_and_no_failure(shell: Shell) -> None:
    (shell.home / "afk").mkdir()
    (shell.home / "afk" / "cache").write_text("in the way")
    with serving({"data": [{"id": "small"}]}) as server:
        done = shell.in_process("models", OPENAI_BASE_URL=server.url)
    assert done.code == 0
    assert "openai/small" in done.out
    assert "the models of openai cannot be kept" in done.err


def test_ten_thousand_models_are_listed(shell: Shell) -> None:
    about = {"description": "x" * 500, "object": "model"}
    with serving({"data": [{"id": f"vendor/model-{number}", **about} for number in range(10_000)]}) as server:
        assert len(models(shell, "--provider", "openai", OPENAI_BASE_URL=server.url)) == 10_000


def test_names_and_descriptions_are_safe_for_a_terminal(shell: Shell) -> None:
    listed = {"data": [{"id": "bad\x1b[2J"}, {"id": "good", "description": "\x1b[31mred\u202etxt"}]}
    with serving(listed) as server:
        code, seen = on_terminal(shell, "models", "--provider", "openai", OPENAI_BASE_URL=server.url, NO_COLOR="1")
    assert code == 0
    assert "openai/good" in seen
    assert "bad" not in seen
    assert "\x1b[31m" not in seen
    assert "\u202e" not in seen


def test_the_pages_of_anthropics_list_are_put_together(shell: Shell) -> None:
    def answer(path: str) -> tuple[int, bytes]:
        if "after_id=claude-b" in path:
            return _json({"data": [{"id": "claude-c"}], "has_more": False, "last_id": "claude-c"})
        first = [{"id": "claude-a", "display_name": "Claude A"}, {"id": "claude-b"}]
        return _json({"data": first, "has_more": True, "last_id": "claude-b"})

    with serving(answer) as server:
        rows = models(shell, ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY="sk-canary-0123456789")
    assert [name for name in rows if name.startswith("anthropic/")] == [
        "anthropic/claude-a",
        "anthropic/claude-b",
        "anthropic/claude-c",
    ]
    assert rows["anthropic/claude-a"]["description"] == "Claude A"


def test_pages_that_never_end_are_left_after_the_first_that_repeats(shell: Shell) -> None:
    with serving({"data": [{"id": "claude-a"}], "has_more": True, "last_id": "claude-a"}) as server:
        models(shell, "--provider", "anthropic", ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY="sk-canary-01234")
        assert len(server.asked) == 2


def test_a_plugin_that_raises_or_lists_something_else_is_named(shell: Shell, install: Install) -> None:
    source = """
from afkcli.plugin import BaseProvider, hookimpl
AFK_HOOKS = 1
class Odd(BaseProvider):
    name = "{name}"
    async def stream(self, request):
        raise NotImplementedError
        yield
    async def list_models(self):
        {body}
@hookimpl
def afk_provider():
    return Odd()
"""
    install(
        "odd",
        {"afk": {"provider.odd": "odd", "provider.raises": "raises"}},
        odd=source.format(name="odd", body="return ['a']"),
        raises=source.format(name="raises", body="raise RuntimeError('no list')"),
    )
    done = shell.afk("models")
    assert done.code == 0
    assert "odd: TypeError: its plugin lists something else than models" in done.err
    assert "raises: RuntimeError: no list" in done.err
    assert "local/smollm2" in done.out


def test_no_provider_of_that_name_gets_the_nearest(shell: Shell) -> None:
    done = shell.in_process("models", "--provider", "opnai")
    assert done.code == 2
    assert "did you mean 'openai'?" in done.err


def completed(shell: Shell, words: str) -> list[str]:
    done = shell.in_process(
        _AFK_COMPLETE="zsh_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - (words[-1] != " "))
    )
    return done.out.splitlines()[1::3]  # the kind, the text and the description of each, a line for each


def test_models_are_completed_from_kept_lists_and_names_without_a_request(shell: Shell) -> None:
    user_config(shell, '[models]\nfast = "openai/small"\n')
    with serving({"data": [{"id": "small"}, {"id": "large"}]}) as server:
        shell.env["OPENAI_BASE_URL"] = server.url
        models(shell)
        asked = len(server.asked)
        assert completed(shell, "afk run -m openai/") == ["openai/large", "openai/small"]
        assert completed(shell, "afk run -m fa") == ["fast"]
        assert "openai" in completed(shell, "afk run -m op")
        assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "smal"), "did you mean 'openai/small'?"),
        (("-m", "fats"), "did you mean 'fast'?"),
        (("-m", "lokal"), "did you mean 'local'?"),
        (("-m", "opnai/small"), "did you mean 'openai'?"),
        (("-a", "poett"), "did you mean 'poet'?"),
    ],
)
def test_a_slip_in_a_model_provider_or_agent_gets_the_near_one(
    shell: Shell, arguments: tuple[str, ...], said: str
) -> None:
    user_config(shell, '[models]\nfast = "openai/small"\n[agents.poet]\ninstructions = "Rhyme."\n')
    with serving({"data": [{"id": "small"}]}) as server:
        shell.env["OPENAI_BASE_URL"] = server.url
        models(shell)
    done = shell.in_process("run", *arguments, "Hi")
    assert done.code == 2
    assert said in done.err


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what replaces the ports at which servers are looked for."""

    def use(**at: int) -> None:
        table = tuple(LocalServer(name=name.replace("_", " "), port=port) for name, port in at.items())
        monkeypatch.setattr(local_servers, "LOCAL_SERVERS", table)

    return use


def findings(shell: Shell, *arguments: str) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in shell.in_process("doctor", "--json", *arguments).events}


def test_a_server_that_runs_is_offered_with_two_lines_that_work(shell: Shell, ports: Any) -> None:
    with ModelServer() as server:
        ports(Ollama=int(server.base_url.rpartition(":")[2].partition("/")[0]))
        row = findings(shell)["server Ollama"]
        assert row["status"] == "ok"
        assert row["detail"].startswith(f"runs at {server.base_url} with scripted-large, scripted-small")
        assert len(row["lines"]) == 2
        printed = shell.in_process("doctor").out.splitlines()
        assert [f"    {line}" for line in row["lines"]] == [line for line in printed if line.startswith("    export ")]

        page = (Path(__file__).parents[2] / "docs" / "how-to" / "local-models.md").read_text()
        for line in row["lines"]:
            assert line.partition("=")[0] in page
            name, _, value = line.removeprefix("export ").partition("=")
            shell.env[name] = value
        done = shell.in_process("run", "Hi")
        assert done.code == 0, done.err
        assert server.requests[-1].body["model"] == "scripted-large"
        after = findings(shell)["server Ollama"]
        assert after["detail"].endswith("; [providers.openai] uses it")
        assert after["lines"] == []


@pytest.mark.parametrize(
    "answer",
    [
        (404, b"{}"),
        (401, b'{"error": "key"}'),
        (200, b"<html>Jenkins</html>"),
        (200, b'{"error": "model name is empty"}'),
        (200, b""),
        (302, b""),
        (200, b"\xff\xfe"),
    ],
)
def test_another_service_on_such_a_port_is_left_out(shell: Shell, ports: Any, answer: tuple[int, bytes]) -> None:
    with serving(answer) as server:
        ports(llama=server.port)
        assert not [check for check in findings(shell) if check.startswith("server")]
        assert server.asked == ["/v1/models"]


def test_silent_closed_and_binary_ports_are_left_out_and_the_others_are_found(
    shell: Shell, ports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(local_servers, "PROBE_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as binary:

        def talk() -> None:
            connection, _ = binary.accept()
            with connection:
                connection.sendall(os.urandom(200_000).replace(b"\r", b"x"))

        threading.Thread(target=talk, daemon=True).start()
        with serving([{"id": "nomic-embed-text"}, {"id": "qwen3:8b; id"}]) as server:
            ports(silent=silent.getsockname()[1], binary=binary.getsockname()[1], closed=9, LM_Studio=server.port)
            rows = findings(shell)
    assert [check for check in rows if check.startswith("server")] == ["server LM Studio"]
    assert rows["server LM Studio"]["lines"][1] == "export AFK_MODEL='openai/qwen3:8b; id'"


def test_a_server_without_a_model_that_answers_is_named(shell: Shell, ports: Any) -> None:
    with serving({"data": None}) as server:
        ports(Ollama=server.port)
        assert findings(shell)["server Ollama"]["detail"].endswith("has no model that can answer")


def test_a_model_that_the_server_does_not_know_gets_the_near_one(shell: Shell) -> None:
    with serving({"data": [{"id": "qwen-coder"}]}) as server:
        shell.env["OPENAI_BASE_URL"] = server.url
        models(shell)
    with ModelServer([Step(status=404, body="no such model")]) as refusing:
        done = shell.in_process("run", "-m", "openai/qwen-codr", "Hi", OPENAI_BASE_URL=refusing.base_url)
        quiet = shell.in_process("run", "-q", "-m", "openai/qwen-codr", "Hi", OPENAI_BASE_URL=refusing.base_url)
    assert done.code == 4
    assert "did you mean openai/qwen-coder? `afk models` lists what your providers offer" in done.err
    assert "did you mean" not in quiet.err


def test_a_key_that_a_command_prints_is_got_once_and_its_failure_leaves_the_kept_list(shell: Shell) -> None:
    ran = shell.folder / "ran"
    words = [sys.executable, "-c", f"open({str(ran)!r}, 'a').write('x'); print('sk-1')"]
    with serving({"data": [{"id": "small"}]}) as server:
        shell.env["OPENAI_BASE_URL"] = server.url
        user_config(shell, f"[providers.openai]\napi_key_command = {json.dumps(words)}\n")
        assert "openai/small" in models(shell)
        assert ran.read_text() == "x"
        user_config(shell, "[providers.openai]\napi_key_command = ['false']\n")
        done = shell.in_process("models")
    assert done.code == 0
    assert "openai: [providers.openai] api_key_command" in done.err
    assert "it failed with exit code 1; this is its list of" in done.err
    assert "openai/small" in done.out


def test_a_long_name_is_shown_whole_on_a_narrow_terminal(shell: Shell) -> None:
    name = "accounts/somebody/models/a-model-with-a-very-long-name-405b-instruct"
    with serving({"data": [{"id": name}]}) as server:
        code, seen = on_terminal(shell, "models", "--provider", "openai", columns=40, OPENAI_BASE_URL=server.url)
    assert code == 0
    assert f"openai/{name}" in seen


@pytest.mark.parametrize(
    ("columns", "head"),
    [
        (100, ["MODEL", "WINDOW", "$", "IN/OUT", "ALIAS", "LISTED", "WHAT"]),
        (60, ["MODEL", "WINDOW", "$", "IN/OUT", "ALIAS"]),
        (40, ["MODEL", "WINDOW"]),
    ],
)
def test_columns_for_which_there_is_no_room_are_left_out(shell: Shell, columns: int, head: list[str]) -> None:
    with serving({"data": [{"id": "a-model-of-a-usual-name"}]}) as server:
        seen = on_terminal(
            shell, "models", "--provider", "openai", NO_COLOR="1", columns=columns, OPENAI_BASE_URL=server.url
        )[1]
    lines = seen.split("\r\n")
    assert lines[0].split() == head
    assert max(map(len, lines)) <= columns
