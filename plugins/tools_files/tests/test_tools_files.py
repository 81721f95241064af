"""What a model can reach in real folders by the tools of `files`, and what it cannot."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from afk_tools_files import Settings, afk_tools

from afkcli.plugin import ConfigError, PluginError, ToolError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="tools.files is refused on Windows")

SECRET = "the secret outside"
LIMIT = 60  # seconds after which something hangs; never a measure of speed
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """A root with files, in a home with afk's folders and with something outside that must not be reached."""
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "home" / "afk"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    notes = tmp_path / "home" / "notes"
    (notes / "garden").mkdir(parents=True)
    (notes / "todo.md").write_text("one\ntwo\nthree\n")
    (notes / "garden" / "beans.md").write_text("Beans need sun.\nTwo rows.\n")
    (notes / "garden" / "plan.py").write_text("two = 2\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text(SECRET)
    monkeypatch.chdir(notes)
    return notes


@pytest.fixture
def outside(tmp_path):
    return tmp_path / "outside"


class Tools:
    """The tools by name, called as a run calls them."""

    def __init__(self, *roots, **settings):
        made = afk_tools(Settings(roots=[str(root) for root in roots], **settings))
        self.tools = {tool.name: tool for tool in made}

    def call(self, name, **arguments):
        return asyncio.run(self.tools[f"files.{name}"].call(arguments))

    def refused(self, name, **arguments):
        with pytest.raises(ToolError) as caught:
            self.call(name, **arguments)
        return str(caught.value)


@pytest.fixture
def tools(notes):
    return Tools(notes, write=True)


class TestWhatThereIs:
    def test_no_tool_writes_unless_the_config_allows_it(self, notes):
        assert list(Tools(notes).tools) == ["files.list", "files.read", "files.search"]
        assert list(Tools(notes, write=True).tools) == ["files.list", "files.read", "files.search", "files.write"]

    def test_only_files_write_changes_something(self, tools):
        said = {name: (tool.changes, tool.idempotent) for name, tool in tools.tools.items()}
        assert said.pop("files.write") == (True, False)
        assert set(said.values()) == {(False, True)}

    def test_the_description_names_the_folders_as_in_the_config(self, notes):
        description = Tools("~/notes", "garden").tools["files.read"].description
        assert "Folders: '~/notes', 'garden'." in description
        assert str(notes) not in description

    def test_missing_roots_are_an_error_that_says_what_to_set(self):
        with pytest.raises(ConfigError) as caught:
            Tools()
        assert str(caught.value) == (
            'tools.files has no folder that it may use; name some in the config: [tools.files] roots = ["~/notes"]'
        )

    def test_a_platform_without_openat_is_refused(self, notes, monkeypatch):
        monkeypatch.setattr(os, "supports_dir_fd", set())
        with pytest.raises(PluginError, match=r"tools\.files needs Linux or macOS"):
            Tools(notes)

    @pytest.mark.parametrize(
        ("root", "told"),
        [
            ("~/none", "there is no folder"),
            ("~/notes/todo.md", "there is no folder"),
            ("", "is not a folder"),
            ("a\0b", "is not a folder"),
            ("~/notes/.git", "a root cannot be in .git or afk.toml"),
            ("~/notes/.git/hooks", "a root cannot be in .git or afk.toml"),
            ("~/afk/data", "is afk's own folder"),
            ("~/afk/config/inner", "is afk's own folder"),
        ],
    )
    def test_an_invalid_root_is_named(self, notes, root, told):
        for folder in (notes / ".git" / "hooks", notes.parent / "afk/data", notes.parent / "afk/config/inner"):
            folder.mkdir(parents=True)
        with pytest.raises(ConfigError, match=told) as caught:
            Tools(root)
        assert f"[tools.files] roots has {root!r}" in str(caught.value)

    @pytest.mark.parametrize(
        "settings",
        [
            {"max_output_bytes": 0},
            {"max_output_bytes": 10**6},
            {"max_lines": 0},
            {"max_entries": 0},
            {"max_hits": -1},
            {"max_file_mb": 0},
            {"timeout_s": 0.0},
            {"timeout_s": float("nan")},
        ],
    )
    def test_an_invalid_setting_is_named(self, notes, settings):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            Tools(notes, **settings)


class TestPaths:
    @pytest.mark.parametrize("path", ["todo.md", "./todo.md", ".//todo.md", "~/notes/todo.md", "ABSOLUTE/todo.md"])
    def test_a_file_has_many_paths(self, notes, path):
        assert Tools("~/notes").call("read", path=path.replace("ABSOLUTE", str(notes))).endswith("one\ntwo\nthree\n")

    def test_a_relative_root_is_relative_to_the_working_directory(self, notes):
        assert "Beans" in Tools("garden").call("read", path="beans.md")
        assert "Beans" in Tools(".").call("read", path="garden/beans.md")

    def test_several_roots_are_distinguished_by_their_labels(self, notes, outside):
        tools = Tools(notes, outside)
        assert SECRET in tools.call("read", path=f"{outside}/file")
        assert tools.call("search", pattern="secret", path=str(outside)).startswith(f"{outside}/file:1: {SECRET}")
        assert "there is no 'file'" in tools.refused("read", path="file")

    def test_a_root_that_is_a_link_is_the_users_own_choice(self, notes, tmp_path):
        (tmp_path / "link").symlink_to(notes)
        tools = Tools(tmp_path / "link")
        assert "two" in tools.call("read", path="todo.md")
        assert "two" in tools.call("read", path=f"{tmp_path}/link/todo.md")

    @pytest.mark.parametrize(
        "path",
        [
            "../outside/file",
            "garden/../todo.md",
            "..",
            "garden/..",
            "~/notes/../outside/file",
            "/",
            "/etc/passwd",
            "~",
            "~/outside",
            "~root/file",
            "",
            "a\0b",
            "OUTSIDE/file",
            "NOTES-too/file",
        ],
    )
    @pytest.mark.parametrize("name", ["list", "read", "search", "write"])
    def test_a_path_outside_the_roots_is_refused(self, notes, outside, tools, name, path):
        (notes.parent / "notes-too").mkdir()
        (notes.parent / "notes-too" / "file").write_text(SECRET)
        path = path.replace("OUTSIDE", str(outside)).replace("NOTES", str(notes))
        more = {"search": {"pattern": "secret"}, "write": {"text": "x"}}.get(name, {})
        assert SECRET not in tools.refused(name, path=path, **more)
        assert (outside / "file").read_text() == SECRET
        assert [file.name for file in outside.iterdir()] == ["file"]

    def test_a_missing_file_is_an_error(self, tools):
        assert tools.refused("read", path="none.md") == "there is no 'none.md'"
        assert tools.refused("read", path="none/a.md") == "there is no 'none'"
        assert tools.refused("read", path="todo.md/a") == "'todo.md' is not a folder"
        assert tools.refused("list", path="todo.md") == "'todo.md' is not a folder"
        assert tools.refused("read", path="garden") == "'garden' is a folder"
        assert "File name too long" in tools.refused("read", path="x" * 5000)


class TestLinks:
    @pytest.mark.parametrize("target", ["OUTSIDE", "../../outside", "garden"])
    def test_a_link_to_a_folder_is_not_followed_wherever_it_leads(self, notes, outside, tools, target):
        (notes / "link").symlink_to(target.replace("OUTSIDE", str(outside)))
        told = "'link' is a symbolic link; links are not followed"
        assert tools.refused("read", path="link/file") == told
        assert tools.refused("list", path="link") == told
        assert tools.refused("search", pattern="a", path="link") == told
        assert tools.refused("write", path="link/new", text="x") == told
        assert [file.name for file in outside.iterdir()] == ["file"]

    def test_a_link_to_a_file_is_not_followed(self, notes, outside, tools):
        (notes / "link").symlink_to(outside / "file")
        told = "'link' is a symbolic link; links are not followed"
        assert tools.refused("read", path="link") == told
        assert tools.refused("write", path="link", text="x") == told
        assert (outside / "file").read_text() == SECRET

    def test_links_are_listed_and_not_searched(self, notes, outside, tools):
        (notes / "link").symlink_to(outside)
        (notes / "dead").symlink_to("nowhere")
        assert f"link -> {outside} (not followed)" in tools.call("list")
        assert "dead -> nowhere (not followed)" in tools.call("list")
        assert SECRET not in tools.call("search", pattern="secret")

    def test_a_root_that_becomes_a_link_is_refused(self, notes, outside, tools):
        notes.rename(notes.parent / "moved")
        notes.symlink_to(outside)
        assert "cannot be opened" in tools.refused("read", path="file")

    def test_a_folder_above_a_root_that_becomes_a_link_is_refused(self, notes, outside, tools):
        if sys.platform != "linux":
            pytest.skip("other platforms may not pass through folders that may not be listed")
        notes.parent.rename(notes.parent.parent / "moved")
        (outside / "notes").mkdir()
        (outside / "notes" / "file").write_text(SECRET)
        notes.parent.symlink_to(outside)
        assert "cannot be opened" in tools.refused("read", path="file")

    def test_a_link_that_is_swapped_in_is_never_followed(self, notes, outside, tools):
        """Somebody renames a folder and a link to and fro in the middle of the path, as fast as he can."""
        (notes / "mid").mkdir()
        (notes / "mid" / "file").write_text("inside")
        (notes / "away").symlink_to(outside)
        done = threading.Event()

        def swap():
            while not done.is_set():
                for before, after in (("mid", "real"), ("away", "mid"), ("mid", "away"), ("real", "mid")):
                    while True:
                        try:
                            (notes / before).rename(notes / after)
                            break
                        except OSError:  # there was no `mid`, and the tool that writes made one
                            shutil.rmtree(notes / after, ignore_errors=True)

        swapper = threading.Thread(target=swap)
        swapper.start()
        seen = {"inside": 0, "refused": 0}
        try:
            for number in range(1500):
                try:
                    said = tools.call("read", path="mid/file")
                    tools.call("write", path="mid/new", text=f"{number}")
                    tools.call("list", path="mid")
                    assert SECRET not in said
                    seen["inside"] += 1
                except ToolError:
                    seen["refused"] += 1
        finally:
            done.set()
            swapper.join()
        assert all(seen.values()), seen
        assert [file.name for file in outside.iterdir()] == ["file"]
        assert (outside / "file").read_text() == SECRET


class TestWhatIsNeverUsed:
    NAMES = (
        ".git",
        ".GIT",
        ".Git",
        "afk.toml",
        "AFK.TOML",
        "Afk.Toml",
        ".git.",
        ".git ",
        ".gi\u200ct",
        "git~1",
    )

    @pytest.mark.parametrize("name", NAMES)
    def test_git_and_afk_toml_in_any_spelling(self, notes, tools, name):
        for folder in (notes, notes / "garden"):
            (folder / name).mkdir()
            (folder / name / "config").write_text("two secrets")
            place = f"{folder.relative_to(notes)}/{name}"
            for path in (place, f"{place}/config"):
                assert "is never used" in tools.refused("read", path=path)
                assert "is never used" in tools.refused("list", path=path)
                assert "is never used" in tools.refused("search", pattern="two", path=path)
                assert "is never used" in tools.refused("write", path=path, text="x")
            assert "is never used" in tools.refused("write", path=f"{place}/hooks/pre-commit", text="x")
        assert name not in tools.call("list")
        assert "secrets" not in tools.call("search", pattern="secrets").rpartition("\n")[0]
        assert (notes / name / "config").read_text() == "two secrets"

    def test_as_a_file_too(self, notes, tools):
        (notes / ".git").write_text("gitdir: /elsewhere two")
        (notes / "afk.toml").write_text("two")
        assert "is never used" in tools.refused("read", path=".git")
        assert "is never used" in tools.refused("read", path="afk.toml")
        assert "is never used" in tools.refused("write", path="garden/afk.toml", text="x")
        assert "gitdir" not in tools.call("search", pattern="two")

    def test_names_that_are_only_like_them_are_used(self, notes, tools):
        (notes / ".gitignore").write_text("*.pyc\n")
        (notes / "my-afk.toml").write_text("a = 1\n")
        assert "*.pyc" in tools.call("read", path=".gitignore")
        assert "a = 1" in tools.call("read", path="my-afk.toml")

    @pytest.mark.parametrize("part", ["data", "state", "config"])
    def test_afks_own_folders(self, notes, part):
        home = notes.parent
        own = home / "afk" / part
        (own / "inner").mkdir(parents=True)
        (own / "inner" / "file").write_text(SECRET)
        for tools, path in ((Tools(home, write=True), f"afk/{part}"), (Tools("/", write=True), str(own))):
            assert "belongs to afk" in tools.refused("list", path=path)
            assert "belongs to afk" in tools.refused("read", path=f"{path}/inner/file")
            assert "belongs to afk" in tools.refused("write", path=f"{path}/inner/file", text="x")
            assert "belongs to afk" in tools.refused("write", path=f"{path}/new/file", text="x")
            assert "belongs to afk" in tools.refused("search", path=f"{path}/inner", pattern="secret")
        tools = Tools(home)
        assert part not in tools.call("list", path="afk")
        assert SECRET not in tools.call("search", pattern="secret")
        assert sorted(path.name for path in own.rglob("*")) == ["file", "inner"]

    def test_afks_own_folders_by_another_name(self, notes, monkeypatch, tmp_path):
        """AFK_HOME by way of a link, or written in another case."""
        (notes / "store" / "data").mkdir(parents=True)
        (notes / "store" / "data" / "file").write_text(SECRET)
        (tmp_path / "link").symlink_to(notes / "store")
        monkeypatch.setenv("AFK_HOME", str(tmp_path / "link"))
        assert "belongs to afk" in Tools(notes).refused("read", path="store/data/file")
        assert "belongs to afk" in Tools(notes).refused("read", path="STORE/data/file")
        assert SECRET not in Tools(notes).call("search", pattern="secret")

    def test_afks_folders_cannot_be_made_before_afk_makes_them(self, notes):
        tools = Tools(notes.parent, write=True)
        assert "belongs to afk" in tools.refused("write", path="afk/config/config.toml", text="[plugins]\n")
        assert "belongs to afk" in tools.refused("write", path="afk/config", text="x")
        assert not (notes.parent / "afk").exists()

    @linux
    def test_proc_cannot_be_used(self, notes):
        tools = Tools("/", write=True)
        assert "belongs to the system" in tools.refused("read", path="/proc/self/environ")
        assert "belongs to the system" in tools.refused("list", path="/proc")
        assert "belongs to the system" in tools.refused("write", path="/proc/self/comm", text="x")
        assert "belongs to the system" in Tools("/proc/self").refused("read", path="environ")

    @pytest.mark.parametrize("kind", ["FIFO", "socket", "device"])
    def test_special_files_are_not_opened(self, notes, tools, kind, monkeypatch):
        path = notes / "odd"
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "socket":
            monkeypatch.chdir(notes)  # the path of a socket may not be long
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind("odd")
        else:
            tools, path = Tools("/dev", write=True), Path("/dev/null")
        told = f"{path.name!r} is a {kind}"
        assert tools.refused("read", path=path.name) == told
        assert tools.refused("write", path=path.name, text="x") == told
        assert tools.refused("search", pattern="x", path=path.name) == told
        assert f"{path.name} (a {kind})" in tools.call("list")

    def test_a_file_without_read_permission_is_an_error(self, notes, tools):
        (notes / "todo.md").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may read everything
        try:
            assert "Permission denied" in tools.refused("read", path="todo.md")
        finally:
            os.seteuid(user)


class TestRead:
    def test_lines_are_counted_from_one(self, tools):
        assert tools.call("read", path="todo.md") == "todo.md: lines 1-3 of 3\none\ntwo\nthree\n"
        assert tools.call("read", path="todo.md", start_line=2) == "todo.md: lines 2-3 of 3\ntwo\nthree\n"
        assert tools.call("read", path="todo.md", start_line=2, end_line=2) == (
            "todo.md: line 2; more follow, from start_line 3\ntwo\n"
        )
        assert tools.call("read", path="todo.md", end_line=99) == "todo.md: lines 1-3 of 3\none\ntwo\nthree\n"

    def test_missing_lines_are_an_error(self, tools):
        assert tools.refused("read", path="todo.md", start_line=4) == "'todo.md' has no line 4; it has 3"
        assert "is before" in tools.refused("read", path="todo.md", start_line=3, end_line=2)
        assert "greater than or equal to 1" in tools.refused("read", path="todo.md", start_line=0)

    def test_an_empty_file_is_named_as_empty(self, notes, tools):
        (notes / "empty").touch()
        assert tools.call("read", path="empty") == "empty: empty"

    def test_a_file_without_a_newline_at_its_end(self, notes, tools):
        (notes / "a").write_text("one\ntwo")
        assert tools.call("read", path="a") == "a: lines 1-2 of 2\none\ntwo"

    def test_a_long_file_is_cut_by_lines_and_can_be_read_on(self, notes):
        (notes / "long").write_text("".join(f"{number}\n" for number in range(1, 5001)))
        tools = Tools(notes, max_lines=100)
        first = tools.call("read", path="long").splitlines()
        assert first[0] == "long: lines 1-100; more follow, from start_line 101"
        assert first[-1] == "100"
        assert tools.call("read", path="long", start_line=4990).splitlines()[0] == "long: lines 4990-5000 of 5000"
        assert tools.call("read", path="long", start_line=101, end_line=5000).splitlines()[-1] == "200"

    def test_a_long_line_is_cut_with_a_visible_mark(self, notes):
        (notes / "wide").write_text("é" * 1_000_000)
        said = Tools(notes, max_output_bytes=1001).call("read", path="wide").splitlines()
        assert said == ["wide: line 1, cut off after 1001 bytes", "é" * 500, "[... cut off here ...]"]

    @pytest.mark.parametrize(
        "content", [b"\0", b"text\0more", b"\xff\xfeh\0i\0", b"caf\xe9\n", b"a\n" * 50_000 + b"\0"]
    )
    def test_a_binary_file_is_named_as_binary(self, notes, tools, content):
        (notes / "odd").write_bytes(content)
        told = f"'odd' is a binary file of {len(content)} bytes, not UTF-8 text"
        assert tools.refused("read", path="odd", start_line=1 + content.count(b"a\n")) == told
        assert tools.refused("write", path="odd", text="x") == told
        assert tools.refused("search", path="odd", pattern="no such thing") == told
        assert (notes / "odd").read_bytes() == content

    @pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a\0", b"RIFF\0\0\0\0WEBP"])
    def test_an_image_is_read_as_an_image(self, notes, tools, head):
        data = head + b"\0" * 100_000
        (notes / "garden" / "bean.txt").write_bytes(data)
        output = asyncio.run(tools.tools["files.read"].output({"path": "garden/bean.txt"}))
        text, image = output.parts
        assert text.text.endswith(f"garden/bean.txt: an image of {len(data)} bytes")
        assert image.name.endswith("garden/bean.txt")
        assert list(output.contents.values()) == [data]

    def test_a_larger_image_is_refused(self, notes):
        (notes / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1_000_000))
        told = "'large.png' is an image of 1000008 bytes, and at most 1000000 are read"
        assert Tools(notes, max_file_mb=1).refused("read", path="large.png") == told

    def test_a_text_that_begins_like_an_image_is_text(self, notes, tools):
        (notes / "gif.txt").write_text("GIF89a is the name of a format\n")
        assert tools.call("read", path="gif.txt") == "gif.txt: line 1 of 1\nGIF89a is the name of a format\n"

    def test_time_is_bounded(self, notes):
        with (notes / "huge").open("wb") as file:
            for _ in range(200):
                file.write(b"a line\n" * 100_000)
        assert "reading took longer than 0.001 s" in Tools(notes, timeout_s=0.001).refused(
            "read", path="huge", start_line=10**9
        )


class TestList:
    def test_entries_are_sorted_and_described(self, notes, tools):
        os.utime(notes / "todo.md", (0, 0))
        assert tools.call("list") == "garden/\ntodo.md  14 bytes  1970-01-01T00:00Z"
        assert [line.split()[0] for line in tools.call("list", path="garden").splitlines()] == ["beans.md", "plan.py"]

    def test_an_empty_folder_is_named_as_empty(self, notes, tools):
        (notes / "none").mkdir()
        assert tools.call("list", path="none") == "none: no entries"

    def test_many_entries_are_cut_with_a_visible_mark(self, notes):
        for number in range(50):
            (notes / f"{number:02}").touch()
        said = Tools(notes, max_entries=10).call("list").splitlines()
        assert len(said) == 11
        assert said[9].startswith("09  0 bytes")
        assert said[10] == "[... cut off after 10 entries ...]"

    def test_a_name_cannot_look_like_two_entries(self, notes, tools):
        (notes / "a\nb  9 bytes").touch()
        (notes / "c\x1b[2J").touch()
        said = tools.call("list")
        assert '"a\\nb  9 bytes"  0 bytes' in said
        assert '"c\\u001b[2J"  0 bytes' in said
        assert "no entries" not in tools.call("read", path="a\nb  9 bytes")

    @linux
    def test_a_name_that_is_not_utf8_is_listed(self, notes, tools):
        (Path(os.fsdecode(os.fsencode(notes) + b"/\xff"))).touch()
        assert "todo.md" in tools.call("list")
        assert "todo.md:2: two" in tools.call("search", pattern="two")


class TestSearch:
    def test_hits_have_their_path_and_line(self, tools):
        assert tools.call("search", pattern="^[Tt]wo") == (
            "todo.md:2: two\ngarden/beans.md:2: Two rows.\ngarden/plan.py:1: two = 2\n[3 lines found, 3 files searched]"
        )

    def test_plain_text_and_case(self, notes, tools):
        (notes / "todo.md").write_text("a.b\naxb\nA.B\n")
        assert "todo.md:1: a.b\n[1 lines" in tools.call("search", pattern="a.b", literal=True)
        assert "3 lines found" in tools.call("search", pattern="a.b", ignore_case=True)

    @pytest.mark.parametrize(
        ("glob", "files"),
        [
            ("*.md", ["todo.md", "garden/beans.md"]),
            ("*.py", ["garden/plan.py"]),
            ("garden/*", ["garden/beans.md", "garden/plan.py"]),
            ("**/*.md", ["todo.md", "garden/beans.md"]),
            ("*/*.py", ["garden/plan.py"]),
            ("none/*", []),
            ("[!t]*.md", ["garden/beans.md"]),
        ],
    )
    def test_files_are_chosen_by_a_glob(self, tools, glob, files):
        said = tools.call("search", pattern=".", glob=glob)
        assert sorted({line.partition(":")[0] for line in said.splitlines()[:-1]}) == sorted(files)

    def test_one_file_or_folder_is_searched(self, tools):
        assert "[1 lines found, 1 files searched]" in tools.call("search", pattern="two", path="todo.md")
        assert "[1 lines found, 2 files searched]" in tools.call("search", pattern="two", path="garden")
        assert tools.refused("search", pattern="two", path="none") == "there is no 'none'"

    def test_files_left_out_of_a_search_are_counted(self, notes):
        (notes / "binary").write_bytes(b"two\0")
        (notes / "large").write_text("two " * 300_000)
        said = Tools(notes, max_file_mb=1).call("search", pattern="two")
        assert "left out: 1 binary or not readable; left out: 1 larger than 1 MB]" in said

    def test_hits_are_bounded_in_number_and_width(self, notes):
        (notes / "many").write_text("two\n" * 1000)
        (notes / "wide").write_text("x" * 10_000 + "two" + "y" * 10_000)
        said = Tools(notes, max_hits=10).call("search", pattern="two", path="many").splitlines()
        assert len(said) == 11
        assert said[-1] == (
            "[10 lines found, 1 files searched; cut off after 10 lines: look for less, or in fewer files]"
        )
        wide = Tools(notes).call("search", pattern="two", path="wide").splitlines()[0]
        assert "two" in wide
        assert len(wide) < 350
        assert wide.startswith("wide:1: [...] x")
        assert wide.endswith("y [...]")
        said = Tools(notes, max_output_bytes=100).call("search", pattern="two", path="many")
        assert "cut off after 100 bytes]" in said

    @pytest.mark.parametrize("pattern", ["(", "*", "a{2,1}", "(?P<a", "[", "(" * 500 + ")" * 500])
    def test_an_invalid_pattern_is_an_error(self, tools, pattern):
        told = tools.refused("search", pattern=pattern)
        assert told.startswith(("the pattern is not a regular expression: ", "the pattern takes too much memory"))

    def test_a_pattern_that_never_ends_is_stopped_and_blocks_nothing(self, notes):
        """On a thread it would block all of afk; here the loop continues, and the hits so far are returned."""
        (notes / "a").write_text("aX\n" + "a" * 50 + "!\n")
        ticks = []

        async def beside(seconds):
            call = asyncio.ensure_future(
                Tools(notes, timeout_s=seconds).tools["files.search"].call({"pattern": "^(a+)+X?$"})
            )
            while not call.done():
                ticks.append(1)
                await asyncio.sleep(0.01)
            return call.result()

        for seconds in (1, 5, 25):  # the process of the search has to start in this time
            said = asyncio.run(beside(seconds))
            if "aX" in said:
                break
        assert said.startswith(f"a:1: aX\n[... the search took longer than {seconds} s;")
        assert len(ticks) > 10

    def test_a_cancelled_search_leaves_no_process(self, notes):
        (notes / "a").write_text("a" * 50 + "!\n")
        tool = Tools(notes, timeout_s=60.0).tools["files.search"]

        async def cancelled():
            call = asyncio.ensure_future(tool.call({"pattern": "(a+)+$"}))
            await asyncio.sleep(0.5)
            call.cancel()
            await asyncio.wait({call})

        asyncio.run(cancelled())
        listed = subprocess.Popen(["ps", "-A", "-o", "ppid=,args="], stdout=subprocess.PIPE, text=True)
        lines = [line.strip() for line in listed.communicate()[0].splitlines()]
        assert [line for line in lines if line.startswith(f"{os.getpid()} ") and "search_process" in line] == []

    def test_a_deep_tree_is_searched(self, notes, tools):
        folder = notes
        for _ in range(150):
            folder = folder / "d"
            folder.mkdir()
        (folder / "file").write_text("two")
        assert "left out: 1 folders too deep" in tools.call("search", pattern="two")


class TestWrite:
    def test_a_new_file(self, notes, tools):
        assert tools.call("write", path="new.md", text="é\n") == "new.md: 3 bytes written, a new file"
        assert (notes / "new.md").read_text(encoding="utf-8") == "é\n"

    def test_missing_folders_are_created(self, notes, tools):
        tools.call("write", path="a/b/c.md", text="deep")
        assert (notes / "a" / "b" / "c.md").read_text() == "deep"

    def test_a_file_is_replaced_completely_and_keeps_its_mode(self, notes, tools):
        (notes / "todo.md").chmod(0o750)
        said = tools.call("write", path="todo.md", text="short")
        assert said == "todo.md: 5 bytes written, replaces the old file"
        assert (notes / "todo.md").read_text() == "short"
        assert stat.S_IMODE((notes / "todo.md").stat().st_mode) == 0o750

    def test_a_new_file_has_the_mode_that_the_umask_gives(self, notes, tools):
        before = os.umask(0o027)
        try:
            tools.call("write", path="new", text="x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((notes / "new").stat().st_mode) == 0o640

    def test_no_reader_sees_a_half_written_file(self, notes, tools):
        texts = ["a" * 200_000, "b" * 200_000]
        (notes / "todo.md").write_text(texts[0])
        seen, done = set(), threading.Event()

        def watch():
            while not done.is_set():
                seen.add((notes / "todo.md").read_text())

        watcher = threading.Thread(target=watch)
        watcher.start()
        for number in range(50):
            tools.call("write", path="todo.md", text=texts[number % 2])
        done.set()
        watcher.join()
        assert seen <= set(texts)

    def test_a_full_disk_leaves_the_old_file(self, notes):
        code = """
            import asyncio, resource, signal, sys
            from afk_tools_files import Settings, afk_tools
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            tool = afk_tools(Settings(roots=[sys.argv[1]], write=True))[-1]
            tool.spec
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            try:
                asyncio.run(tool.call({"path": "todo.md", "text": "x" * 100_000}))
            except Exception as error:
                print(error)
        """
        done = subprocess.run(
            [sys.executable, "-B", "-c", textwrap.dedent(code), str(notes)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.stdout == "'todo.md' was not written: File too large\n"
        assert (notes / "todo.md").read_text() == "one\ntwo\nthree\n"
        assert sorted(path.name for path in notes.iterdir()) == ["garden", "todo.md"]

    def test_a_file_with_two_names_is_not_replaced(self, notes, outside, tools):
        os.link(outside / "file", notes / "alias")
        assert "has another name elsewhere (a hard link)" in tools.refused("write", path="alias", text="x")
        assert (outside / "file").read_text() == SECRET

    def test_a_file_that_is_read_only_is_not_replaced(self, notes, tools):
        (notes / "todo.md").chmod(0o444)
        assert "may not be written: its mode is 0444" in tools.refused("write", path="todo.md", text="x")

    def test_a_folder_is_not_replaced(self, tools):
        assert tools.refused("write", path="garden", text="x") == "'garden' is a folder"
        assert tools.refused("write", path=".", text="x") == "'.' is a folder"
        assert tools.refused("write", path="todo.md/a", text="x") == "'todo.md' is not a folder"

    def test_only_text_up_to_the_limit_is_written(self, notes):
        tools = Tools(notes, write=True, max_file_mb=1)
        assert "NUL" in tools.refused("write", path="new", text="a\0b")
        assert "at most 1000000" in tools.refused("write", path="new", text="x" * 1_000_001)
        assert not (notes / "new").exists()
        (notes / "large").write_text("x" * 1_000_001)
        assert "is not replaced" in tools.refused("write", path="large", text="x")
