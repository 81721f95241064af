"""What pydantic needs to validate structs, in the models and type adapters of users: it makes no struct by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import CoreSchema


def struct_schema(kind: type[Any], source: type[Any], handler: Callable[[Any], CoreSchema]) -> CoreSchema:
    """Return the schema that pydantic has for the dataclass, which also takes an object with the fields of `kind`."""
    from pydantic_core import core_schema

    return core_schema.no_info_before_validator_function(partial(_made, kind), handler(source))


def _made(kind: Any, value: object) -> object:
    """Return the struct that a dict is validated to; anything else is left to the schema of the dataclass."""
    if not isinstance(value, dict):
        return value
    fields = _adapter(kind).validate_python(value)
    return kind(**{name: getattr(fields, name) for name in kind.__struct_fields__})


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what validates the fields of `kind`, as those of a dataclass."""
    from pydantic import TypeAdapter

    hints = get_type_hints(kind, include_extras=True)
    fields: Any = dataclasses.fields(kind)
    return TypeAdapter(
        dataclasses.make_dataclass(
            kind.__name__,
            [
                (
                    field.name,
                    hints[field.name],
                    dataclasses.field(default=field.default, default_factory=field.default_factory, kw_only=True),
                )
                for field in fields
            ],
        )
    )
