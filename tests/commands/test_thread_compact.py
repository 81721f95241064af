"""`afk threads compact`, and `--context compact`, as a user meets them."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest

from afkcli.core.thread.compactions import INTRODUCTION
from afkcli.testing.model_server import ModelServer, Step
from tests.e2e.shell import AFK, LIMIT, Shell, roles_and_texts

PRICES = '[prices."openai/gpt-5.2-mini"]\ninput = 1000.0\noutput = 2000.0\n'


def sent(server: ModelServer) -> list[str]:
    return [text for _, text in roles_and_texts(server.bodies[-1])]


def shown(shell: Shell, *options: str) -> list[str]:
    turns = shell.in_process("threads", "show", "t", "--json", *options).events
    return [part["text"] for turn in turns for message in turn["messages"] for part in message["parts"]]


@pytest.fixture
def asked(keyed: Shell, server: ModelServer) -> Shell:
    """A shell whose thread `t` has the questions q1, q2 and q3; the next answers are `short\\nand clear` and `next`."""
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(PRICES)
    server.script(
        *(Step(text=f"a{number}") for number in range(1, 4)), Step(text="short\nand clear"), Step(text="next")
    )
    for question in ("q1", "q2", "q3"):
        assert keyed.in_process("run", "-t", "t", question).code == 0
    return keyed


def test_writes_the_summary_which_is_sent_from_then_on(asked: Shell, server: ModelServer) -> None:
    done = asked.in_process("threads", "compact", "t")
    assert (done.code, done.out) == (0, "short\nand clear\n")
    assert done.err.startswith("afk: a summary is sent in place of turns 1 to 2 of 't': openai/gpt-5.2-mini, ")
    assert "$" in done.err
    assert "[Turn 1]\nUser: q1\nAssistant: a1" in sent(server)[-1]
    asked.in_process("run", "-t", "t", "q4")
    summary, *rest = sent(server)
    assert (
        summary == f"{INTRODUCTION}\n\n<summary>\nshort\nand clear\n</summary>\n\nq3"
    )  # one message for strict servers
    assert rest == ["a3", "q4"]
    assert shown(asked) == ["q1", "a1", "q2", "a2", "q3", "a3", "q4", "next"]


def test_show_says_that_there_is_one_and_raw_shows_it(asked: Shell) -> None:
    asked.in_process("threads", "compact", "t")
    said = "afk: a summary is sent in place of the turns up to 2; it is one of the records (`--raw`)\n"
    assert asked.in_process("threads", "show", "t").err == said
    raw = [json.loads(record["body"]) for record in asked.in_process("threads", "show", "t", "--raw").events]
    assert [body["summary"] for body in raw if body.get("kind") == "compacted"] == ["short\nand clear"]


def test_takes_the_beginning_of_a_name(asked: Shell) -> None:
    asked.in_process("threads", "rename", "t", "kitchen")
    assert asked.in_process("threads", "compact", "kit").code == 0


def test_undo_takes_it_back_and_redo_brings_it_back(asked: Shell, server: ModelServer) -> None:
    asked.in_process("threads", "compact", "t")
    done = asked.in_process("threads", "undo", "t")
    assert done.err == "afk: the summary of the turns of 't' up to 2 is not sent any more\n"
    assert shown(asked) == ["q1", "a1", "q2", "a2", "q3", "a3"]
    back = asked.in_process("threads", "redo", "t")
    assert back.err == "afk: the summary of the turns of 't' up to 2 is back\n"
    [undone] = asked.in_process("threads", "undo", "t", "--json").events
    assert (undone["set_aside"], len(undone["compactions_set_aside"])) == ([], 1)
    asked.in_process("run", "-t", "t", "q4")
    assert sent(server) == ["q1", "a1", "q2", "a2", "q3", "a3", "q4"]


def test_a_retry_of_the_last_turn_goes_with_it(asked: Shell, server: ModelServer) -> None:
    asked.in_process("threads", "compact", "t")
    asked.in_process("run", "-t", "t", "--retry")
    [text] = sent(server)
    assert text.startswith(INTRODUCTION)
    assert text.endswith("</summary>\n\nq3")


def test_in_json_and_with_all_turns_and_another_model(asked: Shell, server: ModelServer) -> None:
    [form] = asked.in_process("threads", "compact", "t", "--keep", "0", "-m", "openai/other", "--json").events
    assert (form["type"], form["covers"], form["summary"], form["model"]) == (
        "compacted",
        [[1, 3]],
        "short\nand clear",
        "openai/other",
    )
    assert server.bodies[-1]["model"] == "other"
    [listed] = asked.in_process("threads", "--json").events
    assert listed["model"] == "openai/gpt-5.2-mini"


def test_what_it_cost_counts_in_the_thread_and_the_usage(asked: Shell) -> None:
    [before] = asked.in_process("threads", "--json").events
    [form] = asked.in_process("threads", "compact", "t", "--json").events
    [after] = asked.in_process("threads", "--json").events
    assert form["total_cost_usd"] > 0
    assert after["total_cost_usd"] == pytest.approx(before["total_cost_usd"] + form["total_cost_usd"])
    asked.in_process("threads", "undo", "t")
    asked.in_process("threads", "fork", "t", "copy")
    [row] = [row for row in asked.in_process("usage", "--json", "--by", "model").events if row["type"] == "usage"]
    assert (row["turns"], row["total_cost_usd"]) == (3, pytest.approx(after["total_cost_usd"]))


def test_what_a_model_that_made_summaries_alone_cost_is_shown(asked: Shell) -> None:
    prices = '[prices."openai/cheaper"]\ninput = 1\noutput = 1000\n'
    config = asked.home / "afk" / "config" / "config.toml"
    config.write_text(config.read_text() + prices)
    made = asked.in_process("threads", "compact", "t", "-m", "openai/cheaper")
    assert "$0.007" in made.err
    rows = {line.split()[0]: line.split() for line in asked.in_process("usage", "--by", "model").out.splitlines()}
    cells = rows["openai/cheaper"]
    assert (cells[1], cells[-1][:6]) == ("0", "$0.007")


def test_export_import_and_fork_have_it(asked: Shell, server: ModelServer) -> None:
    asked.in_process("threads", "compact", "t")
    exported = asked.in_process("threads", "export", "t").out
    assert json.loads(exported.splitlines()[0])["v"] == 2
    asked.in_process("threads", "fork", "t", "copy")
    asked.in_process("threads", "rm", "t", "--yes")
    assert asked.in_process("threads", "import", stdin=exported.encode()).code == 0
    assert asked.in_process("threads", "export", "t").out == exported
    for thread in ("t", "copy"):
        asked.in_process("run", "-t", thread, "q4")
        assert sent(server)[0].startswith(INTRODUCTION)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nope",), 2, "there is no thread 'nope'"),
        (("t", "--keep", "3"), 2, "there is nothing to summarise in the thread 't': the last 3 turns are kept"),
        (("t", "--keep", "-1"), 2, "must be a whole number of at least 0"),
        (("t", "-m", "nothing-of-this-name"), 2, "unknown model"),
    ],
)
def test_what_cannot_be_done_changes_nothing(asked: Shell, arguments: tuple[str, ...], code: int, said: str) -> None:
    before = asked.in_process("threads", "export", "t").out
    done = asked.in_process("threads", "compact", *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert asked.in_process("threads", "export", "t").out == before


def test_a_model_that_fails_changes_nothing(asked: Shell, server: ModelServer) -> None:
    before = asked.in_process("threads", "export", "t").out
    for step, code, said in (
        (Step(status=401, body={"error": {"message": "no"}}), 4, "401"),
        (Step(text=" "), 4, "answered with no text"),
    ):
        server.script(step)
        done = asked.in_process("threads", "compact", "t")
        assert (done.code, done.out) == (code, "")
        assert "the thread 't' could not be summarised, and stays as it is: " in done.err
        assert said in done.err
        assert asked.in_process("threads", "export", "t").out == before
    assert "answered with no text (it took 12 + 7 tokens, $" in done.err
    assert asked.in_process("run", "-t", "t", "q4").code == 0  # the thread is free


def test_a_second_one_says_that_there_is_nothing_more(asked: Shell) -> None:
    asked.in_process("threads", "compact", "t")
    done = asked.in_process("threads", "compact", "t")
    assert done.code == 2
    assert "there is nothing more to summarise: a summary is sent in place of the turns of 't' up to 2" in done.err


def test_without_a_name_it_is_the_thread_last_used_here(asked: Shell, tmp_path: Path) -> None:
    assert asked.in_process("threads", "compact").code == 0
    asked.folder = tmp_path
    assert "no thread was used in" in asked.in_process("threads", "compact").err


def test_a_run_that_holds_the_thread_is_not_disturbed(asked: Shell, server: ModelServer) -> None:
    server.script(Step(text="word ", repeat=1_000, delay_between=0.1))
    running = asked.start("run", "-t", "t", "q4")
    try:
        assert running.stdout is not None
        running.stdout.read(1)
        done = asked.in_process("threads", "compact", "t")
        assert done.code == 5
        assert "is in use" in done.err
    finally:
        running.kill()
        running.communicate(timeout=LIMIT)


class TestRunsThatCompact:
    def config(self, shell: Shell, text: str) -> None:
        (shell.home / "afk" / "config" / "config.toml").write_text(text)

    def test_by_the_config_with_a_cheaper_model(self, asked: Shell, server: ModelServer) -> None:
        self.config(
            asked,
            '[windows]\n"openai/gpt-5.2-mini" = 1000\n'
            '[context]\npolicy = "compact"\nmodel = "openai/cheap"\ninstructions = "In short!"\n',
        )
        server.script(Step(text="fine"))
        done = [asked.in_process("run", "-t", "t", f"{number} {'word ' * 100}") for number in range(10)]
        assert [one.code for one in done] == [0] * 10
        said = [one.err for one in done if one.err]
        assert said
        assert said[0].startswith("afk: sent as a summary of about 1 tokens: turns 1 to ")
        [first, *_] = [body for body in server.bodies if body["model"] == "cheap"]
        assert first["messages"][0]["content"] == "In short!"
        assert sent(server)[0].startswith(f"{INTRODUCTION}\n\n<summary>\nfine\n</summary>\n\n")
        assert len(shown(asked)) == 26

    def test_by_options(self, asked: Shell, server: ModelServer) -> None:
        self.config(asked, '[windows]\n"openai/gpt-5.2-mini" = 1000\n')
        server.script(Step(text="fine"))
        options = ("--context", "compact", "--context-model", "openai/cheap", "--json")
        done = [asked.in_process("run", "-t", "t", *options, f"{n} {'word ' * 100}") for n in range(10)]
        events = [event for one in done for event in one.events if event["type"] == "context"]
        assert {event["compaction_model"] for event in events} == {"openai/cheap"}
        assert events[0]["compacted_through"] > 1

    def test_a_model_that_is_not_known_is_refused(self, asked: Shell) -> None:
        done = asked.in_process("run", "-t", "t", "--context", "compact", "--context-model", "odd/small", "q4")
        assert (done.code, done.out) == (2, "")
        assert "there is no provider 'odd'" in done.err


def test_eight_processes_that_change_one_thread_leave_one_fold(asked: Shell, server: ModelServer) -> None:
    server.script(Step(text="short"))
    changes = itertools.cycle(
        [
            ("threads", "undo", "t"),
            ("threads", "redo", "t"),
            ("run", "-t", "t", "--retry", "--busy", "fail"),
            ("threads", "tag", "t", "x"),
            ("threads", "fork", "t"),
            ("threads", "compact", "t"),
            ("threads", "compact", "t", "--keep", "0"),
            ("run", "-t", "t", "--context", "compact", "q4"),
        ]
    )
    for _ in range(2):
        started = [
            subprocess.Popen(
                [AFK, *change],
                cwd=asked.folder,
                env=asked.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for change in itertools.islice(changes, 8)
        ]
        for process in started:
            _, said = process.communicate(timeout=LIMIT)
            # 1: two forks of one name, 2: nothing to redo or to summarise, 5: in use
            assert process.returncode in (0, 1, 2, 5), said
            assert b"Traceback" not in said
    exported = asked.in_process("threads", "export", "t").out
    every = asked.in_process("threads", "show", "t", "--all", "--json")
    assert (every.code, "damaged" in every.err) == (0, False)
    readers = {asked.afk("threads", "show", "t", "--json").out for _ in range(2)}
    asked.in_process("run", "-t", "t", "what is sent")
    before = sent(server)
    asked.in_process("threads", "rm", "t", "--yes")
    assert asked.in_process("threads", "import", stdin=exported.encode()).code == 0
    assert readers == {asked.afk("threads", "show", "t", "--json").out}
    assert asked.in_process("threads", "show", "t", "--all", "--json").out == every.out
    asked.in_process("run", "-t", "t", "what is sent")
    assert sent(server) == before
