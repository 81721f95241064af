"""`afk threads resume`: what the model is sent, what tools do, and what the next turn knows."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from afkcli.core.thread.resuming import GO_ON
from afkcli.testing.model_script import Fault, ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Shell, kill, roles_and_texts, wait_for_output

AGENT = """
import os, sqlite3, sys, time
from pathlib import Path
from afkcli import Agent, Runner, tool

@tool
def pay(amount: int) -> str:
    "Pay."
    with Path("calls").open("a") as file:
        file.write(f"pay {{amount}}\\n")
    if amount > 100 and len(sys.argv) == 1:
        threads = sqlite3.connect(Path(os.environ["AFK_HOME"], "data", "threads.db"))
        while not threads.execute("SELECT 1 FROM Cache WHERE value LIKE '%paid 1%'").fetchone():
            time.sleep(0.01)  # until what finished before is journaled
        os._exit(9)
    return f"paid {{amount}}"

@tool(idempotent={idempotent})
def look(place: str) -> str:
    "Look."
    with Path("calls").open("a") as file:
        file.write(f"look {{place}}\\n")
    if len(sys.argv) == 1:
        time.sleep(60)
    return f"seen {{place}}"

agent = Agent(model="gpt-5.2-mini", tools=[pay, look])
runner = Runner()
if len(sys.argv) == 1:
    print(runner.run_sync(agent, user_message="go", thread_id="t").final_text)
else:
    import asyncio
    print(asyncio.run(runner.resume(agent, thread_id="t")).final_text)
"""


def cut_by(keyed: Shell, server: ModelServer, number: int) -> None:
    """Have a run of thread `t` end by a signal in the middle of its answer."""
    server.script(Step(text="word ", repeat=1000, delay_between=0.05))
    process = keyed.start("run", "-t", "t", "hi")
    wait_for_output(process, b"word word")
    keyed.wait_until_kept("t", "word word")
    kill(process, number)
    server.script(Step(text="the rest"), Step(text="ok"))


class TestText:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_a_cut_answer_continues_where_it_was_cut(self, keyed: Shell, server: ModelServer, number: int) -> None:
        cut_by(keyed, server, number)

        done = keyed.afk("threads", "resume", "t")

        assert (done.code, done.out, done.err) == (0, "the rest\n", "")
        sent = roles_and_texts(server.bodies[1])
        assert [role for role, _ in sent] == ["user", "assistant", "user"]
        assert sent[0] == ("user", "hi")
        assert sent[1][1].startswith("word word ")
        assert "cut off here" in sent[1][1]
        assert sent[2] == ("user", GO_ON)

    def test_the_next_turn_sends_the_resumed_turn_once(self, keyed: Shell, server: ModelServer) -> None:
        cut_by(keyed, server, signal.SIGKILL)
        keyed.afk("threads", "resume", "t")

        keyed.afk("run", "-t", "t", "thanks")

        sent = roles_and_texts(server.bodies[2])
        assert sent[:3] == roles_and_texts(server.bodies[1])
        assert sent[3:] == [("assistant", "the rest"), ("user", "thanks")]

    def test_a_resumed_turn_that_is_cut_is_resumed_again(self, keyed: Shell, server: ModelServer) -> None:
        server.script(
            Step(text=["one ", "two"], fault=Fault.CUT, fault_after=1),
            Step(text=["two ", "three"], fault=Fault.CUT, fault_after=1),
            Step(text="three"),
        )
        assert keyed.afk("run", "-t", "t", "count").code == 4
        assert keyed.afk("threads", "resume", "t").code == 4

        done = keyed.afk("threads", "resume", "t")

        assert (done.code, done.out) == (0, "three\n")
        texts = [text for _, text in roles_and_texts(server.bodies[2])]
        assert len(texts) == 5
        assert (texts[0], texts[2], texts[4]) == ("count", GO_ON, GO_ON)
        assert texts[1].startswith("one ")
        assert texts[3].startswith("two ")

    def test_an_unanswered_question_is_asked_again(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(status=401, body={"error": {"message": "no"}}), Step(text="ok"), Step(text="more"))
        assert keyed.afk("run", "-t", "t", "hi").code == 4

        done = keyed.afk("threads", "resume", "t")
        keyed.afk("run", "-t", "t", "thanks")

        assert (done.code, done.out) == (0, "ok\n")
        assert roles_and_texts(server.bodies[1]) == [("user", "hi")]
        assert [text for _, text in roles_and_texts(server.bodies[2])] == ["hi", "ok", "thanks"]

    def test_events_and_threads_show_the_resumed_run(self, keyed: Shell, server: ModelServer) -> None:
        cut_by(keyed, server, signal.SIGKILL)
        [cut] = keyed.afk("threads", "show", "t", "--json").events

        done = keyed.afk("threads", "resume", "t", "--json")

        started = next(event for event in done.events if event["type"] == "run_started")
        assert (started["resumed"], started["parent_run_id"], started["turn"]) == (True, cut["run_id"], 2)
        assert started["message"] == "hi"
        assert done.events[-1]["result"]["final_text"] == "the rest"
        first, second = keyed.afk("threads", "show", "t", "--json").events
        assert (first["state"], first["resumed_as"]) == ("interrupted", 2)
        assert (second["state"], second["resumed"], second["steps"]) == ("completed", True, 1)
        shown = keyed.afk("threads", "show", "t").out
        assert shown.count("user: hi\n") == 1
        assert "resumed as turn 2" in shown


class TestNothingToResume:
    def test_a_completed_turn(self, keyed: Shell) -> None:
        keyed.in_process("run", "-t", "t", "hi")

        done = keyed.in_process("threads", "resume", "t")

        assert (done.code, done.out) == (2, "")
        assert done.err == "afk: there is nothing to resume: turn 1 of thread 't' is completed\n"
        assert len(keyed.in_process("threads", "show", "t", "--json").events) == 1

    def test_a_refused_question(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(status=400, body={"error": {"message": "no"}}))
        keyed.in_process("run", "-t", "t", "hi")

        done = keyed.in_process("threads", "resume", "t")

        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "was refused (bad_request)" in done.err

    def test_no_such_thread(self, keyed: Shell) -> None:
        done = keyed.in_process("threads", "resume", "nope")

        assert (done.code, done.err) == (2, "afk: there is no thread 'nope'; `afk threads` lists all threads\n")
        assert keyed.in_process("threads").out == ""

    def test_a_running_turn_is_busy(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="word ", repeat=1000, delay_between=0.05))
        process = keyed.start("run", "-t", "t", "hi")
        wait_for_output(process, b"word")

        done = keyed.afk("threads", "resume", "t", "--busy", "fail")
        kill(process, signal.SIGTERM)

        assert (done.code, done.out) == (5, "")

    def test_a_fork_with_nothing_to_resume_is_not_left_behind(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="one"), Step(text="word ", repeat=1000, delay_between=0.05))
        keyed.in_process("run", "-t", "t", "hi")
        process = keyed.start("run", "-t", "t", "more")
        wait_for_output(process, b"word")

        done = keyed.in_process("threads", "resume", "t", "--busy", "fork")
        names = [row["thread_id"] for row in keyed.in_process("threads", "--json").events]
        kill(process, signal.SIGTERM)

        assert done.code == 2
        assert names == ["t"]


class TestTools:
    @pytest.fixture
    def agent(self, keyed: Shell) -> Path:
        script = keyed.folder / "agent.py"
        script.write_text(AGENT.format(idempotent=True))
        return script

    def calls(self, keyed: Shell) -> list[str]:
        return (keyed.folder / "calls").read_text().splitlines()

    def resume(self, keyed: Shell, script: Path) -> str:
        again = script.with_name("again.py")
        again.write_text(f"import sys\nsys.argv.append('again')\n{script.read_text()}")
        done = keyed.python(again)
        assert done.code == 0, done.err
        return done.out

    def test_finished_calls_are_not_made_again(self, keyed: Shell, server: ModelServer, agent: Path) -> None:
        both = [ScriptedCall(name="pay", arguments={"amount": amount}, id=f"c{amount}") for amount in (1, 500)]
        server.script(Step(tool_calls=both), Step(text="done"))
        assert keyed.python(agent).code == 9  # killed while the second call was being made

        assert self.resume(keyed, agent) == "done\n"

        assert sorted(self.calls(keyed)) == ["pay 1", "pay 500"]
        answers = {message["tool_call_id"]: message["content"] for message in server.bodies[1]["messages"][3:]}
        assert answers["c1"] == "paid 1"
        assert "did not finish" in answers["c500"]
        assert [event["code"] for event in keyed.log() if event["type"] == "warning"] == ["tool_not_repeated"]

    def test_an_idempotent_call_is_made_again(self, keyed: Shell, server: ModelServer, agent: Path) -> None:
        server.script(
            Step(tool_calls=[ScriptedCall(name="look", arguments={"place": "x"}, id="c1")]), Step(text="done")
        )
        self.interrupt(keyed, agent, "look x")

        assert self.resume(keyed, agent) == "done\n"

        assert self.calls(keyed) == ["look x", "look x"]
        assert [message["content"] for message in server.bodies[1]["messages"][3:]] == ["seen x"]

    def test_only_the_installed_tool_says_what_is_idempotent(
        self, keyed: Shell, server: ModelServer, agent: Path
    ) -> None:
        server.script(
            Step(tool_calls=[ScriptedCall(name="look", arguments={"place": "x"}, id="c1")]), Step(text="done")
        )
        self.interrupt(keyed, agent, "look x")
        agent.write_text(AGENT.format(idempotent=False))

        assert self.resume(keyed, agent) == "done\n"

        assert self.calls(keyed) == ["look x"]

    def test_the_command_line_tells_the_model_of_tools_it_does_not_have(
        self, keyed: Shell, server: ModelServer, agent: Path
    ) -> None:
        server.script(
            Step(tool_calls=[ScriptedCall(name="look", arguments={"place": "x"}, id="c1")]), Step(text="done")
        )
        self.interrupt(keyed, agent, "look x")

        done = keyed.afk("threads", "resume", "t")

        assert (done.code, done.out) == (0, "done\n")
        assert "there is no tool 'look'" in server.bodies[1]["messages"][2]["content"]

    def interrupt(self, keyed: Shell, agent: Path, call: str) -> None:
        """Run the agent, and kill it while it makes `call`."""
        process = keyed.start_python(agent)
        file = keyed.folder / "calls"
        while not file.exists() or call not in file.read_text():
            assert process.poll() is None, process.communicate(timeout=LIMIT)
        kill(process, signal.SIGKILL)
