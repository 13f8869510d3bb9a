"""The schema as JSON Schema, for editors: etc/mta.schema.json is its text.

Source   JSON Schema: draft 2020-12.
"""

from __future__ import annotations

from typing import Any

from mta.config.kinds import PATH_PROGRAM, Kind, ListOf, MapOf, OneOf, Options
from mta.config.schema import SCHEMA
from mta.config.words import WORDS

__all__ = ["json_schema", "json_text"]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of mta.yaml; etc/mta.schema.json is its text."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mta.yaml",
        "description": "The configuration of Posthouse; see mta.yaml(5).",
        **_json_of(SCHEMA),
    }


def json_text() -> str:
    """Return the text of etc/mta.schema.json."""
    import json

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _json_of(kind: Kind) -> dict[str, Any]:
    if isinstance(kind, str):
        return dict(WORDS[kind].json)
    if isinstance(kind, ListOf):
        listed = {"type": "array", "items": _json_of(kind.item), "minItems": kind.least}
        return {"anyOf": [_json_of(kind.item), listed]} if kind.lone else listed
    if isinstance(kind, OneOf):
        kinds = (kind.scalar, kind.listed, kind.mapped)
        return {"anyOf": [_json_of(each) for each in kinds if each is not None]}
    if isinstance(kind, Options):
        scalar = {"type": ["string", "number", "boolean"]}
        either = {"anyOf": [scalar, {"type": "array", "items": scalar}]}
        return {"type": "object", "additionalProperties": either}
    return _json_of_map(kind)


def _json_of_map(kind: MapOf) -> dict[str, Any]:
    properties = {}
    for key in kind.keys:
        properties[key.name] = {"description": key.about, **_json_of(key.kind)}
        if key.default is not None and not key.defaults:
            given = key.default
            properties[key.name]["default"] = list(given) if isinstance(given, tuple) else given
    required = [k.name for k in kind.keys if k.required and not k.programs]
    made: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    if kind.by_program:
        made["allOf"] = [_json_of_program(kind, p) for p in _programs(kind)]
    return made


def _programs(kind: MapOf) -> list[str]:
    return [*dict.fromkeys(p for k in kind.keys for p in k.programs), "local", PATH_PROGRAM]


def _json_of_program(kind: MapOf, program: str) -> dict[str, Any]:
    """Under this program, these keys and no others."""
    is_path = program == PATH_PROGRAM
    which = {"type": "string", "pattern": "^/"} if is_path else {"const": program}
    required = [k.name for k in kind.keys if k.required and program in k.programs]
    names = {"enum": [k.name for k in kind.keys if k.belongs(program)]}
    return {
        "if": {"properties": {"program": which}, "required": ["program"]},
        "then": {"propertyNames": names, "required": required},
    }
