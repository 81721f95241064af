"""What is in the log's folder after events were emitted: real files, real processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from afk_sink_jsonl import Settings, afk_sink

from afkcli.core.contract.events import RunStarted
from afkcli.plugin import ConfigError, TextDeltaEvent, event_to_json

DAY = "2026-01-31"


def event(seq=0, text="hello", day=DAY):
    return TextDeltaEvent(
        run_id="run",
        thread_id="t-42",
        thread_key="key",
        turn=1,
        seq=seq,
        ts=f"{day}T12:00:00.000Z",
        step=1,
        text_delta=text,
    )


def sink_in(folder, **settings):
    return afk_sink(Settings(**{"path": str(folder), "keep_days": 0, **settings}))


def lines(path):
    """Return the lines of a file, each without its newline; the last has to have one."""
    content = path.read_bytes()
    assert content.endswith(b"\n")
    return content[:-1].split(b"\n")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_events_that_are_given_together_are_lines_in_their_order_and_in_the_file_of_their_day(tmp_path):
    days = ["2026-01-30", "2026-01-30", DAY, DAY, DAY, "2026-01-30"]
    events = [event(seq, f"number {seq}\n", day) for seq, day in enumerate(days)]
    sink = sink_in(tmp_path)
    sink.emit_all(events)
    sink.close()
    for day in set(days):
        wanted = [event_to_json(one).encode() for one in events if one.ts.startswith(day)]
        assert lines(tmp_path / f"{day}.jsonl") == wanted


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_every_event_is_one_line_in_order(tmp_path):
    sink = sink_in(tmp_path)
    events = [event(seq) for seq in range(100)]
    for one in events:
        sink.emit(one)
    sink.close()
    assert [line.decode() for line in lines(tmp_path / f"{DAY}.jsonl")] == [event_to_json(one) for one in events]


def test_a_large_event_is_one_line_behind_a_torn_one_too(tmp_path):
    path = tmp_path / f"{DAY}.jsonl"
    path.write_bytes(b'{"torn')
    header = {
        name: getattr(event(0), name) for name in ("run_id", "thread_id", "thread_key", "turn", "seq", "ts", "step")
    }
    large = RunStarted(**header, agent="a", model="m", message='"\n\U0001f600' * 2_000_000)
    sink = sink_in(tmp_path)
    sink.emit(large)
    sink.emit(event(1))
    sink.close()
    assert [line.decode() for line in lines(path)] == ['{"torn', event_to_json(large), event_to_json(event(1))]


def test_an_event_is_in_the_file_as_soon_as_it_was_emitted(tmp_path):
    sink_in(tmp_path).emit(event())
    assert len(lines(tmp_path / f"{DAY}.jsonl")) == 1


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\x00\x1b[2J\x85\u2028\u2029", "\ud83d", "\U0001f600" * 1000])
def test_no_text_can_break_a_line(tmp_path, text):
    sink = sink_in(tmp_path)
    sink.emit(event(text=text))
    sink.emit(event(1))
    first, second = lines(tmp_path / f"{DAY}.jsonl")
    assert json.loads(first)["text_delta"] == text.replace("\ud83d", "\ufffd")
    assert json.loads(second)["seq"] == 1


def test_the_default_folder_is_in_afks_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "home"))
    sink = afk_sink(Settings(keep_days=0))
    assert not (tmp_path / "home").exists()
    sink.emit(event())
    assert names(tmp_path / "home" / "state" / "events") == [f"{DAY}.jsonl"]


def test_only_the_user_can_read_the_log_whatever_the_umask(tmp_path, monkeypatch, open_umask):
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "home"))
    afk_sink(Settings(keep_days=0)).emit(event())
    folder = tmp_path / "home" / "state" / "events"
    assert mode(folder) == mode(folder.parent) == mode(tmp_path / "home") == 0o700
    assert mode(folder / f"{DAY}.jsonl") == 0o600


def test_wider_permissions_are_removed(tmp_path, monkeypatch, open_umask):
    monkeypatch.setenv("AFK_HOME", str(tmp_path))
    folder = tmp_path / "state" / "events"
    folder.mkdir(parents=True, mode=0o777)
    (folder / f"{DAY}.jsonl").touch(mode=0o666)
    afk_sink(Settings(keep_days=0)).emit(event())
    assert mode(folder) == 0o700
    assert mode(folder / f"{DAY}.jsonl") == 0o600


def test_a_folder_that_the_user_named_keeps_its_rights(tmp_path, open_umask):
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    sink_in(shared).emit(event())
    assert mode(shared) == 0o755
    assert mode(shared / f"{DAY}.jsonl") == 0o600


def test_a_new_day_begins_a_new_file(tmp_path):
    sink = sink_in(tmp_path)
    for day in ("2026-01-31", "2026-02-01", "2026-02-01"):
        sink.emit(event(day=day))
    assert names(tmp_path) == ["2026-01-31.jsonl", "2026-02-01.jsonl"]
    assert len(lines(tmp_path / "2026-02-01.jsonl")) == 2


def test_a_full_file_is_followed_by_another(tmp_path):
    sink = sink_in(tmp_path, max_file_mb=1)
    for seq in range(25):
        sink.emit(event(seq, text="x" * 100_000))
    assert names(tmp_path) == [f"{DAY}-1.jsonl", f"{DAY}-2.jsonl", f"{DAY}.jsonl"]
    files = [tmp_path / name for name in (f"{DAY}.jsonl", f"{DAY}-1.jsonl", f"{DAY}-2.jsonl")]
    assert [json.loads(line)["seq"] for file in files for line in lines(file)] == list(range(25))
    again = sink_in(tmp_path, max_file_mb=1)
    again.emit(event(25))
    assert json.loads(lines(files[2])[-1])["seq"] == 25


class Noon(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_old_days_are_deleted_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr("afk_sink_jsonl.logfolder.datetime", Noon)  # midnight may come during the test
    today = Noon.now().date()
    old, kept = (today - timedelta(days=8)).isoformat(), (today - timedelta(days=7)).isoformat()
    others = [f"{old}.txt", f"my-{old}.jsonl", f"{old}.jsonl.gz", f"{old}-a.jsonl", "notes.jsonl"]
    for name in (f"{old}.jsonl", f"{old}-3.jsonl", f"{kept}.jsonl", *others):
        (tmp_path / name).touch()
    (tmp_path / "2020-01-01.jsonl").mkdir()
    sink_in(tmp_path, keep_days=7).emit(event(day=today.isoformat()))
    expected = [f"{kept}.jsonl", f"{today}.jsonl", "2020-01-01.jsonl", *others]
    assert names(tmp_path) == sorted(expected)


def test_keep_days_0_deletes_nothing(tmp_path):
    (tmp_path / "2001-01-01.jsonl").touch()
    sink_in(tmp_path, keep_days=0).emit(event())
    assert names(tmp_path) == ["2001-01-01.jsonl", f"{DAY}.jsonl"]


def test_a_symbolic_link_in_the_files_place_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / f"{DAY}.jsonl").symlink_to(target)
    with pytest.raises(OSError) as caught:
        sink_in(folder).emit(event())
    assert caught.value.errno == errno.ELOOP
    assert f"{DAY}.jsonl" in str(caught.value)
    assert target.read_text() == "precious"


def test_a_fifo_in_the_files_place_is_refused(tmp_path):
    os.mkfifo(tmp_path / f"{DAY}.jsonl")
    with pytest.raises(OSError, match="not a regular file"):
        sink_in(tmp_path).emit(event())


def test_a_deleted_file_is_created_again(tmp_path):
    sink = sink_in(tmp_path)
    sink.emit(event(0))
    (tmp_path / f"{DAY}.jsonl").unlink()
    sink.emit(event(1))
    assert [json.loads(line)["seq"] for line in lines(tmp_path / f"{DAY}.jsonl")] == [1]


def test_a_torn_line_is_not_continued(tmp_path):
    path = tmp_path / f"{DAY}.jsonl"
    path.write_bytes(b'{"v":1,"type":"text_del')
    sink = sink_in(tmp_path)
    sink.emit(event(0))
    with path.open("ab") as other_process:
        other_process.write(b'{"torn')
    sink.emit(event(1))
    torn, first, torn_again, second = lines(path)
    assert (torn, torn_again) == (b'{"v":1,"type":"text_del', b'{"torn')
    assert [json.loads(line)["seq"] for line in (first, second)] == [0, 1]


def test_a_full_disk_is_reported_and_the_next_write_begins_a_new_line(tmp_path):
    code = """
        import errno, resource, signal, sys
        sys.path.insert(0, sys.argv[2])
        from test_sink_jsonl import event, sink_in
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        sink = sink_in(sys.argv[1])
        sink.emit(event(0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for text in ("x" * 5000, "y"):
            try:
                sink.emit(event(1, text=text))
            except OSError as error:
                print(errno.errorcode[error.errno], error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sink.emit(event(2))
    """
    done = run_python(code, str(tmp_path), str(Path(__file__).parent))
    path = tmp_path / f"{DAY}.jsonl"
    first, second = done.stdout.splitlines()
    assert first.startswith("ENOSPC")
    assert second.startswith("EFBIG")
    assert str(path) in first
    assert str(path) in second
    whole, torn, after = lines(path)
    assert json.loads(whole)["seq"] == 0
    assert torn.startswith(b'{"v":1')
    assert json.loads(after)["seq"] == 2


def test_four_processes_append_without_tearing_a_line(tmp_path):
    code = """
        import sys
        sys.path.insert(0, sys.argv[2])
        from test_sink_jsonl import event, sink_in
        sink = sink_in(sys.argv[1], max_file_mb=1)
        print("ready", flush=True)
        sys.stdin.readline()
        for seq in range(5000):
            sink.emit(event(seq, text=sys.argv[3] * (1 + seq % 300)))
    """
    here = str(Path(__file__).parent)
    writers = [start_python(code, str(tmp_path), here, letter) for letter in "abcd"]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    files = [tmp_path / f"{DAY}.jsonl", *(tmp_path / f"{DAY}-{number}.jsonl" for number in range(1, 9))]
    seen = {letter: [] for letter in "abcd"}
    for file in (file for file in files if file.exists()):
        assert file.stat().st_size < 1_100_000
        for line in lines(file):
            form = json.loads(line)
            seen[form["text_delta"][0]].append(form["seq"])
    assert seen == {letter: list(range(5000)) for letter in "abcd"}


def test_settings_that_make_no_sense_are_named():
    for name in ("max_file_mb", "keep_days"):
        with pytest.raises(ConfigError, match=name):
            afk_sink(Settings(**{name: -1}))
    with pytest.raises(ConfigError, match="not absolute"):
        afk_sink(Settings(path="logs"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        sink_in(tmp_path / "file" / "log").emit(event())


def start_python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def run_python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )


def other_thread(seq, day=DAY):
    return RunStarted(
        run_id="other run",
        thread_id="other",
        thread_key="other key",
        turn=1,
        seq=seq,
        ts=f"{day}T12:00:00.000Z",
        step=0,
        agent="a",
        model="m",
        message='about "key"',
    )


def test_the_lines_of_a_thread_are_taken_out_of_all_files(tmp_path):
    sink = sink_in(tmp_path)
    sink.emit_all([event(0, day="2026-01-30"), event(1), other_thread(2), event(3)])
    sink.close()
    done = [(one.file.name, one.runs, one.in_use) for one in sink_in(tmp_path).remove_threads(["key"])]
    assert done == [("2026-01-30.jsonl", 1, False), (f"{DAY}.jsonl", 1, False)]
    assert names(tmp_path) == [f"{DAY}.jsonl"]
    assert lines(tmp_path / f"{DAY}.jsonl") == [event_to_json(other_thread(2)).encode()]
    assert mode(tmp_path / f"{DAY}.jsonl") == 0o600
    assert list(sink_in(tmp_path).remove_threads(["key"])) == []


def test_a_process_that_is_killed_while_it_takes_lines_out_leaves_the_log_whole_and_the_next_one_cleans_up(tmp_path):
    sink = sink_in(tmp_path)
    sink.emit_all([event(0), other_thread(1), event(2)])
    sink.close()
    before = (tmp_path / f"{DAY}.jsonl").read_bytes()
    code = """
        import os, signal, sys
        from pathlib import Path
        from afk_sink_jsonl import removal
        removal.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        list(removal.remove_lines([Path(sys.argv[1])], ["key"]))
    """
    process = start_python(code, str(tmp_path / f"{DAY}.jsonl"))
    assert process.wait(60) == -signal.SIGKILL
    process.communicate()
    assert (tmp_path / f"{DAY}.jsonl").read_bytes() == before
    assert len(names(tmp_path)) == 2
    assert list(sink_in(tmp_path).remove_threads(["unknown"])) == []
    assert names(tmp_path) == [f"{DAY}.jsonl"]
    (done,) = sink_in(tmp_path).remove_threads(["key"])
    assert (done.runs, done.in_use) == (1, False)
    assert lines(tmp_path / f"{DAY}.jsonl") == [event_to_json(other_thread(1)).encode()]


def test_the_copy_of_a_process_that_still_takes_lines_out_is_left_alone(tmp_path):
    file, copy = tmp_path / f"{DAY}.jsonl", tmp_path / f"{DAY}.jsonl.1-0a1b2c3d.new"
    sink = sink_in(tmp_path)
    sink.emit(event())  # its shared lock, as the exclusive one of the other process, keeps the file
    copy.write_bytes(b"{}")
    assert list(sink_in(tmp_path).remove_threads(["unknown"])) == []
    assert sorted(names(tmp_path)) == [file.name, copy.name]
    sink.close()


def test_an_old_copy_is_deleted_with_the_files_of_its_day(tmp_path):
    (tmp_path / "2020-01-30-2.jsonl.17-0a1b2c3d.new").write_bytes(b"{}")
    sink = sink_in(tmp_path, keep_days=30)
    sink.emit(event())
    sink.close()
    assert "2020-01-30-2.jsonl.17-0a1b2c3d.new" not in names(tmp_path)


def test_a_file_that_another_process_has_open_is_left_alone(tmp_path):
    code = """
        import sys
        from afk_sink_jsonl import Settings, afk_sink
        sys.path.insert(0, sys.argv[2])
        from test_sink_jsonl import event
        sink = afk_sink(Settings(path=sys.argv[1], keep_days=0))
        sink.emit(event(0)); print('open', flush=True); sys.stdin.readline()
        sink.emit(event(1)); sink.close()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "open\n"
    (done,) = sink_in(tmp_path).remove_threads(["key"])
    assert done.in_use
    process.communicate("go\n", timeout=60)
    assert len(lines(tmp_path / f"{DAY}.jsonl")) == 2
    (done,) = sink_in(tmp_path).remove_threads(["key"])
    assert (done.runs, done.in_use) == (1, False)
    assert names(tmp_path) == []


def test_no_line_is_lost_while_lines_are_taken_out(tmp_path):
    code = """
        import sys
        from afk_sink_jsonl import Settings, afk_sink
        sys.path.insert(0, sys.argv[2])
        from test_sink_jsonl import other_thread
        for number in range(60):
            sink = afk_sink(Settings(path=sys.argv[1], keep_days=0))
            sink.emit(other_thread(number))
            sink.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(Path(__file__).parent)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    while any(writer.poll() is None for writer in writers):
        sink = sink_in(tmp_path)
        sink.emit(event())
        sink.close()
        for _ in sink_in(tmp_path).remove_threads(["key"]):
            pass
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    left = [line for path in tmp_path.iterdir() for line in lines(path)]
    assert sum(b'"other key"' in line for line in left) == 180
