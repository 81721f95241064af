"""`afk events`, as a user meets it."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from afkcli.commands.event_log import EventLog
from tests.e2e.shell import Shell, kill, wait_for_output


def log_file(shell: Shell, day: int = 0, number: int = 0) -> Path:
    """Return the path of a file of the log: of the day of the oldest file, or `day` days later.

    Midnight may have come since that file was written, so the day of now is that of an empty log alone.
    """
    days = [path.name[:10] for path in shell.logs()] or [datetime.now(UTC).date().isoformat()]
    name = f"{date.fromisoformat(days[0]) + timedelta(days=day)}" + (f"-{number}" if number else "")
    return shell.home / "afk" / "state" / "events" / f"{name}.jsonl"


def event(text: str) -> str:
    return json.dumps({"v": 1, "type": "text_delta", "thread_id": "x", "run_id": "r", "text_delta": text})


class TestSchema:
    def test_is_a_json_schema_that_names_every_type(self, shell: Shell) -> None:
        schema = json.loads(shell.in_process("events", "schema").out)
        assert schema["$schema"].startswith("https://json-schema.org/")
        assert {"RunStarted", "Completed"} <= set(schema["$defs"])
        assert len(shell.in_process("events", "schema", "--json").out.splitlines()) == 1


class TestTail:
    def test_in_json_is_the_log_to_the_letter(self, talked: Shell) -> None:
        lines = log_file(talked).read_text().splitlines()
        assert talked.in_process("events", "tail", "--json", "-n", "1000").out.splitlines() == lines
        assert talked.in_process("events", "tail", "--json", "-n", "3").out.splitlines() == lines[-3:]

    def test_is_of_a_thread_or_a_run(self, talked: Shell) -> None:
        events = talked.in_process("events", "tail", "--json", "-n", "99", "--thread", "trip").events
        assert {item["thread_id"] for item in events} == {"trip"}
        run = events[0]["run_id"]
        events = [item for item in events if item["run_id"] == run]
        assert talked.in_process("events", "tail", "--json", "-n", "99", "--run", run[-8:]).events == events
        nothing = talked.in_process("events", "tail", "--run", "nope")
        assert (nothing.code, nothing.out) == (0, "")
        assert "no event matches" in nothing.err

    def test_for_a_person_is_a_line_an_event(self, talked: Shell) -> None:
        last = talked.in_process("events", "tail", "-n", "1").out
        assert "soup" in last
        assert "completed" in last
        assert "reply 3: Onion soup" in last

    def test_takes_the_beginning_of_a_name_and_follows_a_rename(self, talked: Shell) -> None:
        of_trip = talked.in_process("events", "tail", "--json", "-n", "99", "-t", "trip").events
        assert talked.in_process("events", "tail", "--json", "-n", "99", "-t", "tr").events == of_trip
        assert talked.in_process("threads", "rename", "trip", "journey").code == 0
        assert talked.in_process("events", "tail", "--json", "-n", "99", "-t", "journey").events == of_trip
        assert talked.in_process("threads", "rm", "journey", "--yes").code == 0
        assert talked.in_process("events", "tail", "--json", "-n", "99", "-t", "trip").events == of_trip

    def test_says_why_a_name_means_no_thread(self, talked: Shell) -> None:
        talked.in_process("threads", "rename", "soup", "trout")
        log = talked.one_log()
        for command in (("events", "tail"), ("replay", str(log))):
            several = talked.in_process(*command, "-t", "tr")
            assert (several.code, several.out) == (2, "")
            assert "'tr' may mean several threads: " in several.err
            wrong = talked.in_process(*command, "-t", "tirp")
            assert (wrong.code, wrong.out) == (0, "")
            assert "there is no thread 'tirp'; did you mean 'trip'?" in wrong.err
            for text in ("", "-t", "a\nb"):
                invalid = talked.in_process(*command, "-t", text)
                assert (invalid.code, invalid.out) == (2, "")
                assert "the thread name " in invalid.err

    def test_shows_a_log_when_the_store_cannot_be_opened(self, talked: Shell) -> None:
        of_trip = talked.in_process("events", "tail", "--json", "-n", "99", "-t", "trip").events
        talked.env["AFK_STORE"] = "nowhere"
        assert talked.in_process("events", "tail", "--json", "-n", "99", "-t", "trip").events == of_trip
        log = talked.one_log()
        assert "trip, turn 1" in talked.in_process("replay", str(log), "-t", "trip").err

    def test_is_of_several_types_with_commas_or_options(self, talked: Shell) -> None:
        for given in (["--type", "run_started,completed"], ["--type", "completed", "--type", " run_started"]):
            events = talked.in_process("events", "tail", "--json", "-n", "4", *given).events
            assert [item["type"] for item in events] == ["run_started", "completed"] * 2

    @pytest.mark.parametrize("wrong", ["complted", "completed,complted", "completed, complted", "Completed"])
    def test_refuses_a_type_that_is_not_one_with_one_that_is_near(self, talked: Shell, wrong: str) -> None:
        done = talked.in_process("events", "tail", "--type", wrong)
        assert (done.code, done.out) == (2, "")
        assert f"there is no event of the type {wrong.split(',')[-1].strip()!r}; did you mean 'completed'?" in done.err

    @pytest.mark.parametrize("wrong", ["zzz", "", "completed,", ","])
    def test_refuses_any_other_type_with_a_list_of_all(self, talked: Shell, wrong: str) -> None:
        done = talked.in_process("events", "tail", "--type", wrong)
        assert (done.code, done.out) == (2, "")
        assert "types: run_started, " in done.err

    def test_ends_without_a_message_when_its_reader_has_enough(self, talked: Shell) -> None:
        line = event("long " * 2000) + "\n"
        log_file(talked, number=1).write_text(line * 40)
        process = talked.start("events", "tail", "--json", "-n", "40")
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""

    def test_of_the_last_zero_lines_is_empty(self, talked: Shell) -> None:
        done = talked.in_process("events", "tail", "-n", "0")
        assert (done.code, done.out, done.err) == (0, "", "")

    def test_of_no_log_is_empty(self, shell: Shell) -> None:
        done = shell.in_process("events", "tail")
        assert (done.code, done.out) == (0, "")
        assert "the event log is empty" in done.err

    def test_leaves_out_a_torn_line_and_says_so(self, talked: Shell) -> None:
        with log_file(talked).open("a") as file:
            file.write('{"v":1,"type":"te\n' + event("after") + "\n" + '{"v":1,"half')
        done = talked.in_process("events", "tail", "--json", "-n", "2")
        assert [item["type"] for item in done.events] == ["completed", "text_delta"]
        assert "1 line(s)" in done.err

    def test_reads_the_log_where_the_sink_keeps_it(self, keyed: Shell, tmp_path: Path) -> None:
        config = keyed.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[sinks.jsonl]\npath = "{tmp_path}/elsewhere"\n')
        keyed.in_process("run", "hi")
        assert keyed.in_process("events", "tail", "-n", "1", "--json").events[0]["type"] == "completed"
        config.write_text("[sinks.jsonl]\nenabled = false\n")
        done = keyed.in_process("events", "tail")
        assert done.code == 2
        assert "no sink in use keeps a log" in done.err


class TestFollow:
    def follow(self, shell: Shell) -> subprocess.Popen[bytes]:
        return shell.start("events", "tail", "-f", "--json", "-n", "1")

    def test_sees_a_rotated_file_a_new_day_and_a_line_once_it_is_whole(self, talked: Shell) -> None:
        process = self.follow(talked)
        wait_for_output(process, b"completed")
        first = log_file(talked)
        with first.open("a") as file:
            line = event("halved")
            file.write(line[:20])
            file.flush()
            log_file(talked, number=1).write_text(event("rotated") + "\n")
            wait_for_output(process, b"rotated")
            file.write(line[20:] + "\n")
        wait_for_output(process, b"halved")
        log_file(talked, day=1).write_text(event("tomorrow") + "\n")
        wait_for_output(process, b"tomorrow")
        _, err = kill(process, signal.SIGINT)
        assert process.returncode == -signal.SIGINT  # 130 to a shell
        assert err == b""

    def test_shows_only_the_events_that_are_asked_for(self, talked: Shell) -> None:
        process = talked.start("events", "tail", "-f", "-n", "1", "--thread", "x", "--type", "text_delta,error")
        others = event("of another thread").replace('"x"', '"y"'), event("of another type").replace("text_delta", "odd")
        with log_file(talked, number=1).open("a") as file:
            file.write("\n".join([*others, event("wanted")]) + "\n")
        seen = wait_for_output(process, b"wanted")
        assert b"another" not in seen
        assert seen.count(b"\n") == 1
        log_file(talked, number=1).unlink()
        log_file(talked, number=2).write_text(event("after a file was deleted") + "\n")
        wait_for_output(process, b"after a file was deleted")
        kill(process, signal.SIGTERM)
        assert process.returncode == -signal.SIGTERM

    def test_ends_quietly_without_a_reader_even_if_nothing_comes(self, talked: Shell) -> None:
        process = self.follow(talked)
        wait_for_output(process, b"completed")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""

    def test_continues_from_an_empty_log(self, shell: Shell) -> None:
        process = self.follow(shell)
        folder = log_file(shell).parent
        folder.mkdir(parents=True, exist_ok=True)
        log_file(shell).write_text(event("first") + "\n")
        wait_for_output(process, b"first")
        kill(process)


class TestEventLog:
    def log(self, *files: Path) -> EventLog:
        return EventLog(lambda: [file for file in files if file.exists()], lambda form: True)

    @pytest.mark.parametrize("size", [10, 65_000, 65_536, 200_000])
    def test_finds_the_last_lines_whatever_their_size(self, tmp_path: Path, size: int) -> None:
        file = tmp_path / "log"
        file.write_text("".join(event(f"{number}" * size) + "\n" for number in range(5)))
        found = self.log(file).last(3)
        assert [item.form["text_delta"][0] for item in found] == ["2", "3", "4"]

    def test_continues_where_it_stopped_reading_and_forgets_deleted_files(self, tmp_path: Path) -> None:
        old, new = tmp_path / "1", tmp_path / "2"
        old.write_text(event("a") + "\n")
        log = self.log(old, new)
        assert len(log.last(10)) == 1
        new.write_text(event("b") + "\n" + event("c")[:9])
        assert [item.form["text_delta"] for item in log.more()] == ["b"]
        old.unlink()
        new.write_text(event("b") + "\n" + event("c") + "\n")
        assert [item.form["text_delta"] for item in log.more()] == ["c"]
        assert log.more() == []

    def test_takes_lines_with_line_separators_within_for_one(self, tmp_path: Path) -> None:
        file = tmp_path / "log"
        file.write_bytes(json.dumps({"type": "x", "text_delta": "a\u2028b\x85c"}, ensure_ascii=False).encode() + b"\n")
        log = self.log(file)
        assert len(log.last(1)) == 1
        assert log.left_out == 0
