"""Many processes on one store: creating it, racing, dying and sleeping."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.core.thread.history import load_history
from afkcli.core.thread.operations import seal_interrupted
from afkcli.plugin import HeadMismatchError, LeaseLostError, RecordKind, current_owner
from afkcli.testing.store_steps import acquired, asked, save, save_turn, with_journal

LIMIT = 120  # seconds after which a process hangs; never a measure of speed


def finished(processes: list) -> list[str]:
    """Wait for processes; return what they printed. None may fail."""
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, errors
        outputs.append(output)
    return outputs


def test_sixteen_processes_create_the_store_at_once(start_python, folder: Path) -> None:
    code = """
while time.time() < float(sys.argv[2]): pass
store = DiskStore(folder)
save_turn(store, acquired(store, sys.argv[3]), 'question', 'answer')
store.close()
"""
    import time

    start = str(time.time() + 1.5)
    finished([start_python(code, start, f"t-{number}") for number in range(16)])
    store = DiskStore(folder)
    assert len(store.list()) == 16
    files = {path.name for path in folder.iterdir() if not path.name.startswith("threads.db-")}
    assert files - {"spool"} == {"index.db", "threads.db", "threads.lock", "threads.queue"}
    store.close()


def test_turns_of_racing_processes_come_one_after_another(start_python, store: DiskStore) -> None:
    code = """
store = DiskStore(folder)
for number in range(6):
    while (lease := store.acquire('t-42', current_owner('run'))) is None:
        time.sleep(0.002)
    before = len(store.load(lease.thread.key))
    lease = save_turn(store, lease, f'question', sys.argv[2])
    assert len(store.load(lease.thread.key)) == before + 1
    store.release(lease)
"""
    finished([start_python(code, f"writer-{number}") for number in range(4)])
    thread = store.find("t-42")
    assert thread is not None
    history = load_history(store, thread)
    assert history.damage == ()
    assert [turn.turn for turn in history.turns] == list(range(1, 25))
    answers = [turn.messages[1].text for turn in history.turns]
    assert all(answers.count(f"writer-{number}") == 6 for number in range(4))


def test_two_writers_with_one_lease_never_both_append(start_python, store: DiskStore) -> None:
    """Even where the lease is shared, the expected head lets one of two appends through."""
    lease = asked(store)
    code = """
from afkcli.core.contract.protocols import Lease
store = DiskStore(folder)
lease = Lease(token=sys.argv[2], thread=store.find('t-42'), expires=0)
won = 0
for _ in range(100):
    lease = replace(lease, thread=store.find('t-42'))
    try:
        save(store, lease, with_journal(lease.thread, 'x')); won += 1
    except HeadMismatchError:
        pass
print(won)
"""
    won = sum(int(output) for output in finished([start_python(code, lease.token) for _ in range(2)]))
    records = store.load(lease.thread.key)
    assert [record.index for record in records] == list(range(won + 1))
    thread = store.find("t-42")
    assert thread is not None
    assert load_history(store, thread).damage == ()


def test_a_killed_owner_is_replaced_at_once_and_its_turn_is_kept(start_python, store: DiskStore) -> None:
    code = """
store = DiskStore(folder)
lease = save_turn(store, acquired(store), 'first', 'answer')
lease = save(store, lease, with_question(lease.thread, 'second'))
lease = save(store, lease, with_journal(lease.thread, 'half an ans'))
print('open', flush=True)
time.sleep(60)
"""
    process = start_python(code)
    assert process.stdout.readline() == "open\n"
    assert store.acquire("t-42", current_owner("waiting")) is None
    process.kill()
    process.wait()
    lease = acquired(store)
    assert lease.thread.open_turn is not None
    lease, history = seal_interrupted(store, lease, load_history(store, lease.thread))
    assert [turn.state.value for turn in history.turns] == ["completed", "interrupted"]
    assert history.turns[1].messages[1].text == "half an ans"
    assert [record.kind for record in store.load(lease.thread.key)] == [RecordKind.SEAL, RecordKind.SEAL]


def test_a_process_killed_while_it_writes_leaves_every_thread_whole(start_python, folder: Path) -> None:
    code = """
store = DiskStore(folder)
lease = acquired(store, sys.argv[2])
number = 0
while True:
    number += 1
    lease = save_turn(store, lease, f'question {number}', 'answer ' * 50)
    print(number, flush=True)
"""
    for number in range(8):
        process = start_python(code, f"t-{number}")
        said = [int(process.stdout.readline()) for _ in range(3 + number * 2)]
        process.kill()
        said += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        store = DiskStore(folder)
        lease = acquired(store, f"t-{number}")
        history = load_history(store, lease.thread)
        assert history.damage == ()
        assert len(history.turns) >= said[-1]
        save_turn(store, seal_interrupted(store, lease, history)[0], "next", "answer")
        store.close()


def test_a_stopped_owner_that_wakes_up_after_expiry_is_fenced(
    start_python, store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afk_store_disk.leases.LEASE_SECONDS", 0.4)
    code = """
lease_module.LEASE_SECONDS = 0.4
store = DiskStore(folder)
lease = asked(store)
print('open', flush=True)
sys.stdin.readline()
try:
    save(store, lease, with_journal(lease.thread, 'too late'))
except LeaseLostError as error:
    print('fenced:', error)
"""
    import subprocess
    import time

    process = start_python(code, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "open\n"
    process.send_signal(signal.SIGSTOP)
    while (lease := store.acquire("t-42", current_owner("next"))) is None:
        time.sleep(0.02)
    lease, _ = seal_interrupted(store, lease, load_history(store, lease.thread))
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate("go\n", timeout=30)
    assert re.match(r"fenced: .*t-42", output)
    records = store.load(lease.thread.key)
    assert [record.kind for record in records] == [RecordKind.SEAL]


def test_a_stopped_owner_continues_if_its_lease_was_not_taken(start_python, store: DiskStore) -> None:
    code = """
lease_module.LEASE_SECONDS = 0.05
store = DiskStore(folder)
lease = asked(store)
time.sleep(0.1)
assert store.holder('t-42') is None
lease = save(store, lease, with_journal(lease.thread, 'still mine'))
store.renew(lease)
"""
    finished([start_python(code)])
    thread = store.find("t-42")
    assert thread is not None
    assert len(store.load(thread.key)) == 2


def test_the_lease_does_not_follow_a_wall_clock_that_is_set(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    lease = asked(store)
    real = time.time
    for jump in (-3600, 3600):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        assert store.acquire("t-42", current_owner("other")) is None
    save(store, lease, with_journal(lease.thread, "text"))


def test_a_fork_does_not_share_the_connection(store: DiskStore, start_python) -> None:
    code = """
store = DiskStore(folder)
lease = asked(store, 'parent')
pid = os.fork()
if pid == 0:
    save_turn(store, acquired(store, 'child'), 'question', 'answer')
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
save(store, lease, with_journal(lease.thread, 'text'))
"""
    finished([start_python(code)])
    assert {info.name for info in store.list()} == {"parent", "child"}
    lease = acquired(store, "child")
    with pytest.raises((HeadMismatchError, LeaseLostError)):
        save_turn(store, type(lease)(token="", thread=lease.thread, expires=0), "question", "answer")
