"""What a person should look at before a call is allowed: hints from one table, each with its reason in words.

A hint is no judgement: a call without one can do harm, and one with hints can be harmless.

Since: 0.2.
"""

from __future__ import annotations

import os.path
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.screen.shown import has_hidden

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "ash", "busybox"})
_INTERPRETERS = frozenset(
    {"python", "python3", "perl", "ruby", "node", "php", "lua", "osascript", "deno", "bun", "awk"}
)
RUNNERS = frozenset({*_SHELLS, *_INTERPRETERS, "env", "xargs", "nohup", "timeout", "nice", "ssh", "sudo", "doas", "su"})
"""Programs that run what their arguments say, so that a rule for one of them allows nearly everything."""

_CODE_OPTIONS = frozenset({"-c", "-e", "-E", "--eval", "-r", "-lc", "-ic", "-p", "--print"})
_OTHER_USERS = frozenset({"sudo", "doas", "su", "pkexec", "runuser"})
_DOWNLOADERS = r"(?:curl|wget|fetch|aria2c|http)"
_RUNS = rf"(?:{'|'.join(sorted(_SHELLS | _INTERPRETERS))})"
_SECRET = LazyPattern(
    r"(?:^|/)(?:id_(?:rsa|dsa|ecdsa|ed25519)[^/]*|credentials[^/]*|secrets?[^/]*|passwd|shadow|sudoers[^/]*"
    r"|[^/]+\.(?:pem|key|p12|pfx|kdbx)|authorized_keys|known_hosts|\.(?:ssh|aws|gnupg|kube|docker|netrc|npmrc|pypirc"
    r"|git-credentials|env)[^/]*)(?:/|$)",
    re.IGNORECASE,
)
_OUTSIDE = "outside the working folder"
_HIDDEN_FILE = LazyPattern(r"(?:^|/)\.(?!\.?(?:/|$))[^/]+")
_OPTION_VALUE = LazyPattern(r"-{1,2}[\w-]+=(.+)|-[A-Za-z]((?:/|~|\.\.).*)")


class Risk(NamedTuple):
    """A hint: the part of the call, and why a person should look at it."""

    part: str
    reason: str

    @property
    def line(self) -> str:
        return f"{self.part}: {self.reason}"


class _Script(NamedTuple):
    pattern: LazyPattern
    reason: str


# What to look for in a text that a shell reads, in which quotes are left as they are: a hint too many is better than
# one that a quote in the right place has taken away.
_IN_SCRIPTS = (
    _Script(
        LazyPattern(rf"\b{_DOWNLOADERS}\b[^\n;]*\|\s*(?:\w+=\S*\s+|sudo\s+|env\s+|-\S+\s+)*\S*?{_RUNS}[\d.]*\b"),
        "runs what is downloaded",
    ),
    _Script(
        LazyPattern(
            rf"(?:{_RUNS}\b[^\n|;&]*|\beval\b[^\n;&]*|(?:^|[\s;])(?:\.|source)\s+)(?:\$\(|`|<\()\s*{_DOWNLOADERS}\b"
        ),
        "runs what is downloaded",
    ),
    _Script(
        LazyPattern(rf"\|\s*(?:sudo\s+|env\s+)*(?:[\w./-]*/)?{_RUNS}[\d.]*(?=[\s;|&)]|$)"),
        "a program runs what comes out of the one before",
    ),
    _Script(
        LazyPattern(r"(?<![<>=-])(?:\d|&)?>{1,2}[|&]?\s*(?!&|\d\b)[^\s;|&()<>]+"), "writes to a file (redirection)"
    ),
    _Script(LazyPattern(r"\$\([^)\n]*\)?|`[^`\n]*`?"), "runs a command inside the command"),
    _Script(LazyPattern(r"(?:^|(?<=[\s;&|(]))(?:sudo|doas|su|pkexec)\b"), "runs as another user"),
    _Script(
        LazyPattern(r"(?:^|(?<=[\s;&|(/]))rm\s+(?:\S+\s+)*?-(?:-recursive|\w*[rR]\w*)"),
        "deletes folders with all that is in them",
    ),
    _Script(LazyPattern(r"(?:^|(?<=[\s;&|(/]))(?:mkfs[.\w]*|shred|dd)\s\S*"), "may overwrite a disk or a file"),
    _Script(
        LazyPattern(r"(?<![&>])&(?![&>\d])\s*(?=$|[^\s&>])|\b(?:nohup|setsid|disown)\b"),
        "keeps running in the background",
    ),
    _Script(
        LazyPattern(r"[^\s;|&'\"]*(?:\*|\?(?=[\w./*])|\[[^\]\s]+\])[^\s;|&'\"]*"),
        "a wildcard, which the shell replaces by names of files",
    ),
    _Script(LazyPattern(r"&&|\|\||;(?!;)\s*(?=\S)|\n\s*(?=\S)"), "several commands in one"),
)


def risks_of_command(argv: Sequence[str], folder: str) -> list[Risk]:
    """Return hints about a command that no shell reads.

    Args:
        argv: the program and its arguments.
        folder: the absolute path of the folder in which it runs.
    """
    found: list[Risk] = []
    for at, word in enumerate(argv):
        for check in _OF_WORDS:
            reason = check(argv, at)
            if reason:
                found.append(Risk(_brief(word), reason))
        found += _risks_of_path(word, folder, is_program=at == 0)
        found += risks_of_text(word)
    for script in _scripts(argv):
        found += risks_of_script(script, folder)
    return _unique(found)


def risks_of_script(text: str, folder: str) -> list[Risk]:
    """Return hints about a text that a shell reads."""
    found = []
    for kind in _IN_SCRIPTS:
        match = kind.pattern.compiled.search(text)
        if match is not None:
            found.append(Risk(_brief(match[0]) or "a new line", kind.reason))
    for word in re.split(r"[\s;|&<>()'\"`=]+", text):
        found += _risks_of_path(word, folder, is_program=False)
    return _unique([*found, *risks_of_text(text)])


def risks_of_file(path: str, folder: str) -> list[Risk]:
    """Return hints about a file that is changed."""
    return _unique([*_risks_of_path(path, folder, is_program=False, is_path=True), *risks_of_text(path)])


def risks_of_folder(asked: str, where: str, folder: str) -> list[Risk]:
    """Return hints about the folder in which a command runs: `asked`, which leads to the absolute path `where`."""
    roots = [os.path.normpath(folder), os.path.realpath(folder)]
    is_inside = any(where == root or where.startswith(f"{root.rstrip('/')}/") for root in roots)
    return [] if is_inside else [Risk(_brief(asked), _OUTSIDE)]


def risks_of_fields(value: Json) -> list[Risk]:
    """Return hints about other arguments, however deep they are: what a person would not see in them."""
    if isinstance(value, str):
        return risks_of_text(value)
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return _unique([risk for item in inner for risk in risks_of_fields(item)])


def risks_of_text(text: str) -> list[Risk]:
    """Return hints about characters that look like others, or like nothing."""
    found = []
    if has_hidden(text):
        found.append(Risk("invisible characters", "shown as escapes, such as \\u202e"))
    if not text.isascii():
        mixed = next((word for word in re.findall(r"\w+", text) if len(_scripts_of(word)) > 1), None)
        if mixed is not None:
            alphabets = " and ".join(sorted(_scripts_of(mixed)))
            found.append(Risk(_brief(mixed), f"letters of {alphabets} in one word, which may look alike"))
    return found


def _scripts_of(word: str) -> set[str]:
    """Return which of the alphabets that look alike a word has."""
    names = {unicodedata.name(char, "").partition(" ")[0] for char in word if char.isalpha()}
    return {name.capitalize() for name in names & {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "FULLWIDTH"}}


def _other_user(argv: Sequence[str], at: int) -> str | None:
    return "runs as another user" if _name(argv[at]) in _OTHER_USERS else None


def _deletes(argv: Sequence[str], at: int) -> str | None:
    rest = argv[at + 1 :]
    if _name(argv[at]) == "rm" and any(re.fullmatch(r"-\w*[rR]\w*|--recursive", word) for word in rest):
        return "deletes folders with all that is in them"
    return "deletes what it finds" if argv[at] == "-delete" else None


def _overwrites(argv: Sequence[str], at: int) -> str | None:
    name = _name(argv[at])
    if name.startswith("mkfs") or name == "shred" or (name == "dd" and any(word.startswith("of=") for word in argv)):
        return "may overwrite a disk or a file"
    return None


def _discards(argv: Sequence[str], at: int) -> str | None:
    if _name(argv[at]) != "git":
        return None
    rest = argv[at + 1 :]
    forced = {"push": ("-f", "--force", "--force-with-lease", "--delete", "--mirror"), "reset": ("--hard",)}
    forced |= {"clean": ("-f", "-fd", "-fdx", "--force"), "checkout": ("-f", "--force", "--", "."), "branch": ("-D",)}
    for command, options in forced.items():
        if command in rest and any(word in options for word in rest):
            return "discards changes or commits"
    return None


def _runs_code(argv: Sequence[str], at: int) -> str | None:
    name = re.sub(r"[\d.]+$", "", _name(argv[at]))
    if name not in _SHELLS | _INTERPRETERS and name != "eval":
        return None
    codes = any(word in _CODE_OPTIONS or re.fullmatch(r"-[a-z]*c", word) for word in argv[at + 1 : at + 6])
    return "runs code that is one of its arguments" if codes else None


def _several(argv: Sequence[str], at: int) -> str | None:
    return (
        "runs a command for all that it reads or finds" if _name(argv[at]) in ("xargs", "parallel", "-exec") else None
    )


_OF_WORDS: tuple[Callable[[Sequence[str], int], str | None], ...] = (
    _other_user,
    _deletes,
    _overwrites,
    _discards,
    _runs_code,
    _several,
)


def _scripts(argv: Sequence[str]) -> Iterator[str]:
    """Yield the arguments that a shell reads as code."""
    for at, word in enumerate(argv[:-1]):
        if _name(word) in _SHELLS:
            for option, code in zip(argv[at + 1 :], argv[at + 2 :], strict=False):
                if re.fullmatch(r"-[a-zA-Z]*c", option):
                    yield code
                    break
        if word in ("-c", "--command") and at and _name(argv[0]) in ("su", "runuser", "watch"):
            yield argv[at + 1]


def _risks_of_path(word: str, folder: str, *, is_program: bool, is_path: bool = False) -> Iterator[Risk]:
    value = _OPTION_VALUE.compiled.fullmatch(word)
    path = next((part for part in value.groups() if part), word) if value is not None else word
    if not path or "\n" in path or "://" in path or len(path) > 4096 or (path.startswith("-") and not is_path):
        return
    if _SECRET.compiled.search(path):
        yield Risk(_brief(path), "may hold keys or passwords")
    elif _HIDDEN_FILE.compiled.search(path):
        yield Risk(_brief(path), "a hidden file or folder")
    if (not is_program and path.startswith(("/", "~", "../", ".."))) or "/.." in path:
        whole = os.path.normpath(os.path.join(folder, os.path.expanduser(path)))  # noqa: PTH111, PTH118
        if whole != folder and not whole.startswith(f"{folder.rstrip('/')}/"):
            yield Risk(_brief(path), _OUTSIDE)


def _name(word: str) -> str:
    return word.rpartition("/")[2]


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:40]}...{line[-15:]}"


def _unique(found: list[Risk]) -> list[Risk]:
    return list(dict.fromkeys(found))
