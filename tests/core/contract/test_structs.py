"""The frozen records behave as frozen dataclasses: for `dataclasses`, for `copy` and `pickle`, for pydantic."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel, ValidationError

import afkcli
import afkcli.plugin
from afkcli.core.contract.events import EVENT_TYPES
from afkcli.core.contract.messages import Message, Role, TextDelta, TextPart, ToolCallPart, ToolResultPart
from afkcli.core.contract.protocols import ModelInfo
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import FrozenStruct, field, force_setattr, replace

PUBLIC = [getattr(module, name) for module in (afkcli, afkcli.plugin) for name in module.__all__]
STRUCTS = {kind for kind in PUBLIC if isinstance(kind, type) and issubclass(kind, FrozenStruct)}
KINDS: list[Any] = sorted(STRUCTS | set(EVENT_TYPES.values()), key=lambda kind: kind.__name__)
PNG = b"\x89PNG\r\n\x1a\n"


def sample(hint: Any) -> Any:
    """Return a value of the type `hint`, as small as can be."""
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return None if NoneType in arguments else sample(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin in (Callable, Any):
        return print
    if origin in (Mapping, Sequence):
        return {} if origin is Mapping else ()
    if issubclass(origin, Enum):
        return next(iter(origin))
    if issubclass(origin, FrozenStruct):
        return sample_of(origin)
    return PNG if origin is bytes else origin()


def sample_of(kind: Any) -> Any:
    """Return an object of `kind` whose fields without a default have a small value."""
    hints = get_type_hints(kind)
    required = [item for item in dataclasses.fields(kind) if _has_no_default(item)]
    return kind(**{item.name: sample(hints[item.name]) for item in required})


def _has_no_default(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def test_the_public_records_are_structs() -> None:
    assert {"Message", "TextPart", "ModelRequest", "Usage", "AgentResult", "ThreadInfo", "Image", "ToolContext"} <= {
        kind.__name__ for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__qualname__)
class TestEachRecord:
    def test_the_functions_for_dataclasses_take_it(self, kind: Any) -> None:
        record = sample_of(kind)
        names = [item.name for item in dataclasses.fields(record)]

        assert dataclasses.is_dataclass(kind)
        assert dataclasses.is_dataclass(record)
        assert names == [item.name for item in dataclasses.fields(kind)] == list(inspect.signature(kind).parameters)
        assert list(dataclasses.asdict(record)) == names
        assert len(dataclasses.astuple(record)) == len(names)
        assert dataclasses.replace(record) == record
        assert dataclasses.replace(record) is not record

    def test_its_fields_have_the_defaults_that_it_is_made_with(self, kind: Any) -> None:
        record = sample_of(kind)
        computed = {"media_type"} if hasattr(record, "data") else set()
        for item in dataclasses.fields(kind):
            if item.name in computed:
                continue
            if item.default is not dataclasses.MISSING:
                assert getattr(record, item.name) == item.default
            elif item.default_factory is not dataclasses.MISSING:
                assert getattr(record, item.name) == item.default_factory()

    def test_it_takes_by_position_what_a_dataclass_takes(self, kind: Any) -> None:
        by_position = [item.name for item in dataclasses.fields(kind) if not item.kw_only]

        assert list(kind.__match_args__) == by_position
        for name, parameter in inspect.signature(kind).parameters.items():
            assert (parameter.kind is parameter.KEYWORD_ONLY) == (name not in by_position)

    def test_it_cannot_be_changed(self, kind: Any) -> None:
        record = sample_of(kind)
        for item in dataclasses.fields(kind):
            with pytest.raises(AttributeError):
                setattr(record, item.name, None)
            with pytest.raises(AttributeError):
                delattr(record, item.name)
        with pytest.raises(AttributeError):
            record.another = None

    def test_it_is_equal_by_its_type_and_fields_and_prints_them(self, kind: Any) -> None:
        record = sample_of(kind)
        fields = ", ".join(f"{item.name}={getattr(record, item.name)!r}" for item in dataclasses.fields(kind))

        assert record == copy.copy(record)
        assert record != tuple(getattr(record, item.name) for item in dataclasses.fields(kind))
        if hasattr(record, "data"):
            assert repr(PNG) not in repr(record)
        else:
            assert repr(record) == f"{kind.__name__}({fields})"

    def test_it_is_copied(self, kind: Any) -> None:
        record = sample_of(kind)

        assert dataclasses.asdict(copy.copy(record)) == dataclasses.asdict(record)
        if sys.version_info >= (3, 13):
            assert dataclasses.asdict(copy.replace(record)) == dataclasses.asdict(record)


@pytest.mark.parametrize("record", [TextPart(text="a"), Usage(input_tokens=1), TextDelta("a")], ids=repr)
def test_a_record_of_texts_is_hashed_and_pickled(record: Any) -> None:
    assert hash(record) == hash(copy.deepcopy(record))
    assert len({record, dataclasses.replace(record)}) == 1
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_record_that_holds_a_dict_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(ToolCallPart(id="1", name="f", arguments={}))


def test_a_record_matches_a_pattern() -> None:
    match Message(role=Role.USER, parts=(TextPart(text="hi"),)):
        case Message(role=Role.USER, parts=(TextPart(text=text),)):
            assert text == "hi"
        case _:
            pytest.fail("not matched")
    match TextDelta("a"):
        case TextDelta("a"):
            pass
        case _:
            pytest.fail("not matched")


def test_what_is_computed_of_the_fields_is_computed_again_by_replace() -> None:
    unknown = replace(Usage(input_tokens=3), output_tokens=-1)
    assert unknown == dataclasses.replace(Usage(input_tokens=3), output_tokens=-1)
    assert unknown == Usage(input_tokens=3, output_tokens=0, unknown=("output_tokens",))


def test_a_field_that_there_is_not_is_refused() -> None:
    for wrong in (lambda: TextPart(text="a", size=1), lambda: replace(TextPart(text="a"), size=1), lambda: TextPart()):
        with pytest.raises(TypeError):
            wrong()


class Point(FrozenStruct):
    x: int
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        force_setattr(self, "x", abs(self.x))


class Named(Point):
    name: str = "origin"


def test_a_subclass_has_the_fields_of_both_whichever_is_asked_first() -> None:
    assert [item.name for item in dataclasses.fields(Point)] == ["x", "tags"]
    assert [item.name for item in dataclasses.fields(Named)] == ["x", "tags", "name"]
    assert Named(-1, name="n") == dataclasses.replace(Named(3, name="n"), x=-1)


def test_a_class_statement_makes_a_subclass_with_more_fields() -> None:
    class Sized(ModelInfo, kw_only=True):
        size: int = 0

        def double(self) -> int:
            return 2 * self.size

    sized = replace(Sized(id="a"), size=3)
    names = [*ModelInfo.__struct_fields__, "size"]
    assert (sized.double(), [item.name for item in dataclasses.fields(sized)]) == (6, names)
    assert sized != ModelInfo(id="a")


def test_a_default_is_made_anew_for_each_record() -> None:
    first, second = Point(1), Point(1)
    first.tags.append("a")
    assert second.tags == []


class Stored(BaseModel):
    message: Message
    usage: Usage | None = None


class TestPydantic:
    def test_a_model_has_records_as_fields(self) -> None:
        message = Message(
            role=Role.TOOL,
            parts=(ToolResultPart(id="1", name="f", parts=(TextPart(text="a"),)), TextPart(text="b")),
        )
        stored = Stored(message=message, usage=Usage(input_tokens=2))

        assert stored.message is message
        assert Stored.model_validate_json(stored.model_dump_json()) == stored
        assert Stored.model_validate(stored.model_dump()) == stored

    def test_what_does_not_fit_is_named_by_its_place(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Stored.model_validate({"message": {"role": "user", "parts": [{"type": "text"}]}, "usage": {"x": 1}})
        assert any("text" in error["loc"] for error in caught.value.errors())

    def test_the_schema_is_that_of_a_dataclass(self) -> None:
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class TextPart:
            text: str
            type: Literal["text"] = "text"

        class Record(FrozenStruct, kw_only=True):
            text: str
            type: Literal["text"] = "text"

        Record.__name__ = "TextPart"
        from pydantic import TypeAdapter

        assert TypeAdapter(Record).json_schema() == TypeAdapter(TextPart).json_schema()


def imported_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_record_takes_msgspec_and_not_typing_extensions() -> None:
    names = imported_by("import afkcli.core.contract.messages")
    assert "msgspec" in names
    assert not {"typing_extensions", "pydantic"} & names


def test_typing_extensions_can_be_imported_after_that() -> None:
    assert "typing_extensions" in imported_by("import afkcli.core.contract.structs, typing_extensions")


def test_while_a_thread_runs_no_module_is_hidden_from_it() -> None:
    code = (
        "import threading; gate = threading.Event(); threading.Thread(target=gate.wait).start();"
        " import afkcli.core.contract.structs; gate.set()"
    )
    assert {"msgspec", "typing_extensions"} <= imported_by(code)
