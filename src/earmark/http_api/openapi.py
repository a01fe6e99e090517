"""The API's document (OpenAPI 3.1), made of the route table, the types on the wire and the catalogue of problems."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec.inspect import DataclassType, DateTimeType, StructType, UnionType
from msgspec.inspect import multi_type_info as inspect_types

from earmark.config import Settings
from earmark.errors import EarmarkError, Forbidden, InvalidRequest, KeyConflict, NotFound, NotSignedIn, QuotaExceeded
from earmark.http_api.problems import BodyTooLarge, BodyTooSlow, DatabaseUnavailable, MalformedBody, title_of
from earmark.http_api.requests import KEY_LENGTH_MAX, KEY_PATTERN
from earmark.http_api.routing import SUBJECT, Access, Endpoint, Media, Operation, Parameter, Resource

Json = dict[str, Any]
Composed = StructType | DataclassType
_REFERENCE = "#/components/schemas/{name}"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_KEYED = {"$ref": "#/components/parameters/IdempotencyKey"}
_VERSION = Parameter(
    "If-None-Match", {"type": "string"}, "The `ETag` of an answer that the client has: where it is current still, 304."
)
_CONVERTOR = re.compile(r"\{(\w+):\w+\}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")

DESCRIPTION = """\
Quota is reserved before the work starts, committed when the work is done, and rolled back when it is not: exactly once,
for exactly what was taken.

**Errors** are problem documents (RFC 9457). Their `type` is stable, and the address of a page about it.

**Repeats.** A POST that changes quota takes an `Idempotency-Key`: the same request under the same key is done once and
answered alike. The key belongs to the subject whose quota it is about; another request under it is refused with 422.

**Pages** of a list go from newest to oldest: the `nextCursor` of one is the `cursor` of the next; the last has none.

**Quota** stands in the answers as `usage`, and in the headers `RateLimit-Policy` and `RateLimit`.
"""

_HEADERS: Json = {
    "RequestId": {
        "description": "The request's id: the caller's own `X-Request-Id` where it sent one; it stands in the logs.",
        "schema": {"type": "string"},
        "required": True,
    },
    "Location": {"description": "Where what was made is.", "schema": {"type": "string"}, "required": True},
    "ETag": {"description": "The answer's version, for If-None-Match.", "schema": {"type": "string"}, "required": True},
    "Replayed": {
        "description": "The answer was stored under the key: nothing was done this time.",
        "schema": {"const": "true"},
    },
    "RateLimitPolicy": {"description": "The quota of each limited resource.", "schema": {"type": "string"}},
    "RateLimit": {"description": "What is left of it.", "schema": {"type": "string"}},
    "RetryAfter": {
        "description": "In how many seconds to try again.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "required": True,
    },
    "NotAgain": {
        "description": "QStash's word for a call that is not to be repeated.",
        "schema": {"const": "true"},
        "required": True,
    },
    "Authenticate": {"description": "How to sign in.", "schema": {"type": "string"}, "required": True},
}
_PROBLEM_SCHEMA: Json = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Some problems have further members: see the page at `type`.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "Which problem it is, and where it is explained."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What went wrong this time."},
        "instance": {"type": "string", "description": "The request's id."},
    },
    "required": ["type", "title", "status", "detail", "instance"],
}


def document(routes: Iterable[object], settings: Settings) -> Json:
    """The document of every described method in the route table; the settings say which files are taken."""
    described = [
        (route, method, endpoint, one)
        for route in routes
        if isinstance(route, Resource)
        for method, (endpoint, one) in route.described().items()
    ]
    schemas, components = _schemas([one for *_, one in described])
    for name in ("FileBody", "OneFileBody"):
        if name in components:
            components[name]["properties"]["contentType"]["enum"] = list(settings.allowed_types)
            components[name]["properties"]["size"]["maximum"] = settings.max_file_bytes
    paths: dict[str, Json] = defaultdict(dict)
    for route, method, endpoint, one in described:
        paths[_CONVERTOR.sub(r"{\1}", route.path)][method.lower()] = _operation(route, endpoint, one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Earmark",
            "summary": "Keeps users' quotas exact when uploads and processing fail.",
            "description": DESCRIPTION,
            "version": version("earmark"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**components, "Problem": _PROBLEM_SCHEMA},
            "headers": _HEADERS,
            "parameters": {"IdempotencyKey": _key_parameter()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "`sub` is the subject; `role` is `authenticated` or `service_role`.",
                }
            },
        },
    }


def problems_of(one: Operation, path: str) -> list[type[EarmarkError]]:
    """What may go wrong with a call, in the order of statuses; what may go wrong on our side is not among it."""
    found = list(one.problems)
    found += [NotSignedIn] if one.access in {Access.USER, Access.SERVICE} else []
    found += [DatabaseUnavailable] if path.startswith("/api/") else []
    found += [Forbidden] if one.access is Access.SERVICE or SUBJECT in one.query else []
    found += [InvalidRequest] if one.query or one.path or one.keyed else []
    found += [KeyConflict] if one.keyed else []
    found += [NotFound] if "{id}" in path else []
    if one.body is not None and not isinstance(one.body, Media):
        found += [MalformedBody, BodyTooLarge, BodyTooSlow, InvalidRequest]
        found += [Forbidden] if one.access is Access.USER else []
    return sorted(dict.fromkeys(found), key=lambda kind: (kind.status, kind.slug))


def _operation(route: Resource, endpoint: Endpoint, one: Operation, schemas: Mapping[int, Json]) -> Json:
    noun, _, verb = endpoint.__qualname__.lstrip("_").rpartition(".")
    summary, *more = _SENTENCE.split(inspect.getdoc(endpoint) or "", maxsplit=1)
    told: Json = {
        "operationId": f"{noun[:1].lower()}{noun[1:]}{verb.title().replace('_', '')}",
        "tags": [noun],
        "summary": " ".join(summary.split()),
        "responses": _responses(one, route.path, schemas),
        "security": [{"token": []}] if one.access in {Access.USER, Access.SERVICE} else [],
        "parameters": _parameters(route.path, one),
    }
    if one.access is Access.SERVICE:
        more.append("For a service.")
    if more:
        told["description"] = "\n\n".join(more)
    if one.body is not None:
        told["requestBody"] = _body(one, schemas)
    return {name: value for name, value in told.items() if value != []} | {"security": told["security"]}


def _parameters(path: str, one: Operation) -> list[Json]:
    found: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": dict(one.path.get(name, {"type": "string", "format": "uuid"})),
        }
        for name in re.findall(r"\{(\w+)", path)
    ]
    heeded = [*one.headers, *([_VERSION] if one.tagged else [])]
    for place, parameters in (("query", one.query), ("header", heeded)):
        found += [
            {
                "name": parameter.name,
                "in": place,
                "required": parameter.required,
                "description": parameter.text,
                "schema": dict(parameter.schema),
            }
            for parameter in parameters
        ]
    return [*found, _KEYED] if one.keyed else found


def _key_parameter() -> Json:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "The request's own key, a structured string or bare: what is sent again under it is done once.",
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH_MAX, "pattern": KEY_PATTERN},
        "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
    }


def _body(one: Operation, schemas: Mapping[int, Json]) -> Json:
    if isinstance(one.body, Media):
        content: Json = {one.body.type: {"schema": {}}}
        return {"required": True, "content": content}
    shown: Json = {"schema": _schema(one.body, schemas)}
    if one.example is not None:
        shown["example"] = example_of(one.example)
    return {"required": not _may_be_empty(_kinds(one.body)), "content": {"application/json": shown}}


def _may_be_empty(kinds: Sequence[Any]) -> bool:
    """Whether a body may be left out: one of these kinds has no required field."""
    structs = [msgspec.inspect.type_info(kind) for kind in kinds]
    plain = [one for one in structs if isinstance(one, msgspec.inspect.StructType)]  # others have rules of their own
    return any(not any(field.required for field in one.fields) for one in plain)


def example_of(body: msgspec.Struct) -> Json:
    """A body as a caller would write it: without what it leaves to its default."""
    whole, names = msgspec.to_builtins(body), msgspec.structs.fields(body)
    given = [field.encode_name for field in names if getattr(body, field.name) != field.default]
    return {name: whole[name] for name in given if whole[name] != {}}


def _responses(one: Operation, path: str, schemas: Mapping[int, Json]) -> Json:
    found: Json = {}
    for status, kind in one.answers.items():
        content: Json = (
            {kind.type: {}} if isinstance(kind, Media) else {"application/json": {"schema": _schema(kind, schemas)}}
        )
        found[str(status)] = {
            "description": _phrase(status),
            "headers": _answer_headers(one) | _refer(one.told.get(status, {})),
            "content": content,
        }
    if one.tagged:
        found["304"] = {"description": "The client has this version.", "headers": _answer_headers(one)}
    by_status: dict[int, list[type[EarmarkError]]] = defaultdict(list)
    for problem in problems_of(one, path):
        by_status[problem.status].append(problem)
    for status, problems in by_status.items():
        told = _problem_response(status, problems, keyed=one.keyed)
        found.setdefault(str(status), told)["content"] |= told["content"]
    found["default"] = {
        "description": "Something went wrong on our side.",
        "headers": _refer({"X-Request-Id": "RequestId"}),
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }
    return found


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Not to be repeated"


def _problem_response(status: int, problems: Sequence[type[EarmarkError]], *, keyed: bool) -> Json:
    headers = {"X-Request-Id": "RequestId"}
    headers |= {"Idempotency-Replayed": "Replayed"} if keyed and status < HTTPStatus.INTERNAL_SERVER_ERROR else {}
    headers |= {"RateLimit-Policy": "RateLimitPolicy", "RateLimit": "RateLimit"} if QuotaExceeded in problems else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Authenticate"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        headers["Retry-After"] = "RetryAfter"
    kinds = {
        "type": {"enum": [f"/problems/{problem.slug}" for problem in problems]},
        "status": {"type": "integer", "enum": [status]},  # a constant, but generators of clients cannot merge those
    }
    return {
        "description": " Or: ".join(f"{title_of(problem.slug)}: {first_line(problem)}" for problem in problems),
        "headers": _refer(headers),
        "content": {"application/problem+json": {"schema": {"allOf": [_PROBLEM, {"properties": kinds}]}}},
    }


def first_line(documented: type) -> str:
    """The first paragraph of what is said of a class, on one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def _answer_headers(one: Operation) -> Json:
    headers = {"X-Request-Id": "RequestId"}
    headers |= {"Location": "Location"} if one.located else {}
    headers |= {"Idempotency-Replayed": "Replayed"} if one.keyed else {}
    headers |= {"ETag": "ETag"} if one.tagged else {}
    headers |= {"RateLimit-Policy": "RateLimitPolicy", "RateLimit": "RateLimit"} if one.quota else {}
    return _refer(headers)


def _refer(headers: Mapping[str, str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{component}"} for name, component in headers.items()}


def _kinds(alternatives: object) -> tuple[Any, ...]:
    return alternatives if isinstance(alternatives, tuple) else (alternatives,)


def _schema(alternatives: object, schemas: Mapping[int, Json]) -> Json:
    told = [schemas[id(kind)] for kind in _kinds(alternatives)]
    return told[0] if len(told) == 1 else {"anyOf": told}


def _schemas(operations: Sequence[Operation]) -> tuple[dict[int, Json], Json]:
    """A schema for each type that goes over the wire, by its `id`, and the components that they refer to."""
    kinds: dict[int, Any] = {}
    for one in operations:
        for kind in (kind for alternatives in (one.body, *one.answers.values()) for kind in _kinds(alternatives)):
            if kind is not None and not isinstance(kind, Media):
                kinds[id(kind)] = kind
    schemas, components = msgspec.json.schema_components(kinds.values(), ref_template=_REFERENCE)
    for composed in _composed(inspect_types(kinds.values())):
        _tell_moments(composed, components[composed.cls.__name__]["properties"])
    return dict(zip(kinds, schemas, strict=True)), components


def _composed(found: Iterable[Any]) -> Iterator[Composed]:
    """Every type with fields among these and in them, once."""
    waiting, seen = list(found), set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, StructType | DataclassType):
            if one.cls not in seen:
                yield one
                waiting += [field.type for field in one.fields]
            seen.add(one.cls)
        inside = (getattr(one, name, None) for name in ("type", "item_type", "key_type", "value_type"))
        waiting += [*getattr(one, "types", ()), *filter(None, inside)]


def _tell_moments(composed: Composed, properties: Json) -> None:
    """All our moments have a time zone, which is what the format asks for, and msgspec cannot know."""
    for field in composed.fields:
        kinds = field.type.types if isinstance(field.type, UnionType) else (field.type,)
        if any(isinstance(kind, DateTimeType) for kind in kinds):
            told = properties[field.encode_name]
            for schema in told.get("anyOf", [told]):
                if schema.get("type") == "string":
                    schema["format"] = "date-time"
