"""`afk events schema` in ajv, json-schema-to-typescript and datamodel-code-generator, with the log of real runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from afkcli.core.contract.event_schema import ADDED
from tests.core.contract.test_released_events import LOG as RELEASED_LOG
from tests.e2e.shell import LIMIT
from tests.made_log import made_log

FOLDER = Path(os.environ["AFK_TEST_SCHEMA_TOOLS"])
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the schema, and with the log of runs that have most kinds of events."""
    folder = tmp_path_factory.mktemp("work")
    shell = made_log(tmp_path_factory.mktemp("home"), folder)
    lines = [json.dumps(event, ensure_ascii=False) for event in shell.log()]
    (folder / "log.jsonl").write_text("\n".join([*lines, RELEASED_LOG.read_text()]))
    (folder / "schema.json").write_text(shell.in_process("events", "schema").out)
    return folder


def ran(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "strict mode" not in done.stderr  # what ajv only logs
    return done.stdout


def names_of_types(folder: Path) -> set[str]:
    return {"Event", *json.loads((folder / "schema.json").read_text())["$defs"]}


class TestAjv:
    def findings(self, folder: Path, log: Path) -> list[str]:
        return ran("node", HERE / "validate.mjs", FOLDER, folder / "schema.json", log, folder=folder).splitlines()

    def test_compiles_it_in_its_strict_default_and_finds_each_logged_event_valid(self, folder: Path) -> None:
        found = self.findings(folder, folder / "log.jsonl")
        assert len(found) > 100
        assert set(found) == {"valid"}

    def test_finds_what_is_not_valid(self, folder: Path, tmp_path: Path) -> None:
        event = json.loads((folder / "log.jsonl").read_text().splitlines()[0])
        without = {name: value for name, value in event.items() if name != "agent"}
        wrong = [{**event, "v": 2}, {**event, "type": "odd"}, {**event, "turn": "1"}, without]
        (tmp_path / "log").write_text("\n".join(map(json.dumps, [*wrong, {**event, "later": [1]}])))
        *refused, last = self.findings(folder, tmp_path / "log")
        assert len(refused) == len(wrong)
        assert "valid" not in refused
        assert last == "valid"


@pytest.fixture(scope="module")
def types(folder: Path) -> str:
    """What json-schema-to-typescript makes of it, in `events.ts`."""
    text = ran(FOLDER / "node_modules" / ".bin" / "json2ts", "schema.json", folder=folder)
    (folder / "events.ts").write_text(text)
    return text


class TestTypeScript:
    def test_has_a_type_for_each_definition_and_no_other(self, folder: Path, types: str) -> None:
        names = re.findall(r"^export (?:type|interface) (\w+)", types, re.MULTILINE)
        assert len(names) == len(set(names))
        assert set(names) == names_of_types(folder)

    def test_keeps_the_descriptions(self, types: str) -> None:
        assert "\n * A piece of the answer.\n */\nexport interface TextDeltaEvent {" in types
        assert "\n * A part of a message; `type` says which.\n */\nexport type Part =" in types

    def test_says_what_each_field_is(self, types: str) -> None:
        fields = re.findall(r"^  (\w+\??): (.+);$", types, re.MULTILINE)
        assert ("type", '"text_delta"') in fields
        assert ("total_cost_usd", "number | null") in fields
        assert [name for name, kind in fields if kind == "unknown"] == []
        later = sorted(f"{name}?" for names in ADDED.values() for name in names)
        assert sorted(name for name, _ in fields if name.endswith("?")) == later

    def test_compiles_with_a_reader_of_it_in_strict_mode(self, folder: Path, types: str) -> None:
        (folder / "reader.ts").write_text((HERE / "reader.ts").read_text())
        ran(FOLDER / "node_modules" / ".bin" / "tsc", "--strict", "--noEmit", "reader.ts", folder=folder)


@pytest.fixture(scope="module")
def models(folder: Path) -> Path:
    """What datamodel-code-generator makes of it."""
    command = [FOLDER / "python" / "bin" / "datamodel-codegen", "--input", "schema.json"]
    kind = ["--input-file-type", "jsonschema", "--output-model-type", "pydantic_v2.BaseModel"]
    ran(*command, *kind, "--use-schema-description", "--output", "event_models.py", folder=folder)
    return folder / "event_models.py"


class TestPydantic:
    def test_has_a_class_for_each_definition_and_each_choice_of_words(self, folder: Path, models: Path) -> None:
        names = re.findall(r"^class (\w+)", models.read_text(), re.MULTILINE)
        assert len(names) == len(set(names))
        assert set(names) == names_of_types(folder) | {"Decision", "Kept"}

    def test_keeps_the_descriptions(self, models: Path) -> None:
        assert "A piece of the answer." in models.read_text()

    def test_reads_each_logged_event_as_its_class(self, folder: Path, models: Path) -> None:
        reader = folder / "read.py"
        reader.write_text(
            "import event_models\n"
            "for line in open('log.jsonl'):\n"
            "    event = event_models.Event.model_validate_json(line).root\n"
            "    print(type(event).__name__, event.type, event.model_dump_json() and event.v)\n"
        )
        read = ran(FOLDER / "python" / "bin" / "python", reader, folder=folder).splitlines()
        assert len(read) > 100
        assert {"TextDeltaEvent text_delta 1", "ToolCompleted tool_completed 1", "Completed completed 1"} <= set(read)
