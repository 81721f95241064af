"""Images that tools return: a real MCP server, real processes, and what each model's API was sent."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, Step
from tests.e2e.shell import LIMIT, Finished, Shell, kill

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR and so on"
GIF = b"GIF89a and so on"
IN_BASE64 = base64.b64encode(PNG).decode()
DIGEST = hashlib.sha256(PNG).hexdigest()

MCP_SERVER = f"""
import base64
from mcp.server import MCPServer
from mcp_types import AudioContent, BlobResourceContents, CallToolResult, EmbeddedResource, ImageContent, TextContent

server = MCPServer("camera")
PNG, GIF = {base64.b64encode(PNG)!r}.decode(), {base64.b64encode(GIF)!r}.decode()


@server.tool()
def shot() -> CallToolResult:
    "Take a picture."
    image = ImageContent(type="image", data=PNG, mime_type="image/png")
    return CallToolResult(content=[TextContent(type="text", text="a bean"), image])


@server.tool()
def album() -> CallToolResult:
    "All kinds of things."
    blob = BlobResourceContents(uri="album://1", blob=GIF, mime_type="image/gif")
    return CallToolResult(content=[
        ImageContent(type="image", data=PNG, mime_type="text/html"),
        AudioContent(type="audio", data=PNG, mime_type="audio/wav"),
        EmbeddedResource(type="resource", resource=blob),
        ImageContent(type="image", data=base64.b64encode(b"<svg/>").decode(), mime_type="image/svg+xml"),
    ])


server.run("stdio")
"""

TOOL = f"""
from afkcli import Image, hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "eye"


@tool(name="eye.look", changes=False)
def look() -> list:
    return ["a bean", Image(bytes.fromhex("{PNG.hex()}"), "image/png")]


@hookimpl
def afk_tools(settings):
    return [look]
"""


@dataclass(frozen=True)
class Api:
    """One API: the model and the setting that select it, and the part of a request that has the images of a result."""

    model: str
    form: str
    of_result: Callable[[dict[str, Any]], list[Any]]


def chat_result(body: dict[str, Any]) -> list[Any]:
    """Return the result, which is text, and the message of the user directly behind all results of its step."""
    messages = body["messages"]
    at = max(n for n, message in enumerate(messages) if message["role"] == "tool")
    follows = messages[at + 1]
    assert follows["role"] == "user"
    return [messages[at]["content"], follows["content"]]


def responses_result(body: dict[str, Any]) -> list[Any]:
    [item] = [item for item in body["input"] if item.get("type") == "function_call_output"]
    return item["output"]


def anthropic_result(body: dict[str, Any]) -> list[Any]:
    blocks = [block for message in body["messages"] for block in message["content"] if isinstance(block, dict)]
    [result] = [block for block in blocks if block["type"] == "tool_result"]
    return result["content"]


APIS = {
    "chat": Api("openai/gpt-5.2", "chat", chat_result),
    "responses": Api("openai/gpt-5.2", "responses", responses_result),
    "anthropic": Api("anthropic/claude-sonnet-5", "auto", anthropic_result),
}

DATA_URL = f"data:image/png;base64,{IN_BASE64}"
SENT: dict[str, list[Any]] = {
    "responses": [
        {"type": "input_text", "text": "a bean"},
        {"type": "input_image", "detail": "auto", "image_url": DATA_URL},
    ],
    "anthropic": [
        {"type": "text", "text": "a bean"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IN_BASE64}},
    ],
    "chat": [
        "a bean\n[an image was attached here; it follows after the results]",
        [
            {"type": "text", "text": "The image that the call c_1 of the tool {tool} returned:"},
            {"type": "image_url", "image_url": {"url": DATA_URL}},
        ],
    ],
}


def sent(api: str, tool: str) -> list[Any]:
    """Return what an API is sent of the picture that `tool` returned."""
    return json.loads(json.dumps(SENT[api]).replace("{tool}", tool))


class Camera(Shell):
    """A shell with a camera: an MCP server of the SDK."""

    api: str = "chat"
    url: str = ""

    def configure(self, api: str = "chat", more: str = "") -> None:
        self.api = api
        script = self.folder / "camera.py"
        script.write_text(MCP_SERVER)
        (self.folder / "eye.py").write_text(TOOL)
        config = self.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(
            f'[providers.openai]\napi = "{APIS[api].form}"\n[tools.mcp.servers.camera]\n'
            f"command = {json.dumps(sys.executable)}\nargs = [{json.dumps(str(script))}]\n"
            f'read_only = ["shot", "album"]\n{more}'
        )

    def arguments(self, question: str, *options: str) -> tuple[str, ...]:
        tools = ("--plugin", "eye.py", "--tool", "camera.*", "--tool", "eye.*")
        return ("run", "-t", "t", "-m", APIS[self.api].model, *tools, *options, question)

    def ask(self, question: str, *options: str, code: int = 0) -> Finished:
        done = self.afk(*self.arguments(question, *options))
        assert done.code == code, done.err
        return done

    def result(self, server: ModelServer, number: int = -1) -> list[Any]:
        """Return what a request has of the result and its images."""
        return APIS[self.api].of_result(server.bodies[number])

    def contents(self) -> list[bytes]:
        with sqlite3.connect(self.home / "afk" / "data" / "threads.db") as con:
            return [data for (data,) in con.execute("SELECT data FROM Content ORDER BY sha256").fetchall()]


@pytest.fixture
def camera(shell: Shell, server: ModelServer) -> Camera:
    keys = {"OPENAI_API_KEY": "sk-canary-0123456789", "ANTHROPIC_API_KEY": "sk-ant-canary-0123456789"}
    env = {**shell.env, **keys, "OPENAI_BASE_URL": server.base_url, "ANTHROPIC_BASE_URL": server.base_url}
    made = Camera(home=shell.home, folder=shell.folder, env=env)
    made.configure()
    return made


def wait_until(running: subprocess.Popen[bytes], is_there: Callable[[], bool]) -> None:
    """Wait until a run that hangs has written something."""
    while not is_there():
        assert running.poll() is None
        time.sleep(0.02)


def call(tool: str) -> Step:
    return Step(tool_calls=[ScriptedCall(name=tool, arguments={}, id="c_1")])


SHOT, LOOK = "camera__shot", "eye__look"


class TestWhatIsSent:
    @pytest.mark.parametrize("tool", [SHOT, LOOK])
    @pytest.mark.parametrize("api", APIS)
    def test_in_this_turn_and_in_the_next_one(self, camera: Camera, server: ModelServer, api: str, tool: str) -> None:
        camera.configure(api)
        server.script(call(tool), Step(text="I see a bean."), Step(text="It is green."))

        done = camera.ask("What is there?")
        camera.ask("Which colour?")

        assert done.out == "I see a bean.\n"
        assert camera.result(server, 1) == sent(api, tool)
        assert camera.result(server, 2) == sent(api, tool)

    @pytest.mark.parametrize("here", APIS)
    @pytest.mark.parametrize("there", APIS)
    def test_after_a_change_of_server(self, camera: Camera, server: ModelServer, here: str, there: str) -> None:
        server.script(call(LOOK), Step(text="I see a bean."), Step(text="It is green."))
        camera.configure(here)
        camera.ask("What is there?")
        camera.configure(there)
        camera.ask("Which colour?")

        assert camera.result(server) == sent(there, LOOK)

    def test_everything_that_a_server_may_return(self, camera: Camera, server: ModelServer) -> None:
        camera.configure("anthropic")
        server.script(call("camera__album"), Step(text="done"))
        camera.ask("Show me")

        assert camera.result(server) == [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IN_BASE64}},
            {
                "type": "text",
                "text": f"[audio, audio/wav, {len(PNG)} bytes]\n[resource, album://1, image/gif, {len(GIF)} bytes]",
            },
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/gif", "data": base64.b64encode(GIF).decode()},
            },
            {
                "type": "text",
                "text": "[image, image/svg+xml, 6 bytes; left out: models take PNG, JPEG, GIF and WebP images only]",
            },
        ]

    def test_of_two_calls_of_one_step_follow_both_results(self, camera: Camera, server: ModelServer) -> None:
        calls = [ScriptedCall(name=LOOK, arguments={}, id=f"c_{n}") for n in (1, 2)]
        server.script(Step(tool_calls=calls), Step(text="two beans"))
        camera.ask("Look twice")

        messages = server.bodies[1]["messages"]
        assert [message["role"] for message in messages[-5:]] == ["user", "assistant", "tool", "tool", "user"]
        lines = [part["text"] for part in messages[-1]["content"] if part["type"] == "text"]
        assert lines == [f"The image that the call c_{n} of the tool {LOOK} returned:" for n in (1, 2)]

    def test_an_answer_stands_before_the_images_where_the_api_wants_one(
        self, camera: Camera, server: ModelServer
    ) -> None:
        server.script(call(LOOK), Step(text="a bean"))
        camera.ask("Look", "-m", "openai/mistral-small-latest")

        roles = [message["role"] for message in server.bodies[1]["messages"]]
        assert roles[-4:] == ["assistant", "tool", "assistant", "user"]


class TestWhatIsShown:
    def test_the_thread_names_the_image(self, camera: Camera, server: ModelServer) -> None:
        server.script(call(SHOT), Step(text="I see a bean."))
        camera.ask("What is there?")

        shown = camera.afk("threads", "show", "t").out
        assert f"tool result: camera.shot: a bean [image, image/png, {len(PNG)} bytes, sha256 {DIGEST[:12]}]" in shown
        [turn] = [json.loads(line) for line in camera.afk("threads", "show", "t", "--json").out.splitlines()]
        [result] = [part for message in turn["messages"] for part in message["parts"] if part["type"] == "tool_result"]
        image = {"type": "image", "media_type": "image/png", "size": len(PNG), "sha256": DIGEST}
        assert result["parts"] == [{"type": "text", "text": "a bean"}, image]
        for form in ("markdown", "json"):
            assert camera.afk("threads", "export", "t", "--format", form).code == 0

    def test_the_events_and_the_log_have_no_content(self, camera: Camera, server: ModelServer) -> None:
        server.script(call(SHOT), Step(text="I see a bean."))
        done = camera.ask("What is there?", "--json")

        [completed] = [event for event in done.events if event["type"] == "tool_completed"]
        assert completed["tool_output"] == f"a bean\n[image, image/png, {len(PNG)} bytes]"
        named = {"name": None, "media_type": "image/png", "size": len(PNG), "sha256": DIGEST}
        assert completed["attachments"] == [named]
        assert IN_BASE64 not in done.out + json.dumps(camera.log())


class TestWhatIsKept:
    def test_twice_in_a_thread_is_stored_once_and_goes_with_the_thread(
        self, camera: Camera, server: ModelServer
    ) -> None:
        server.script(call(LOOK), call(LOOK), Step(text="a bean"))
        camera.ask("Look twice")
        assert camera.contents() == [PNG]

        assert camera.afk("threads", "rm", "--yes", "t").code == 0
        assert camera.contents() == []

    def test_a_run_that_is_killed_once_its_result_is_kept_has_kept_the_image(
        self, camera: Camera, server: ModelServer
    ) -> None:
        server.script(
            call(LOOK), Step(text=["I see"], fault=Fault.HANG, fault_after=1), Step(text="a bean"), Step(text="green")
        )
        running = camera.start(*camera.arguments("What is there?", "--json"))
        for line in running.stdout:  # the text is journaled behind the result
            if json.loads(line)["type"] == "text_delta":
                break
        wait_until(running, lambda: bool(camera.contents()))
        kill(running)

        assert camera.afk("threads", "resume", "t").code == 0
        assert camera.result(server) == sent("chat", LOOK)
        camera.ask("Which colour?")
        assert camera.result(server) == sent("chat", LOOK)

    def test_an_import_into_another_home_exports_the_same_bytes_and_sends_it(
        self, camera: Camera, server: ModelServer
    ) -> None:
        server.script(call(LOOK), Step(text="a bean"), Step(text="green"))
        camera.ask("What is there?")
        first = camera.afk("threads", "export", "t").out
        elsewhere = {"AFK_HOME": str(camera.home / "elsewhere")}
        done = camera.afk("threads", "import", stdin=first.encode(), **elsewhere)
        assert done.code == 0, done.err

        assert camera.afk("threads", "export", "t", **elsewhere).out == first
        assert camera.afk(*camera.arguments("Which colour?")[:5], "Which colour?", **elsewhere).code == 0
        assert camera.result(server) == sent("chat", LOOK)

    @pytest.mark.parametrize("killed", [False, True])
    def test_a_turn_that_cannot_be_saved_is_rescued_with_it(
        self, camera: Camera, server: ModelServer, killed: bool
    ) -> None:
        last = Step(text=["I see"], fault=Fault.HANG, fault_after=1) if killed else Step(text="I see")
        server.script(call(LOOK), last, Step(text="green"))
        (camera.home / "afk" / "data").write_text("no folder")
        rescue = camera.home / "afk" / "state" / "rescue"
        if killed:
            running = camera.start(*camera.arguments("What is there?"))
            assert server.wait_for_requests(2, timeout=LIMIT)
            wait_until(running, lambda: any(IN_BASE64 in file.read_text() for file in rescue.iterdir()))
            kill(running)
        else:
            camera.ask("What is there?", code=1)
        [file] = rescue.iterdir()
        (camera.home / "afk" / "data").unlink()

        done = camera.afk("threads", "import", str(file))
        assert done.code == 0, done.err
        camera.ask("Which colour?")
        assert camera.result(server) == sent("chat", LOOK)

    def test_a_damaged_content_is_named_and_never_sent(self, camera: Camera, server: ModelServer) -> None:
        server.script(call(LOOK), Step(text="a bean"), Step(text="green"))
        camera.ask("What is there?")
        with sqlite3.connect(camera.home / "afk" / "data" / "threads.db") as con:
            con.execute("UPDATE Content SET data = ?", (PNG[:-1] + b"?",))
        done = camera.ask("Which colour?")

        line = f"the image {DIGEST[:12]}, attached to this thread, is left out: its content is damaged"
        assert line in done.err
        [result] = [message for message in server.bodies[2]["messages"] if message["role"] == "tool"]
        assert result["content"] == "a bean\n[an image was attached here; its content is lost]"


class TestModels:
    REFUSALS = (
        (400, "Invalid content type. image_url is only supported by certain models."),
        (400, "Output of tool call should be 'Input text'"),
        (422, "messages.3.content must be a string"),
        (400, "After the optional system message, conversation roles must alternate"),
        (413, "Request Entity Too Large"),
        (500, "image input is not supported - hint: you may need to provide the mmproj"),
    )

    @pytest.mark.parametrize(("status", "said"), REFUSALS)
    def test_a_server_that_refuses_it_is_asked_once_more_without_it(
        self, camera: Camera, server: ModelServer, status: int, said: str
    ) -> None:
        refusal = Step(status=status, body={"error": {"message": said}})
        server.script(call(LOOK), refusal, Step(text="a bean"), Step(text="green"))
        done = camera.ask("What is there?", "--json")

        assert len(server.bodies) == 3
        [warning] = [event for event in done.events if event["type"] == "warning"]
        assert warning["code"] == "attachment_left_out"
        assert "refused the images that tools returned" in warning["message"]
        assert said.rstrip(".") in warning["message"]
        last = server.bodies[2]["messages"][-1]
        assert (last["role"], last["content"]) == (
            "tool",
            "a bean\n[an image was attached here; this model cannot see it]",
        )
        camera.ask("Which colour?")
        assert camera.result(server) == sent("chat", LOOK)

    def test_another_refusal_is_not_repeated(self, camera: Camera, server: ModelServer) -> None:
        refusal = Step(status=400, body={"error": {"message": "temperature is too high"}})
        server.script(call(LOOK), refusal)
        camera.ask("What is there?", code=4)
        assert len(server.bodies) == 2

    def test_a_model_that_sees_nothing_gets_a_note_and_the_user_a_warning(
        self, camera: Camera, server: ModelServer
    ) -> None:
        server.script(call(LOOK), Step(text="a bean"))
        camera.ask("What is there?")
        done = camera.afk("run", "-t", "t", "-m", "local", "Which colour?")

        assert done.code == 0, done.err
        assert f"the image {DIGEST[:12]}, attached to this thread, is left out: local/" in done.err
