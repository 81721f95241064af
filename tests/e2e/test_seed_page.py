"""The seed page's script, as printed, on our package."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Shell, roles_and_texts

ROOT = Path(__file__).parents[2]
PAGE = ROOT.parent / "shared" / "seed" / "streaming_chat_with_memory.txt"  # beside the checkout, in CI always
EXAMPLE = ROOT / "docs" / "examples" / "chat.py"


def script_of_the_page() -> str:
    page = PAGE.read_text()
    end = "asyncio.run(main())"
    return page[page.index("import asyncio") : page.index(end) + len(end)] + "\n"


@pytest.fixture(params=["the page", "docs/examples/chat.py"])
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The page's full example to the letter where the page is at hand, and our own script of the same calls."""
    if request.param == "docs/examples/chat.py":
        return EXAMPLE
    if not PAGE.exists() and "CI" not in os.environ:
        pytest.skip("the seed page is not beside this checkout; docs/examples/chat.py makes the same calls")
    path = tmp_path / "page.py"
    path.write_text(script_of_the_page())
    return path


def test_the_page_runs_unmodified_and_remembers(shell: Shell, server: ModelServer, script: Path) -> None:
    done = shell.python(script, OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")

    assert done.code == 0, done.err
    assert done.out.count("[DONE] (completed)") == 3
    assert [f"Turn {number}: 19 tokens" in done.out for number in (1, 2, 3)] == [True] * 3
    first, second, third = (roles_and_texts(body) for body in server.bodies)
    assert first[0][0] == "system"
    assert first[0][1].startswith("You are a helpful assistant.")
    assert first[1:] == [("user", "What is the GIL in Python?")]
    assert second[1:] == [*first[1:], ("assistant", "reply 1: What is the GIL in Python?"), second[3]]
    assert second[3] == ("user", "How does it affect multithreading?")
    assert third[1:] == [*second[1:], ("assistant", "reply 2: How does it affect multithreading?"), third[5]]
    assert third[5] == ("user", "What are the alternatives?")


def test_the_page_leaves_no_file_in_the_working_directory(shell: Shell, server: ModelServer, script: Path) -> None:
    done = shell.python(script, OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")

    assert done.code == 0, done.err
    assert list(shell.folder.iterdir()) == []


def test_what_the_script_said_is_in_the_command_lines_threads(shell: Shell, server: ModelServer, script: Path) -> None:
    shell.python(script, OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")

    listed = shell.afk("threads")

    assert "session-demo-42" in listed.out
    more = shell.afk(
        "run", "--thread", "session-demo-42", "And now?", OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-01"
    )
    assert more.code == 0
    assert len(roles_and_texts(server.bodies[-1])) == 7  # six messages of the script, and the new one
