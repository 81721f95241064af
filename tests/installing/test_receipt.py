"""What `uv tool install` recorded is asked for again as it was, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from afkcli.core.contract.errors import UsageError
from afkcli.installing.receipt import Receipt, read_receipt


def receipt(folder: Path, requirements: str, more: str = "", options: str = "") -> Receipt:
    (folder / "uv-receipt.toml").write_text(
        f"[tool]\nrequirements = [{requirements}]\n{more}\n[tool.options]\n{options}\n"
    )
    return read_receipt(folder, "THE LINE")


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        ('{ name = "afkcli" }', ("afkcli",)),
        ('{ name = "afkcli", extras = ["all", "otel"], specifier = "<1,>=0.2" }', ("afkcli[all,otel]<1,>=0.2",)),
        (
            '{ name = "afkcli", specifier = "==1", marker = "os_name == \'posix\'" }',
            ("afkcli==1 ; os_name == 'posix'",),
        ),
        ('{ name = "afkcli", extras = ["all"], directory = "/src/a b" }', ("afkcli[all] @ file:///src/a%20b",)),
        ('{ name = "afkcli", path = "/w/afkcli-1.whl" }', ("afkcli @ file:///w/afkcli-1.whl",)),
        ('{ name = "afkcli", editable = "/src" }', ("--editable", "/src")),
        ('{ name = "afkcli", extras = ["all"], directory = "/src", editable = true }', None),
        ('{ name = "afkcli", git = "https://x.invalid/afk?rev=v1" }', ("afkcli @ git+https://x.invalid/afk@v1",)),
        ('{ name = "afkcli", git = "https://x.invalid/afk" }', ("afkcli @ git+https://x.invalid/afk",)),
        ('{ name = "afkcli", url = "https://x.invalid/a.whl" }', ("afkcli @ https://x.invalid/a.whl",)),
    ],
)
def test_afk_is_asked_for_as_it_was(tmp_path: Path, recorded: str, asked: tuple[str, ...] | None) -> None:
    if asked is None:
        with pytest.raises(UsageError, match="requirement has editable"):
            receipt(tmp_path, recorded)
    else:
        assert receipt(tmp_path, recorded).main == asked


def test_all_of_it_is_asked_for_in_one_call(tmp_path: Path) -> None:
    found = receipt(
        tmp_path,
        '{ name = "afkcli" }, { name = "Plugin_One", specifier = ">=2" }',
        'python = "3.12"\nentrypoints = [{ name = "afk", install-path = "/bin/afk", from = "afkcli" }]',
        'find-links = ["/a", "/b"]\nprerelease = "allow"\nno-index = true\ncompile-bytecode = false\n'
        'index = [{ url = "https://x.invalid/s", name = "own", default = true, explicit = false, format = "simple" }]',
    )

    options = ["--find-links", "/a", "--find-links", "/b", "--prerelease", "allow", "--no-index"]
    options += ["--default-index", "own=https://x.invalid/s", "--python", "3.12"]
    assert found.others == {"plugin-one": "Plugin_One>=2"}
    assert found.folder == Path("/bin")
    assert found.arguments({**found.others, "p": "p"}) == [*options, "afkcli", "--with", "Plugin_One>=2", "--with", "p"]


@pytest.mark.parametrize(
    ("requirements", "more", "options"),
    [
        ('{ name = "afkcli" }', 'constraints = [{ name = "click" }]', ""),
        ('{ name = "afkcli" }', "", 'index = [{ url = "https://x.invalid", explicit = true }]'),
        ('{ name = "afkcli" }', "", 'config-setting = { a = "b" }'),
        ('{ name = "afkcli", subdirectory = "x" }', "", ""),
        ('{ name = "afkcli", git = "https://x.invalid/afk?branch=main" }', "", ""),
        ('{ name = "other" }', "", ""),
        ("", "", ""),
        ("{", "", ""),
    ],
)
def test_what_cannot_be_asked_for_again_is_refused_with_the_line(
    tmp_path: Path, requirements: str, more: str, options: str
) -> None:
    with pytest.raises(UsageError, match="was not changed; use: THE LINE"):
        receipt(tmp_path, requirements, more, options)
