"""Nothing stale: what has changed since the worker was started runs cold, with the answer of the cold path."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afkcli.worker import deciding, wire
from afkcli.worker.caller import _IOPRIO_GET, Caller
from afkcli.worker.identity import Identity
from afkcli.worker.keeping import time_zone_files
from afkcli.worker.watching import Watch
from tests.worker.warm.conftest import WarmShell, until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming the user of a login needs root")

PLUGIN = """
from afkcli import hookimpl
AFK_HOOKS = 1
AFK_NAME = "marked"

@hookimpl
def afk_tools(settings):
    import sys
    print("version {}", file=sys.stderr)
    return []
"""


def replaced(shell: WarmShell, call: Callable[[], object]) -> bool:
    """Return whether the worker has ended because of a command, and another one was started."""
    before = shell.warm_up()
    call()
    until(lambda: (state := shell.worker) is not None and state.pid != before.pid, "another worker")
    return True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("no_proxy", "example.org"),
        ("SSL_CERT_DIR", "/etc/ssl"),
        ("LC_ALL", "POSIX"),
        ("LD_LIBRARY_PATH", "/nonexistent"),
        ("MALLOC_ARENA_MAX", "2"),
        ("XDG_CONFIG_HOME", "/nonexistent"),
        ("TMPDIR", "/var/tmp"),
    ],
)
def test_another_value_of_a_variable_that_matters_runs_cold(
    shell: WarmShell, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in ("HTTPS_PROXY", "no_proxy", "SSL_CERT_DIR", "LC_ALL", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(known, raising=False)
    assert replaced(shell, lambda: shell.afk("run", "-n", "hi", NO_PROXY="127.0.0.1", **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", ""),
        ("OPENAI_LOG", "info"),
        ("PYDANTIC_DISABLE_PLUGINS", "1"),
        ("LD_AUDIT", ""),
        ("SQLITE_TMPDIR", "/var/tmp"),
    ],
)
def test_a_variable_that_no_worker_gets_runs_cold_and_starts_no_other_worker(
    shell: WarmShell, name: str, value: str
) -> None:
    shell.warm(lambda: shell.afk("threads"))  # the worker of another test may have other variables
    before = shell.warm_up()

    for _ in range(2):
        assert shell.afk("run", "-n", "hi", **{name: value}).code == 0

    until(lambda: (state := shell.worker) is not None and name in state.reason, "the reason")
    assert shell.warm_up().pid == before.pid


def test_what_a_debugger_looks_into_runs_cold() -> None:
    identity = Identity([], [], {}, "/bin")
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE) as process:
        assert deciding._of_process(Caller(process.pid), identity) is None

        ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        ptrace.argtypes = [ctypes.c_long] * 4
        assert ptrace(0x4206, process.pid, 0, 0) == 0  # PTRACE_SEIZE
        decision = deciding._of_process(Caller(process.pid), identity)

        process.kill()
    assert decision is not None
    assert not decision.is_stale


def test_the_next_day_a_command_runs_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity([], [], {}, "/bin")
    assert deciding._of_files(identity) is None

    monkeypatch.setattr("time.strftime", lambda form: "2000-01-01")
    decision = deciding._of_files(identity)

    assert decision is not None
    assert decision.is_stale


def test_the_old_value_of_a_plugin_file_is_never_used(shell: WarmShell, tmp_path: Path) -> None:
    plugin = tmp_path / "marked.py"
    for version in (1, 2, 3):
        plugin.write_text(PLUGIN.format(version))

        done = shell.warm(lambda: shell.afk("run", "-n", "--plugin", str(plugin), "--tool", "marked.*", "hi"))

        assert f"version {version}\n" in done.err


def test_an_edited_config_counts_at_once(fresh: WarmShell) -> None:
    config = fresh.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('instructions = "Be short."\n')
    fresh.warm_up()

    config.write_text('no_such_key = "x"\n')

    assert fresh.afk("run", "-n", "hi").code == 2


def test_a_config_that_was_not_there_counts_at_once(fresh: WarmShell) -> None:
    fresh.warm_up()
    config = fresh.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('no_such_key = "x"\n')

    assert fresh.afk("run", "-n", "hi").code == 2


def test_a_worker_that_is_out_of_date_ends_before_it_forks_another_child(fresh: WarmShell) -> None:
    """Also after a command that runs cold whatever has changed."""
    fresh.warm_up()
    config = fresh.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('instructions = "Be short."\n')

    assert fresh.afk("plugins").code == 0

    until(lambda: fresh.worker is None, "the end of the worker")


def test_the_project_file_of_the_folder_counts(shell: WarmShell) -> None:
    for key in ("one_key", "another_key"):
        (shell.folder / "afk.toml").write_text(f'{key} = "x"\n')
        try:
            done = shell.warm(lambda: shell.afk("run", "-n", "hi"))
        finally:
            (shell.folder / "afk.toml").unlink()

        assert f"is not trusted, so this does not count: {key}" in done.err


@pytest.mark.parametrize("limit", ["RLIMIT_NOFILE", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_CORE"])
def test_another_limit_of_the_process_runs_cold(shell: WarmShell, limit: str) -> None:
    number = getattr(resource, limit)
    soft, hard = resource.getrlimit(number)
    other = 1 << 30 if limit == "RLIMIT_FSIZE" else 700 if soft == resource.RLIM_INFINITY or soft > 700 else soft - 1
    if other < 0:  # it is the lowest already, and another one is a higher one
        other = 1
        if hard == 0 and os.geteuid() != 0:
            pytest.skip("only root can have another limit than 0 where that is the hard one")
    hard = hard if hard == resource.RLIM_INFINITY else max(hard, other)

    def call() -> None:
        process = shell.start("run", "-n", "hi", preexec_fn=lambda: resource.setrlimit(number, (other, hard)))
        process.communicate()

    assert replaced(shell, call)


def test_another_time_zone_of_the_machine_runs_cold(fresh: WarmShell, tmp_path: Path) -> None:
    """By a file that `TZ` names, as /etc/localtime is the one where it is not set."""
    zone = tmp_path / "zone"
    zone.write_bytes(b"")
    fresh.env["TZ"] = f":{zone}"
    fresh.warm(lambda: fresh.afk("threads"))

    def change() -> None:
        (tmp_path / "other").write_bytes(b"another zone")
        (tmp_path / "other").rename(zone)
        assert fresh.afk("run", "-n", "hi").code == 0

    assert replaced(fresh, change)


@pytest.mark.parametrize(
    ("environment", "zone"),
    [
        ({}, None),
        ({"TZ": ""}, None),
        ({"TZ": "Europe/Paris"}, "/usr/share/zoneinfo/Europe/Paris"),
        ({"TZ": ":Europe/Paris", "TZDIR": "/zones"}, "/zones/Europe/Paris"),
        ({"TZ": ":/srv/zone"}, "/srv/zone"),
    ],
)
def test_the_files_of_the_time_zone_are_part_of_a_worker(environment: dict[str, str], zone: str | None) -> None:
    found = time_zone_files(environment)

    assert found[:3] == ["/etc/localtime", "/etc/timezone", environment.get("TZDIR", "/usr/share/zoneinfo")]
    assert found[3:] == ([zone] if zone else [])


def test_another_priority_runs_cold(shell: WarmShell) -> None:
    assert replaced(shell, lambda: shell.start("run", "-n", "hi", preexec_fn=lambda: os.nice(3)).communicate())


def test_another_priority_of_the_disk_runs_cold(shell: WarmShell) -> None:
    def become_idle() -> None:
        number = _IOPRIO_GET[os.uname().machine] - 1  # ioprio_set
        assert ctypes.CDLL(None).syscall(number, 1, 0, 3 << 13) == 0

    shell.warm(lambda: shell.afk("threads"))
    assert replaced(shell, lambda: shell.start("run", "-n", "hi", preexec_fn=become_idle).communicate())


@needs_root
def test_another_user_of_the_login_runs_cold(shell: WarmShell) -> None:
    """By whom the audit log says that something was done: who has become this user by `su` remains who they were."""

    def log_in() -> None:
        Path("/proc/self/loginuid").write_text("4711")

    shell.warm(lambda: shell.afk("threads"))
    assert replaced(shell, lambda: shell.start("run", "-n", "hi", preexec_fn=log_in).communicate())


def test_another_filter_of_core_files_runs_cold(shell: WarmShell) -> None:
    def choose() -> None:
        before = int(Path("/proc/self/coredump_filter").read_text(), 16)
        Path("/proc/self/coredump_filter").write_text(hex(before ^ 1))

    shell.warm(lambda: shell.afk("threads"))
    assert replaced(shell, lambda: shell.start("run", "-n", "hi", preexec_fn=choose).communicate())


def test_another_config_of_openssl_runs_cold(fresh: WarmShell, tmp_path: Path) -> None:
    """Which the imports have read: it says, for example, which versions of TLS count."""
    config = tmp_path / "openssl.cnf"
    config.write_text("")
    fresh.env["OPENSSL_CONF"] = str(config)
    fresh.warm(lambda: fresh.afk("threads"))

    def change() -> None:
        config.write_text("# another one\n")
        assert fresh.afk("run", "-n", "hi").code == 0

    assert replaced(fresh, change)


@pytest.mark.parametrize("name", ["AFK_HOME", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "OPENSSL_CONF"])
def test_where_a_variable_names_a_place_in_the_working_folder_a_command_runs_cold(name: str) -> None:
    identity = Identity([], [], {}, "/bin")

    decision = deciding._of_environment("/bin/afk", {name: "here"}, identity)

    assert decision is not None
    assert (decision.reason, decision.is_stale) == (f"{name} is not a full path", False)


@pytest.mark.parametrize("name", ["PYTHONWARNINGS", "PYTHONPATH", "COV_CORE_SOURCE", "COVERAGE_PROCESS_START"])
def test_what_belongs_to_a_tool_does_not_ask_the_worker(shell: WarmShell, name: str) -> None:
    state = shell.warm_up()

    assert shell.afk("run", "-n", "hi", **{name: ""}).code == 0
    assert shell.afk("threads", **{name: ""}).code == 0

    assert shell.served == state.served


def test_variables_that_containers_set_for_python_are_those_of_the_worker_too(fresh: WarmShell) -> None:
    fresh.env.update(PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", PYTHONIOENCODING="utf-8")

    done = fresh.warm(lambda: fresh.afk("run", "-n", "-q", "hi"))

    assert (done.code, done.out[-3:]) == (0, "hi\n")
    del fresh.env["PYTHONUNBUFFERED"]
    assert replaced(fresh, lambda: fresh.afk("run", "-n", "hi"))


def test_python_with_afk_as_a_module_runs_cold(shell: WarmShell) -> None:
    state = shell.warm_up()
    done = subprocess.run(
        [sys.executable, "-m", "afkcli", "threads"], env=shell.environment(), cwd=shell.folder, capture_output=True
    )

    assert done.returncode == 0
    assert shell.served == state.served


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End what has the kernel tell of changes: a user has 128 of them, with those of all workers."""
    made: list[Watch] = []
    begin = Watch._watch
    monkeypatch.setattr(Watch, "_watch", lambda self, paths: (made.append(self), begin(self, paths))[1])
    yield
    for watch in made:
        watch.close()


@pytest.mark.usefixtures("watches")
class TestStamps:
    """What is compared of a file: a change of any of it is seen."""

    @pytest.fixture
    def identity(self, tmp_path: Path) -> Identity:
        (tmp_path / "module.py").write_text("a = 1\n")
        (tmp_path / "folder").mkdir()
        paths = [tmp_path / "module.py", tmp_path / "folder", tmp_path / "missing.pth"]
        return Identity(map(str, paths), ["READ"], {"READ": "yes"}, "/bin")

    def test_nothing_has_changed(self, identity: Identity) -> None:
        assert identity.changed_path() is None

    @pytest.mark.parametrize("change", ["content", "same size", "touched back", "replaced", "removed", "linked"])
    def test_a_changed_file_is_seen(self, identity: Identity, tmp_path: Path, change: str) -> None:
        file = tmp_path / "module.py"
        before = file.stat()
        if change == "content":
            file.write_text("a = 12\n")
        elif change == "same size":
            file.write_text("a = 2\n")
        elif change == "touched back":
            file.write_text("a = 3\n")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif change == "replaced":
            (tmp_path / "new.py").write_text("a = 1\n")
            os.utime(tmp_path / "new.py", ns=(before.st_atime_ns, before.st_mtime_ns))
            (tmp_path / "new.py").replace(file)
        elif change == "removed":
            file.unlink()
        else:
            file.unlink()
            file.symlink_to("elsewhere.py")

        assert identity.changed_path() == str(file)

    def test_a_new_entry_of_a_folder_is_seen(self, identity: Identity, tmp_path: Path) -> None:
        (tmp_path / "folder" / "new.dist-info").mkdir()

        assert identity.changed_path() == str(tmp_path / "folder")

    def test_a_file_that_appears_is_seen(self, identity: Identity, tmp_path: Path) -> None:
        (tmp_path / "missing.pth").write_text("")

        assert identity.changed_path() == str(tmp_path / "missing.pth")

    @pytest.mark.parametrize("environment", [{}, {"READ": "no"}, {"READ": "yes", "https_proxy": "x"}])
    def test_a_variable_that_differs_is_named(self, identity: Identity, environment: dict[str, str]) -> None:
        assert identity.changed_variable(environment) in ("READ", "https_proxy")

    def test_other_variables_do_not_matter(self, identity: Identity) -> None:
        assert identity.changed_variable({"READ": "yes", "OPENAI_API_KEY": "x", "TERM": "xterm"}) is None


class TestFolders:
    """A module is in folders below one that Python searches: what they lead to is another file once one is replaced."""

    @pytest.fixture(params=["asked at once", "asked ahead", "renewed"])
    def identity(self, tmp_path: Path, request: pytest.FixtureRequest) -> Identity:
        for name in ("site", "other"):
            (tmp_path / name / "package" / "inner" / "deep").mkdir(parents=True)
            (tmp_path / name / "package" / "inner" / "deep" / "module.py").write_text(f"a = {name!r}\n")
            (tmp_path / name / "package" / "__init__.py").write_text("")
        site = tmp_path / "site"
        module = site / "package" / "inner" / "deep" / "module.py"
        # Python keeps a list of the entries of `inner`, which has no module of its own.
        paths = [site, site / "package" / "inner", site / "package" / "__init__.py", module]
        identity = Identity(map(str, paths), [], {}, "/bin")
        if request.param == "renewed":
            (site / "package" / "inner" / "deep" / "other.py").write_text("")
            assert identity.renew() is None
        if request.param != "asked at once":
            identity.look_ahead()
        return identity

    def test_nothing_has_changed(self, identity: Identity) -> None:
        assert identity.changed_path() is None

    @pytest.mark.parametrize("way", ["moved", "linked"])
    @pytest.mark.parametrize("folder", ["site", "site/package", "site/package/inner", "site/package/inner/deep"])
    def test_another_folder_in_the_place_of_one_is_seen(
        self, identity: Identity, tmp_path: Path, folder: str, way: str
    ) -> None:
        other = tmp_path / folder.replace("site", "other", 1)
        (tmp_path / folder).rename(tmp_path / "old")
        if way == "moved":
            other.rename(tmp_path / folder)
        else:
            (tmp_path / folder).symlink_to(other)

        assert identity.changed_path() is not None

    def test_a_removed_folder_is_seen(self, identity: Identity, tmp_path: Path) -> None:
        shutil.rmtree(tmp_path / "site" / "package" / "inner" / "deep")

        assert identity.changed_path() is not None

    def test_a_new_entry_is_seen_in_a_folder_whose_entries_count(self, identity: Identity, tmp_path: Path) -> None:
        inner = tmp_path / "site" / "package" / "inner"
        (inner / "portion").mkdir()

        assert identity.changed_path() == str(inner)

    @pytest.mark.parametrize("change", ["new file", "new folder", "removed file", "touched"])
    def test_after_a_change_that_does_not_count_the_files_are_asked_once(
        self, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        deep = tmp_path / "site" / "package" / "inner" / "deep"
        if change == "touched":
            os.utime(deep)
        elif change == "new folder":
            (deep / "__pycache__").mkdir()
        else:
            (deep / "unused.py").write_text("")
            if change == "removed file":
                (deep / "unused.py").unlink()
        asked: list[str] = []
        stat = os.stat
        monkeypatch.setattr(os, "stat", lambda path, **options: (asked.append(str(path)), stat(path, **options))[1])

        found = identity.renew()
        once = [*asked]
        asked.clear()
        again = identity.renew(), identity.changed_path()

        assert (found, again) == (None, (None, None))
        assert str(deep / "module.py") in once
        assert str(deep / "module.py") not in asked

    def test_where_nothing_can_be_watched_all_files_are_asked_each_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(self: Watch, paths: list[str]) -> None:
            raise OSError(errno.EMFILE, "inotify_init1")

        monkeypatch.setattr(Watch, "_watch", refused)
        (tmp_path / "module.py").write_text("a = 1\n")
        identity = Identity([str(tmp_path / "module.py")], [], {}, "/bin")
        assert (identity.renew(), identity.changed_path()) == (None, None)

        (tmp_path / "module.py").write_text("a = 2\n")

        assert identity.changed_path() == str(tmp_path / "module.py")

    def test_a_new_file_beside_a_module_changes_nothing(self, identity: Identity, tmp_path: Path) -> None:
        (tmp_path / "site" / "package" / "inner" / "deep" / "unused.py").write_text("")

        assert identity.changed_path() is None

    def test_a_change_is_seen_after_one_that_does_not_matter(self, identity: Identity, tmp_path: Path) -> None:
        deep = tmp_path / "site" / "package" / "inner" / "deep"
        (deep / "unused.py").write_text("")
        assert identity.changed_path() is None

        (deep / "module.py").write_text("a = 'changed'\n")

        assert identity.changed_path() == str(deep / "module.py")


MOUNT = """
import ctypes, os, sys
from afkcli.worker.identity import Identity
libc = ctypes.CDLL(None, use_errno=True)
site, user, group = sys.argv[1], os.getuid(), os.getgid()
if libc.unshare(0x10020000):  # CLONE_NEWUSER | CLONE_NEWNS
    sys.exit(77)
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
os.mkdir(f"{site}/package")
with open(f"{site}/package/module.py", "w"):
    pass
identity = Identity([site, f"{site}/package/module.py"], [], {}, "/bin")
if sys.argv[2] == "ahead":
    identity.look_ahead()
print(identity.changed_path())
if libc.mount(b"none", f"{site}/package".encode(), b"tmpfs", 0, None):
    sys.exit(77)
print(identity.changed_path())
"""


@pytest.mark.parametrize("asked", ["at once", "ahead"])
def test_what_is_mounted_over_the_folder_of_a_module_is_seen(tmp_path: Path, asked: str) -> None:
    done = subprocess.run([sys.executable, "-c", MOUNT, tmp_path, asked], capture_output=True, text=True)

    if done.returncode == 77:
        pytest.skip("this system lets no user make a mount of its own")
    assert (done.stdout.split(), done.stderr) == (["None", f"{tmp_path}/package/module.py"], "")


class TestCommands:
    """Which command lines are never taken."""

    @pytest.mark.parametrize(
        "words",
        [
            ["chat"],
            ["batch", "run", "x"],
            ["batch", "worker"],
            ["batch", "retry", "x"],
            ["trust"],
            ["plugins", "install", "x"],
            ["worker", "stop"],
            ["completion", "bash"],
            ["run", "--edit", "-c"],
            ["run", "--approvals", "ask", "hi"],
            ["run", "hi", "--approvals=ask"],
        ],
        ids=" ".join,
    )
    def test_it_runs_cold(self, words: list[str]) -> None:
        assert deciding._of_command(words, order()) is not None

    @pytest.mark.parametrize("word", ["/dev/tty", "--attach=/dev/stdin"])
    def test_a_terminal_that_is_named_runs_cold(self, word: str) -> None:
        assert deciding._of_command(["run", word], order()) is not None

    @pytest.mark.parametrize("word", ["/dev/fd/63", "/proc/self/fd/3", "--attach=/dev/fd/9", "/dev/stdin"])
    def test_a_descriptor_that_is_not_sent_runs_cold(self, word: str) -> None:
        assert deciding._of_command(["run", word], order(flags=wire.HAS_OTHERS)) is not None

    @pytest.mark.parametrize(
        "words",
        [["run", "hi"], ["threads"], ["run", "--approvals", "deny", "hi"], ["--help"], [], ["batch", "status", "x"]],
        ids=" ".join,
    )
    def test_it_may_run_warm(self, words: list[str]) -> None:
        assert deciding._of_command(words, order()) is None


def order(flags: int = 7) -> wire.Order:
    return wire.Order(pid=1, flags=flags, umask=0, ignored=0, blocked=0, arguments=[b"afk"], environment={})
