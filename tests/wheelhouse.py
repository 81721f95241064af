"""A folder of wheels, made without a network: of what is installed here, of afk itself, and of invented plugins.

Installers take it by their own variables, `PIP_FIND_LINKS` and `UV_FIND_LINKS`.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str] | None = None,
    points: Mapping[str, Mapping[str, str]] | None = None,
    requires: Sequence[str] = (),
    headers: Sequence[str] = (),
) -> Path:
    """Write a wheel of pure Python, and return its path.

    Args:
        folder: where it is written.
        name, version: of the distribution.
        files: the texts of its files by path.
        points: its entry points by group and name.
        requires: its requirements.
        headers: more lines of its metadata.
    """
    stem = f"{re.sub(r'[-_.]+', '_', name)}-{version}"
    info = f"{stem}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers]
    content = dict(files or {})
    content[f"{info}/METADATA"] = "\n".join([*lines, *(f"Requires-Dist: {item}" for item in requires)]) + "\n"
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if points:
        content[f"{info}/entry_points.txt"] = "\n".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
            for group, keys in points.items()
        )
    return _zip(folder / f"{stem}-py3-none-any.whl", info, {path: text.encode() for path, text in content.items()})


def installed_wheel(folder: Path, name: str) -> Path:
    """Write the wheel that a distribution which is installed here came from, without its scripts; return its path."""
    distribution = importlib.metadata.distribution(name)
    content = {}
    info = ""
    for file in distribution.files or ():
        path = str(file)
        if path.startswith("..") or path.endswith((".pyc", "/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json")):
            continue
        if path.endswith(".dist-info/METADATA"):
            info = path.partition("/")[0]
        content[path] = Path(str(distribution.locate_file(file))).read_bytes()
    tags = re.findall(r"^Tag: (\S+)$", content[f"{info}/WHEEL"].decode(), re.MULTILINE)
    python, abi, _ = tags[0].split("-")
    platforms = ".".join(tag.split("-")[2] for tag in tags if tag.startswith(f"{python}-{abi}-"))
    pythons = ".".join(dict.fromkeys(tag.split("-")[0] for tag in tags))
    return _zip(folder / f"{info.removesuffix('.dist-info')}-{pythons}-{abi}-{platforms}.whl", info, content)


def afk_wheel(folder: Path, version: str | None = None) -> Path:
    """Write a wheel of afk as it is in the repository, with the version that is given; return its path."""
    distribution = importlib.metadata.distribution("afkcli")
    version = version or distribution.version
    files = {
        str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
        for package in ("afkcli", "afk")
        for path in (REPOSITORY / package).rglob("*.py")
    }
    extras = [f"Provides-Extra: {name}" for name in distribution.metadata.get_all("Provides-Extra") or ()]
    return make_wheel(
        folder,
        "afkcli",
        version,
        files=files,
        points={"console_scripts": {"afk": "afkcli.entry:main"}},
        requires=distribution.requires or (),
        headers=extras,
    )


def needed_by(name: str) -> list[str]:
    """Return the distributions that one needs here, without extras, as they are installed; not itself."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        for line in importlib.metadata.distribution(waiting.pop()).requires or ():
            needed = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower()
            if "extra ==" in line or needed in found or not _is_installed(needed):
                continue
            found[needed] = None
            waiting.append(needed)
    return list(found)


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _zip(path: Path, info: str, content: Mapping[str, bytes]) -> Path:
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in content.items()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
