"""Attachments from files and URLs: real files, a real server, and bad input of every kind."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from afkcli import Attachment
from afkcli.core.contract.errors import UsageError
from afkcli.core.thread import attachments as checks
from afkcli.wiring import attachments
from afkcli.wiring.attachments import shown_url

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


class Server(ThreadingHTTPServer):
    """Answers a path by the function that is named like it; the headers of each request are kept."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Callable[[Handler], None]] = {}
        self.stop = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def redirect(self, path: str, target: str, code: int = 302) -> None:
        self.answers[path] = lambda handler: handler.answer(b"", code, Location=target)

    def handle_error(self, *arguments: Any) -> None:
        """Say nothing: clients that leave are what is tested."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast("Server", self.server)
        server.seen.append((self.path, dict(self.headers)))
        server.answers.get(self.path.partition("?")[0], lambda handler: handler.answer(b"", 404))(self)

    def answer(self, body: bytes, code: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as started:
        threading.Thread(target=started.serve_forever, args=(0.01,), daemon=True).start()
        started.answers["/photo.png"] = lambda handler: handler.answer(PNG)
        yield started
        started.stop.set()
        started.shutdown()


def refused(url: str, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        Attachment.from_url(url, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert "cannot be attached: " in line
    return line


class TestFiles:
    def test_a_file_is_attached_by_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "photo.jpg").write_bytes(PNG)
        attached = Attachment.from_path(tmp_path / "photo.jpg")
        assert (attached.name, attached.media_type, attached.data) == ("photo.jpg", "image/png", PNG)
        assert Attachment.from_path(str(tmp_path / "photo.jpg")) == attached

    def test_a_link_to_a_file_is_that_file(self, tmp_path: Path) -> None:
        (tmp_path / "photo.png").write_bytes(PNG)
        (tmp_path / "link").symlink_to("photo.png")
        assert Attachment.from_path(tmp_path / "link").data == PNG

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc here")
    def test_a_file_that_says_it_is_empty_and_is_not(self) -> None:
        assert b"Pid:" in Attachment.from_path("/proc/self/status").data

    def test_a_path_without_a_readable_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"x")
        (tmp_path / "empty").touch()
        (tmp_path / "loop").symlink_to("loop")
        reasons = {
            "nowhere": "No such file",
            "": "it is a folder; name its files",
            "empty": "it is empty",
            "loop": "symbolic links",
            "secret/under": "Not a directory",
            "a\0b": "null",
            "x" * 300: "name too long",
        }
        for name, why in reasons.items():
            with pytest.raises(UsageError, match=f"cannot be attached: .*{why}"):
                Attachment.from_path(f"{tmp_path}/{name}")

    @pytest.mark.skipif(os.name != "posix", reason="pipes in the file system are POSIX's")
    def test_a_pipe_or_a_device_is_refused_and_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket"))
            for path in (tmp_path / "pipe", tmp_path / "socket", "/dev/zero", "/dev/null"):
                with pytest.raises(UsageError, match="it is not a regular file; pipe it in with --attach -"):
                    Attachment.from_path(path)

    def test_a_file_that_is_too_large_is_not_read(self, tmp_path: Path) -> None:
        with (tmp_path / "large").open("wb") as file:
            file.truncate(10**12)  # a hole, where the file system can
        with pytest.raises(UsageError, match="it is larger than 20 MB"):
            Attachment.from_path(tmp_path / "large")


class TestUrls:
    def test_what_is_there_is_attached_by_the_end_of_its_path(self, server: Server) -> None:
        attached = Attachment.from_url(f"http://{server.host}/photo.png?size=1#top")
        assert (attached.name, attached.media_type, attached.data) == ("photo.png", "image/png", PNG)
        [(path, headers)] = server.seen
        assert path == "/photo.png?size=1"
        assert headers["User-Agent"].startswith("afk/")

    def test_a_page_without_a_path_is_named_by_its_host(self, server: Server) -> None:
        server.answers["/"] = lambda handler: handler.answer(b"<html>hello</html>")
        attached = Attachment.from_url(f"http://{server.host}")
        assert (attached.name, attached.media_type) == ("127.0.0.1", "text/plain")

    def test_characters_that_no_url_may_hold_are_sent_as_it_has_to_be(self, server: Server) -> None:
        server.answers["/gr%C3%BCn%20blau.png"] = lambda handler: handler.answer(PNG)
        assert Attachment.from_url(f"http://{server.host}/grün blau.png").name == "grün blau.png"

    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    def test_redirects_are_followed(self, server: Server, code: int) -> None:
        server.redirect("/here", "there/", code)
        server.redirect("/there/", f"http://{server.host}/photo.png", code)
        attached = Attachment.from_url(f"http://{server.host}/here")
        assert (attached.name, attached.data) == ("here", PNG)

    def test_redirects_end(self, server: Server) -> None:
        server.redirect("/loop", "/loop")
        assert "it redirects more than 5 times" in refused(f"http://{server.host}/loop")
        assert len(server.seen) == 6

    @pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"])
    def test_a_redirect_leads_to_nothing_but_the_web(self, server: Server, target: str) -> None:
        server.redirect("/away", target)
        assert "it redirects to something that is not an http or https URL" in refused(f"http://{server.host}/away")

    def test_a_password_is_sent_to_its_host_alone_and_shown_nowhere(self, server: Server) -> None:
        with Server() as other:
            threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
            other.answers["/gone"] = lambda handler: handler.answer(b"", 403)
            server.redirect("/moved", f"http://{server.host}/again")
            server.redirect("/again", f"http://{other.host}/gone?token=canary")
            line = refused(f"http://ada:p%40ss-canary@{server.host}/moved?key=canary#canary")
            other.shutdown()
        assert "canary" not in line
        assert "ada" not in line
        assert line.startswith(f"http://{server.host}/moved cannot be attached: the server answered 403")
        token = base64.b64encode(b"ada:p@ss-canary").decode()
        assert [headers.get("Authorization") for _, headers in server.seen] == [f"Basic {token}"] * 2
        assert [headers.get("Authorization") for _, headers in other.seen] == [None]

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("http://ada:canary@host/a?canary#canary", "http://host/a"),
            ("http://ada:can#ary@host/a", "http://..."),
            ("http://[canary/a", "http://..."),
            ("http://host/@scope/a\n\x1b[31mb", "http://host/@scope/a?[31mb"),
        ],
    )
    def test_what_is_shown_of_a_url(self, url: str, shown: str) -> None:
        assert shown_url(url) == shown

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "http://", "http:///x", "http://h:port/x", "x"])
    def test_other_urls_are_refused(self, url: str) -> None:
        assert "it is not an http or https URL" in refused(url)

    def test_the_error_of_the_server_is_shown(self, server: Server) -> None:
        assert "the server answered 404 Not Found" in refused(f"http://{server.host}/nothing")
        server.answers["/broken"] = lambda handler: handler.answer(b"x" * 100_000, 500)
        assert "the server answered 500" in refused(f"http://{server.host}/broken")

    def test_a_server_that_is_not_there(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            assert "refused" in refused(f"http://127.0.0.1:{taken.getsockname()[1]}/x")

    def test_a_server_without_tls_behind_https_is_an_error(self, server: Server) -> None:
        assert f"https://{server.host}/x cannot be attached" in refused(f"https://{server.host}/x")

    def test_what_is_announced_as_too_large_is_not_read(self, server: Server) -> None:
        server.answers["/large"] = lambda handler: handler.answer(b"x", length=10**10)
        assert "it is larger than 20 MB" in refused(f"http://{server.host}/large")

    def test_what_turns_out_too_large_is_not_read_to_its_end(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checks, "MAX_BYTES", 200_000)

        def endless(handler: Handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            while not server.stop.is_set():
                handler.wfile.write(b"x" * 65536)

        server.answers["/endless"] = endless
        assert "it is larger than" in refused(f"http://{server.host}/endless")

    def test_half_of_it_is_nothing(self, server: Server) -> None:
        server.answers["/half"] = lambda handler: handler.answer(PNG, length=1000)
        assert "the connection broke off" in refused(f"http://{server.host}/half")

    @pytest.mark.parametrize(
        "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9"]
    )
    def test_a_response_that_is_not_http_is_refused_in_one_line(self, server: Server, answer: bytes) -> None:
        server.answers["/odd"] = lambda handler: handler.wfile.write(answer) and None
        refused(f"http://{server.host}/odd")

    def test_a_silent_server_is_left(self, server: Server) -> None:
        server.answers["/silent"] = lambda handler: server.stop.wait(60) and None
        assert "it took longer than 0.2 s" in refused(f"http://{server.host}/silent", seconds=0.2)

    def test_a_server_that_drips_is_left(self, server: Server) -> None:
        def drip(handler: Handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            while not server.stop.wait(0.02):
                handler.wfile.write(b"x")

        server.answers["/drip"] = drip
        assert "it took longer than 0.3 s" in refused(f"http://{server.host}/drip", seconds=0.3)

    def test_empty_and_unsupported_content_is_refused(self, server: Server) -> None:
        server.answers["/empty"] = lambda handler: handler.answer(b"")
        server.answers["/zip"] = lambda handler: handler.answer(b"PK\x03\x04\x00")
        assert "it is empty" in refused(f"http://{server.host}/empty")
        assert "unsupported type; supported: " in refused(f"http://{server.host}/zip")


def test_the_limits_are_those_that_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "attachments.md").read_text()
    assert f"| {checks.MAX_BYTES >> 20} MB for one attachment" in page
    assert f"| {checks.MAX_TEXT_BYTES >> 20} MB for a text" in page
    assert f"| {attachments.FETCH_SECONDS:g} s for a URL, with at most {attachments.MAX_REDIRECTS} redirects" in page
