"""`afk threads undo`, `redo`, `fork` and `tag`, and `afk run --retry` and `--edit`, as a user meets them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer, Step
from tests.e2e.shell import AFK, LIMIT, Shell, roles_and_texts


def texts(shell: Shell, *options: str, thread: str = "t") -> list[str]:
    """Return the questions and answers that `afk threads show` has of a thread."""
    turns = shell.in_process("threads", "show", thread, "--json", *options).events
    return [part["text"] for turn in turns for message in turn["messages"] for part in message["parts"]]


@pytest.fixture
def asked(keyed: Shell, server: ModelServer) -> Shell:
    """A shell whose thread `t` has the questions q1 and q2 with the answers a1 and a2; the next answer is a3."""
    server.script(*(Step(text=f"a{number}") for number in range(1, 7)))
    for question in ("q1", "q2"):
        assert keyed.in_process("run", "-t", "t", question).code == 0
    return keyed


class TestUndoAndRedo:
    def test_what_is_undone_is_not_shown_and_not_sent(self, asked: Shell, server: ModelServer) -> None:
        done = asked.in_process("threads", "undo", "t")
        assert (done.code, done.out, done.err) == (0, "", "afk: turn 2 of 't' is set aside: q2\n")
        assert texts(asked) == ["q1", "a1"]
        asked.in_process("run", "-t", "t", "q3")
        assert [text for _, text in roles_and_texts(server.bodies[-1])] == ["q1", "a1", "q3"]

    def test_without_a_name_it_is_the_thread_last_used_here(self, asked: Shell, tmp_path: Path) -> None:
        assert asked.in_process("threads", "undo").err == "afk: turn 2 of 't' is set aside: q2\n"
        asked.folder = tmp_path
        done = asked.in_process("threads", "undo")
        assert (done.code, done.out) == (2, "")
        assert f"no thread was used in {tmp_path} yet" in done.err

    def test_redo_takes_back_the_last_undo(self, asked: Shell) -> None:
        asked.in_process("threads", "undo", "t", "-n", "2")
        assert texts(asked) == []
        done = asked.in_process("threads", "redo", "t")
        assert done.err == "afk: turn 1 of 't' is back: q1\nafk: turn 2 of 't' is back: q2\n"
        assert texts(asked) == ["q1", "a1", "q2", "a2"]

    def test_show_all_has_what_is_set_aside_and_says_why(self, asked: Shell) -> None:
        asked.in_process("threads", "undo", "t")
        shown = asked.in_process("threads", "show", "t")
        assert "q2" not in shown.out
        assert shown.err == "afk: 1 turn is set aside; `--all` shows all turns\n"
        every = asked.in_process("threads", "show", "t", "--all")
        assert "q2" in every.out
        assert "[undone; it is not sent]" in every.out
        assert [turn["set_aside"] for turn in asked.in_process("threads", "show", "t", "--all", "--json").events] == [
            None,
            "undone",
        ]

    def test_in_json_it_names_the_turns(self, asked: Shell) -> None:
        [undone] = asked.in_process("threads", "undo", "t", "--json").events
        assert (undone["v"], undone["type"], undone["set_aside"], undone["back"]) == (1, "undone", [2], [])
        [redone] = asked.in_process("threads", "redo", "t", "--json").events
        assert (redone["type"], redone["set_aside"], redone["back"]) == ("redone", [], [2])

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (("undo", "t", "-n", "3"), 2, "has only 2 questions to undo"),
            (("undo", "t", "-n", "0"), 2, "must be a whole number of at least 1"),
            (("redo", "t"), 2, "there is nothing to redo"),
            (("undo", "nope"), 2, "there is no thread 'nope'"),
            (("fork", "t", "copy", "--at", "7"), 2, "has no turn 7; its last turns are 1, 2"),
            (("fork", "t", "t"), 1, "there is already a thread 't'"),
            (("tag", "t", "two words"), 2, "cannot be a tag"),
            (("tag", "t", ""), 2, "cannot be a tag"),
        ],
    )
    def test_what_cannot_be_done_changes_nothing(
        self, asked: Shell, arguments: tuple[str, ...], code: int, said: str
    ) -> None:
        before = asked.in_process("threads", "export", "t").out
        done = asked.in_process("threads", *arguments)
        assert (done.code, done.out) == (code, "")
        assert said in done.err
        assert done.err.count("\n") == 1
        assert asked.in_process("threads", "export", "t").out == before

    def test_money_and_usage_stay_counted(self, asked: Shell) -> None:
        [before] = asked.in_process("threads", "--json").events
        asked.in_process("threads", "undo", "t")
        [after] = asked.in_process("threads", "--json").events
        assert (after["usage"], after["total_cost_usd"], after["turns"]) == (
            before["usage"],
            before["total_cost_usd"],
            before["turns"],
        )


class TestRetry:
    def test_asks_the_last_question_again_and_sets_its_answer_aside(self, asked: Shell, server: ModelServer) -> None:
        done = asked.in_process("run", "-t", "t", "--retry")
        assert (done.code, done.out, done.err) == (0, "a3\n", "")
        assert [text for _, text in roles_and_texts(server.bodies[-1])] == ["q1", "a1", "q2"]
        assert texts(asked) == ["q1", "a1", "q2", "a3"]
        assert texts(asked, "--all") == ["q1", "a1", "q2", "a2", "q2", "a3"]

    def test_undo_brings_the_old_answer_back(self, asked: Shell) -> None:
        asked.in_process("run", "-t", "t", "--retry")
        done = asked.in_process("threads", "undo", "t")
        assert done.err == "afk: turn 3 of 't' is set aside: q2\nafk: turn 2 of 't' is back: q2\n"
        assert texts(asked) == ["q1", "a1", "q2", "a2"]

    def test_reads_no_stdin(self, asked: Shell, server: ModelServer) -> None:
        done = asked.afk("run", "-t", "t", "--retry", stdin=b"never asked")
        assert done.code == 0
        assert "never asked" not in json.dumps(server.bodies[-1])

    def test_with_another_model_and_in_events(self, asked: Shell) -> None:
        done = asked.in_process("run", "-t", "t", "--retry", "-m", "openai/other-model", "--json")
        [begun] = [event for event in done.events if event["type"] == "run_started"]
        assert (begun["message"], begun["replaces"], begun["turn"]) == ("q2", [2], 3)
        assert begun["model"] == "openai/other-model"

    def test_keeps_the_attachments(self, asked: Shell, server: ModelServer, tmp_path: Path) -> None:
        note = tmp_path / "note.txt"
        note.write_text("the note itself")
        asked.in_process("run", "-t", "t", "q3", "--attach", str(note))
        note.unlink()
        assert asked.in_process("run", "-t", "t", "--retry").code == 0
        assert "the note itself" in json.dumps(server.bodies[-1])

    def test_a_refused_retry_keeps_the_old_answer_within_reach(self, asked: Shell, server: ModelServer) -> None:
        server.script(Step(status=401, body={"error": {"message": "no"}}))
        assert asked.in_process("run", "-t", "t", "--retry").code == 4
        asked.in_process("threads", "undo", "t")
        assert texts(asked) == ["q1", "a1", "q2", "a2"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("-t", "t", "--retry", "a message"), "leave the message out"),
            (("-t", "t", "--retry", "--edit"), "use one of them"),
            (("--retry",), "needs a thread"),
            (("-t", "t", "--retry", "--no-memory"), "needs memory"),
            (("-t", "t", "--retry", "--attach", "x"), "leave --attach out"),
            (("-t", "new", "--retry"), "there is no thread 'new'; `afk threads` lists all threads"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, asked: Shell, arguments: tuple[str, ...], said: str) -> None:
        done = asked.in_process("run", *arguments)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert [info["thread_id"] for info in asked.in_process("threads", "--json").events] == ["t"]

    @pytest.mark.parametrize("option", ["--retry", "--edit"])
    @pytest.mark.parametrize("slip", ["gardn", "gadren", "gardenn", "Garden", "gard"])
    def test_of_a_name_with_a_slip_names_the_thread(self, asked: Shell, option: str, slip: str) -> None:
        asked.in_process("threads", "rename", "t", "garden")
        done = asked.in_process("run", "-t", slip, option)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"afk: there is no thread {slip!r}; did you mean 'garden'?\n"

    def test_of_a_thread_without_a_turn_is_refused(self, asked: Shell) -> None:
        asked.in_process("threads", "undo", "t", "-n", "2")
        done = asked.in_process("run", "-t", "t", "--retry")
        assert (done.code, done.err) == (2, "afk: there is nothing to ask again: the thread 't' has no turn\n")


class TestEdit:
    def editor(self, shell: Shell, tmp_path: Path, does: str) -> None:
        script = tmp_path / "editor.py"
        script.write_text(f"import sys\npath = sys.argv[1]\ntext = open(path).read()\n{does}\n")
        shell.env["EDITOR"] = f"{sys.executable} {script}"
        shell.env.pop("VISUAL", None)

    def test_asks_what_the_editor_made_of_the_question(self, asked: Shell, server: ModelServer, tmp_path: Path) -> None:
        self.editor(asked, tmp_path, "print('drawn')\nopen(path, 'w').write(text.replace('q2', 'better'))")
        done = asked.afk("run", "-t", "t", "--edit")
        assert (done.code, done.out) == (0, "a3\n")
        assert "drawn" in done.err  # what an editor draws never becomes the answer
        assert [text for _, text in roles_and_texts(server.bodies[-1])] == ["q1", "a1", "better"]
        assert texts(asked) == ["q1", "a1", "better", "a3"]

    @pytest.mark.parametrize("does", ["pass", "open(path, 'w').write('')", "open(path, 'w').write(' \\n')"])
    def test_a_question_that_is_unchanged_or_empty_asks_nothing(
        self, asked: Shell, server: ModelServer, tmp_path: Path, does: str
    ) -> None:
        self.editor(asked, tmp_path, does)
        done = asked.afk("run", "-t", "t", "--edit")
        assert (done.code, done.out) == (2, "")
        assert "nothing was asked" in done.err
        assert len(server.bodies) == 2

    def test_an_editor_that_fails_or_is_not_there_asks_nothing(
        self, asked: Shell, server: ModelServer, tmp_path: Path
    ) -> None:
        self.editor(asked, tmp_path, "sys.exit(3)")
        for editor in (asked.env["EDITOR"], str(tmp_path / "none")):
            asked.env["EDITOR"] = editor
            done = asked.afk("run", "-t", "t", "--edit")
            assert (done.code, done.out) == (2, "")
            assert "set EDITOR" in done.err
        assert len(server.bodies) == 2

    def test_a_turn_that_came_meanwhile_is_not_replaced(self, asked: Shell, tmp_path: Path) -> None:
        self.editor(
            asked,
            tmp_path,
            f"import subprocess\nsubprocess.run([{str(AFK)!r}, 'run', '-n', '-t', 't', 'between'], check=True)\n"
            "open(path, 'w').write('late')",
        )
        done = asked.afk("run", "-t", "t", "--edit")
        assert done.code == 2
        assert "the last turn of the thread 't' is turn 3 by now, not 2" in done.err
        assert texts(asked) == ["q1", "a1", "q2", "a2", "between", "a3"]

    def test_the_question_stays_in_its_thread_where_another_is_used_meanwhile(
        self, asked: Shell, tmp_path: Path
    ) -> None:
        self.editor(
            asked,
            tmp_path,
            f"import subprocess\nsubprocess.run([{str(AFK)!r}, 'run', '-n', '-t', 'other', 'hi'], check=True)\n"
            "open(path, 'w').write('better')",
        )
        assert asked.afk("run", "-c", "--edit").code == 0
        assert texts(asked) == ["q1", "a1", "better", "a4"]
        assert texts(asked, "--all", thread="other") == ["hi", "a3"]


class TestFork:
    def test_has_copies_of_the_turns_and_outlives_its_source(self, asked: Shell, server: ModelServer) -> None:
        done = asked.in_process("threads", "fork", "t", "copy", "--at", "1")
        assert (done.code, done.out) == (0, "copy\n")
        asked.in_process("threads", "rm", "t", "--yes")
        asked.in_process("run", "-t", "copy", "q3")
        assert [text for _, text in roles_and_texts(server.bodies[-1])] == ["q1", "a1", "q3"]

    def test_takes_attachments_along(self, asked: Shell, server: ModelServer, tmp_path: Path) -> None:
        note = tmp_path / "note.txt"
        note.write_text("the note itself")
        asked.in_process("run", "-t", "t", "q3", "--attach", str(note))
        asked.in_process("threads", "fork", "t", "copy")
        asked.in_process("threads", "rm", "t", "--yes")
        assert asked.in_process("run", "-t", "copy", "more").code == 0
        assert "the note itself" in json.dumps(server.bodies[-1])

    def test_without_a_name_is_numbered(self, asked: Shell) -> None:
        assert asked.in_process("threads", "fork", "t").out == "t-2\n"
        assert asked.in_process("threads", "fork", "t").out == "t-3\n"

    @pytest.mark.parametrize("arguments", [("tag", "t", "travel"), ("rename", "t", "trip"), ("undo", "t")])
    def test_a_name_that_is_taken_leaves_its_thread_free(self, asked: Shell, arguments: tuple[str, ...]) -> None:
        """The chat forks in its own process, which goes on."""
        assert asked.in_process("threads", "fork", "t", "t").code == 1

        done = asked.in_process("threads", *arguments)

        assert done.code == 0, done.err

    def test_of_a_turn_that_is_undone_has_it(self, asked: Shell) -> None:
        asked.in_process("threads", "undo", "t")
        asked.in_process("run", "-t", "t", "q3")
        assert asked.in_process("threads", "fork", "t", "copy", "--at", "2").code == 0
        assert texts(asked, thread="copy") == ["q1", "a1", "q2", "a2"]


class TestTag:
    def test_tags_are_added_removed_and_listed(self, asked: Shell) -> None:
        assert asked.in_process("threads", "tag", "t", "work", "urgent", "work").out == "work\nurgent\n"
        assert asked.in_process("threads", "tag", "t", "later", "--remove", "urgent").out == "work\nlater\n"
        assert asked.in_process("threads", "tag", "t").out == "work\nlater\n"
        [listed] = asked.in_process("threads", "--json").events
        assert listed["tags"] == ["work", "later"]


def test_eight_processes_that_change_one_thread_leave_a_thread_without_damage(asked: Shell) -> None:
    changes = itertools.cycle([("undo", "t"), ("redo", "t"), ("tag", "t", "x"), ("fork", "t")])
    started = [
        subprocess.Popen(
            [AFK, "threads", *change],
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
        assert process.returncode in (0, 1, 2, 5), said  # 1: two forks of one name, 2: nothing to redo, 5: in use
        assert b"Traceback" not in said
    shown = asked.in_process("threads", "show", "t", "--all")
    assert shown.code == 0
    assert "damaged" not in shown.err
    assert texts(asked, "--all") == ["q1", "a1", "q2", "a2"]
    exported = asked.in_process("threads", "export", "t").out
    asked.in_process("threads", "rm", "t", "--yes")
    assert "t" not in [listed["thread_id"] for listed in asked.in_process("threads", "--json").events]
    assert asked.in_process("threads", "import", stdin=exported.encode()).code == 0
