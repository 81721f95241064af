"""`afk chat` with messages from a pipe: answers, slash commands and exit codes, in the process of the test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afkcli.testing.model_script import Fault, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Finished, Shell, roles_and_texts


def chat(shell: Shell, text: str, *arguments: str, **env: str) -> Finished:
    return shell.in_process("chat", *arguments, stdin=text.encode(), **env)


def test_each_line_is_answered_on_stdout_without_a_prompt(keyed: Shell, server: ModelServer) -> None:
    done = chat(keyed, "one\n\ntwo\n", "-t", "trip")

    assert (done.code, done.out, done.err) == (0, "reply 1: one\nreply 2: two\n", "")
    assert roles_and_texts(server.requests[1].body) == [
        ("user", "one"),
        ("assistant", "reply 1: one"),
        ("user", "two"),
    ]


def test_a_new_thread_is_named_once_and_kept_by_the_chat(keyed: Shell) -> None:
    done = chat(keyed, "one\ntwo\n")
    (thread,) = keyed.in_process("threads", "--json").events

    assert done.err == f"afk: thread {thread['thread_id']}\n"
    assert thread["turns"] == 2


def test_the_thread_is_that_of_run(keyed: Shell) -> None:
    assert keyed.in_process("run", "-t", "trip", "before").code == 0
    assert chat(keyed, "in the chat\n", "-t", "trip").out == "reply 2: in the chat\n"
    assert keyed.in_process("run", "-t", "trip", "after").out == "reply 3: after\n"


def test_continue_takes_the_thread_last_used_here(keyed: Shell) -> None:
    assert keyed.in_process("run", "-t", "trip", "before").code == 0
    done = chat(keyed, "and now\n", "-c")

    assert (done.out, done.err) == ("reply 2: and now\n", "afk: thread trip\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("-c",), "no thread was used in"),
        (("-c", "-t", "trip"), "--continue and --thread both name a thread"),
        (("--approvals", "stdin"), "the chat reads messages from stdin"),
        (("--plugin", "missing.py"), "there is no plugin file missing.py"),
        (("--json",), "--json"),
        (("--schema", "{}"), "--schema"),
        (("a word",), "a word"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(keyed: Shell, arguments: tuple[str, ...], line: str) -> None:
    done = chat(keyed, "hi\n", *arguments)

    assert (done.code, done.out) == (2, "")
    assert line in done.err
    assert done.err.count("\n") == 1


def test_a_message_that_fails_is_the_exit_code_and_the_next_one_is_answered(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(status=401, body={"error": {"message": "no"}}), Step(text="yes"))
    done = chat(keyed, "one\ntwo\n", "-t", "trip")

    assert (done.code, done.out) == (4, "yes\n")
    assert "401" in done.err


def test_a_line_that_is_not_text_is_said_and_left_out(keyed: Shell) -> None:
    done = keyed.in_process("chat", "-t", "trip", stdin=b"\xff\xfe\ntwo\n")

    assert (done.code, done.out) == (2, "reply 1: two\n")
    assert "is not UTF-8 text" in done.err


def test_an_answer_that_breaks_is_resumed(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=["one ", "two"], fault=Fault.CUT, fault_after=1), Step(text="two"))
    done = chat(keyed, "count\n/resume\n", "-t", "trip", AFK_MAX_LLM_CALLS="1")

    assert "/resume continues the answer" in done.err
    assert "afk threads resume" not in done.err
    assert done.out == "one \ntwo\n"


def test_a_mistyped_command_is_not_sent(keyed: Shell, server: ModelServer) -> None:
    done = chat(keyed, "/undoo\n", "-t", "trip")

    assert (done.code, done.out, server.requests) == (2, "", [])
    assert done.err == "afk: there is no command /undoo; did you mean /undo? (//undoo sends it as a message)\n"


def test_two_slashes_send_one(keyed: Shell) -> None:
    assert chat(keyed, "//help\n", "-t", "trip").out == "reply 1: /help\n"


class TestCommands:
    def test_undo_and_redo_are_those_of_the_shell(self, keyed: Shell, server: ModelServer) -> None:
        done = chat(keyed, "one\ntwo\nthree\n/undo 2\n/redo\n/undo\nfour\n", "-t", "trip")

        assert "turn 3 of 'trip' is set aside: three" in done.err
        assert "turn 2 of 'trip' is set aside: two" in done.err
        assert "turn 3 of 'trip' is back: three" in done.err
        texts = [text for _, text in roles_and_texts(server.requests[-1].body)]
        assert "three" not in texts
        assert "two" in texts

    def test_retry_asks_again(self, keyed: Shell, server: ModelServer) -> None:
        done = chat(keyed, "one\n/retry\n", "-t", "trip")

        assert done.code == 0
        assert [roles_and_texts(request.body) for request in server.requests] == [[("user", "one")]] * 2

    def test_edit_opens_the_editor(self, keyed: Shell, server: ModelServer, tmp_path: Path) -> None:
        editor = tmp_path / "editor"
        editor.write_text("#!/bin/sh\necho 'changed' > \"$1\"\n")
        editor.chmod(0o755)
        done = chat(keyed, "one\n/edit\n", "-t", "trip", EDITOR=str(editor))

        assert done.code == 0, done.err
        assert roles_and_texts(server.requests[-1].body) == [("user", "changed")]

    def test_fork_continues_in_the_copy(self, keyed: Shell) -> None:
        done = chat(keyed, "one\n/fork\ntwo\n/fork other\nthree\n", "-t", "trip")
        threads = {item["thread_id"]: item["turns"] for item in keyed.in_process("threads", "--json").events}

        assert threads == {"trip": 1, "trip-2": 2, "other": 3}
        assert "the chat continues in other" in done.err
        assert "trip-2\n" not in done.out

    def test_model_is_used_from_then_on(self, keyed: Shell, server: ModelServer) -> None:
        done = chat(keyed, "one\n/model gpt-5.2\ntwo\n/model\n", "-t", "trip")

        assert [request.body["model"] for request in server.requests] == ["gpt-5.2-mini", "gpt-5.2"]
        assert "the model is openai/gpt-5.2 from now on" in done.err

    def test_models_lists_them(self, keyed: Shell) -> None:
        done, listed = chat(keyed, "/models\n"), keyed.in_process("models")

        assert (done.code, done.out) == (listed.code, listed.out)
        assert "local/" in done.out

    @pytest.mark.parametrize("name", ["nonsense", "nothing/x", "/x", "openai/"])
    def test_a_model_that_is_not_there_is_refused_and_the_old_one_stays(
        self, keyed: Shell, server: ModelServer, name: str
    ) -> None:
        done = chat(keyed, f"/model {name}\none\n", "-t", "trip")

        assert (done.code, done.out) == (2, "reply 1: one\n")
        assert done.err.count("\n") == 1

    def test_agent_is_used_with_its_model(self, keyed: Shell, server: ModelServer) -> None:
        config = keyed.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text('[agents.critic]\nmodel = "openai/gpt-5.2"\ninstructions = "Be strict."\n')
        del keyed.env["AFK_MODEL"]
        done = chat(keyed, "one\n/agent critic\ntwo\n/agent nobody\n", "-t", "trip", "-m", "gpt-5.2-mini")

        assert [request.body["model"] for request in server.requests] == ["gpt-5.2-mini", "gpt-5.2"]
        assert roles_and_texts(server.requests[1].body)[0] == ("system", "Be strict.")
        assert (done.code, "there is no agent 'nobody'" in done.err) == (2, True)

    def test_the_agent_is_named(self, keyed: Shell) -> None:
        config = keyed.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text('agent = "critic"\n[agents.critic]\ninstructions = "Be strict."\n[agents.poet]\n')
        assert keyed.in_process("run", "-t", "poem", "-a", "poet", "hi").code == 0

        assert chat(keyed, "/agent\n").err == "afk: the agent is critic\n"
        assert chat(keyed, "/agent\n/agent afk\n/agent\n", "-t", "new").err.splitlines()[-1] == "afk: the agent is afk"
        assert chat(keyed, "/agent\n", "-t", "poem").err == "afk: the agent is poet\n"
        assert chat(keyed, "/thread poem\n/agent\n").err.splitlines()[-1] == "afk: the agent is poet"

    def test_tools_are_listed_and_given(self, keyed: Shell, server: ModelServer) -> None:
        done = chat(keyed, "/tools\n/tools shell.run\n/tools no.such\none\n", "-t", "trip")

        assert "shell.run" in done.out
        assert done.code == 2
        assert [tool["function"]["name"] for tool in server.requests[0].body["tools"]] == ["shell__run"]

    def test_attach_goes_with_the_next_message_alone(self, keyed: Shell, server: ModelServer) -> None:
        (keyed.folder / "two words.txt").write_text("THE CONTENT")
        path = keyed.folder / "two words.txt"
        done = chat(keyed, f"/attach '{path}'\nwhat is it?\nand now?\n", "-t", "trip")

        assert "attached to the next message: two words.txt" in done.err
        first, second = (json.dumps(request.body["messages"][-1]) for request in server.requests)
        assert "THE CONTENT" in first
        assert "THE CONTENT" not in second

    @pytest.mark.parametrize("sources", ["missing.txt", "-", ".", "''"])
    def test_what_cannot_be_attached_is_said(self, keyed: Shell, sources: str) -> None:
        done = chat(keyed, f"/attach {sources}\nhi\n", "-t", "trip")

        assert (done.code, done.out) == (2, "reply 1: hi\n")

    def test_attach_none_drops_what_waits(self, keyed: Shell, server: ModelServer) -> None:
        (keyed.folder / "a.txt").write_text("THE CONTENT")
        chat(keyed, f"/attach {keyed.folder / 'a.txt'}\n/attach\n/attach none\nhi\n", "-t", "trip")

        assert "THE CONTENT" not in json.dumps(server.requests[0].body)

    def test_compact_sends_a_summary_from_then_on(self, keyed: Shell, server: ModelServer) -> None:
        done = chat(keyed, "one\ntwo\n/compact\nthree\n", "-t", "trip")

        assert done.code == 0, done.err
        assert "one" not in [text for _, text in roles_and_texts(server.requests[-1].body)]

    def test_cost_show_search_and_threads_write_what_the_shell_writes(self, keyed: Shell) -> None:
        asked = chat(keyed, "peas\n/cost\n/show -n 1\n/search peas\n/threads\n", "-t", "trip")
        commands = (
            ("usage", "-t", "trip", "--by", "model"),
            ("threads", "show", "trip", "-n", "1"),
            ("threads", "search", "peas"),
            ("threads",),
        )

        assert asked.out == "reply 1: peas\n" + "".join(keyed.in_process(*command).out for command in commands)

    def test_thread_and_new_change_the_thread(self, keyed: Shell) -> None:
        assert keyed.in_process("run", "-t", "soup", "before").code == 0
        done = chat(keyed, "one\n/thread soup\ntwo\n/new salad\nthree\n/thread\n/new soup\n", "-t", "trip")
        threads = {item["thread_id"]: item["turns"] for item in keyed.in_process("threads", "--json").events}

        assert threads == {"trip": 1, "soup": 2, "salad": 1}
        assert "the thread is salad" in done.err
        assert "there is a thread 'soup' already; /thread soup continues it" in done.err

    def test_an_unknown_thread_is_not_begun(self, keyed: Shell) -> None:
        done = chat(keyed, "one\n/thread tripp\n", "-t", "trip")

        assert done.code == 2
        assert "trip" in done.err

    def test_help_shows_each_command_and_key(self, keyed: Shell) -> None:
        done = chat(keyed, "/help\n/help undo\n/help nothing\n")

        assert "/undo [N]" in done.err
        assert "Alt-Enter" in done.err
        assert "there is no command /nothing" in done.err

    def test_quit_leaves_the_rest_unread(self, keyed: Shell, server: ModelServer) -> None:
        assert chat(keyed, "one\n/quit\ntwo\n", "-t", "trip").out == "reply 1: one\n"
        assert len(server.requests) == 1

    @pytest.mark.parametrize("command", ["undo", "redo", "retry", "edit", "resume", "compact", "cost", "show"])
    def test_words_that_a_command_has_no_use_for_are_refused(
        self, keyed: Shell, server: ModelServer, command: str
    ) -> None:
        done = chat(keyed, f"one\n/{command} and more\n", "-t", "trip", EDITOR="false")

        takes = "a whole number" if command in ("undo", "show") else "no words"
        assert (done.code, done.err) == (2, f"afk: /{command} takes {takes} (got 'and more')\n")
        assert len(server.requests) == 1

    def test_show_takes_a_number(self, keyed: Shell) -> None:
        done = chat(keyed, "one\ntwo\n/show 1\n", "-t", "trip")

        assert "user: two" in done.out
        assert "user: one" not in done.out

    @pytest.mark.parametrize(
        "command", ["/undo", "/redo", "/retry", "/edit", "/resume", "/fork", "/compact", "/cost", "/show"]
    )
    def test_without_a_thread_there_is_nothing_to_change(self, keyed: Shell, command: str) -> None:
        done = chat(keyed, f"{command}\n")

        assert (done.code, done.err) == (2, "afk: this conversation has no question yet\n")

    @pytest.mark.parametrize(
        "command", ["/undo", "/redo", "/retry", "/edit", "/resume", "/fork", "/compact", "/show", "/search", "/undo x"]
    )
    def test_an_error_of_a_command_is_one_line(self, keyed: Shell, command: str) -> None:
        done = chat(keyed, f"{command}\nhi\n", "-t", "new")

        assert (done.code, done.out) == (2, "reply 1: hi\n")
        assert done.err.count("\n") == 1, done.err
