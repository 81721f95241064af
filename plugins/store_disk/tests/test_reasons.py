"""Where the store cannot be used, the error names the reason, the thing and the next step, on one line."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from afk_store_disk.problems import store_errors
from afk_store_disk.reasons import reason
from afk_store_disk.store import DiskStore

from afkcli.plugin import StoreError
from afkcli.testing.store_steps import acquired, save, with_question

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file systems and limits of Linux")


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system; the test is skipped where that is not allowed."""
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a file system needs root")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def refused(use: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as error:
        use()
    assert "\n" not in str(error.value)
    return str(error.value)


def use(folder: Path, name: str = "t-42") -> None:
    store = DiskStore(folder)
    try:
        lease = acquired(store, name)
        save(store, lease, with_question(lease.thread, "question"))
    finally:
        store.close()


@pytest.mark.parametrize("there", [0, 1], ids=["a new database", "a database that is there"])
def test_a_file_system_without_inodes_is_named(tmp_path: Path, there: int) -> None:
    with tmpfs(tmp_path / "small", "size=4m,nr_inodes=12") as folder:
        if there:
            use(folder / "data")
            for left in ("-wal", "-shm"):
                (folder / "data" / f"threads.db{left}").unlink(missing_ok=True)
        with pytest.raises(OSError):
            for number in range(20):
                (folder / str(number)).touch()

        said = refused(lambda: use(folder / "data", "another"))

    assert "has no inodes left" in said
    assert "permissions" not in said


def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "size=4m") as folder:
        use(folder / "data")
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        assert "mounted read-only" in refused(lambda: use(folder / "data", "another"))
        assert "mounted read-only" in refused(lambda: use(folder / "other"))


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "size=64k") as folder:
        assert "the disk is full" in refused(lambda: use(folder / "data", "another"))


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert f"{tmp_path / 'data'} is a file where a folder is needed" in refused(lambda: use(tmp_path / "data"))
    assert f"{tmp_path / 'data'} is a file where a folder is needed" in refused(lambda: use(tmp_path / "data" / "a"))


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to("gone")
    assert f"{tmp_path / 'data'} is a link to gone, which does not exist" in refused(lambda: use(tmp_path / "data"))


def test_too_many_open_files_are_named(tmp_path: Path) -> None:
    use(tmp_path / "data")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        with pytest.raises(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        said = refused(lambda: use(tmp_path / "data"))
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "too many open files" in said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EDQUOT, "your disk quota is used up"),
        (errno.ENOMEM, "not enough memory"),
        (errno.ENFILE, "this machine has too many open files"),
    ],
)
def test_what_cannot_be_brought_about_here_is_named_by_its_number(tmp_path: Path, number: int, said: str) -> None:
    with pytest.raises(StoreError, match=said), store_errors(tmp_path / "threads.db"):
        raise OSError(number, os.strerror(number), str(tmp_path / "threads.db"))


def test_memory_that_sqlite_does_not_get_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not enough memory"), store_errors(tmp_path / "threads.db"):
        raise MemoryError


def test_a_folder_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "threads.db"))
    assert f"{tmp_path} belongs to another user (uid {owner})" in str(reason(error, tmp_path / "x"))
