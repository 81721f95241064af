"""What ARCHITECTURE.md promises on every platform: a run, its thread and its events. CI runs these on Windows."""

from __future__ import annotations

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Shell, roles_and_texts


def test_a_run_answers_on_stdout(keyed: Shell) -> None:
    done = keyed.afk("run", "-n", "hi")

    assert (done.code, done.out.splitlines()) == (0, ["reply 1: hi"]), done.err


def test_a_thread_is_remembered_by_its_name(keyed: Shell, server: ModelServer) -> None:
    keyed.afk("run", "-t", "t", "first")
    done = keyed.afk("run", "-t", "t", "second")

    assert done.code == 0, done.err
    assert [text for _, text in roles_and_texts(server.bodies[1])][-3:] == ["first", "reply 1: first", "second"]
    assert "t" in keyed.afk("threads").out.split()


def test_events_are_lines_of_json_on_stdout_and_in_the_log(keyed: Shell) -> None:
    done = keyed.afk("run", "-t", "t", "--json", "hi")
    logged = keyed.afk("events", "tail", "--json", "-n", "100")

    assert (done.types()[0], done.types()[-1]) == ("run_started", "completed")
    assert [event["type"] for event in logged.events] == done.types()


def test_a_wrong_option_is_one_line_and_exit_2(keyed: Shell) -> None:
    done = keyed.afk("run", "--no-such-option", "hi")

    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
