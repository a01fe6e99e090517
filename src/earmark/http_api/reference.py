"""The API's document as pages that a person reads, without scripts; problems are told as the errors tell them."""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from earmark.errors import EarmarkError
from earmark.http_api.problems import catalogue, title_of

Json = Mapping[str, Any]
_PREFACE = """\
# Problems

Every error over HTTP is a problem document (RFC 9457). `type` is one of these and never changes its meaning; the
service shows the same there. Written by `python tools/problems_reference.py`.
"""
_MARKED = re.compile(r"\*\*(.+?)\*\*|`(.+?)`")


def api_page(document: Json) -> str:
    """Every call: what it takes, what it answers and what may go wrong; then the types."""
    calls = [(method, path, one) for path, methods in document["paths"].items() for method, one in methods.items()]
    nouns = sorted({one["tags"][0] for *_, one in calls})
    index = "".join(
        f"<li>{escape(noun)}<ul>"
        + "".join(
            f'<li><a href="#{one["operationId"]}">{method.upper()} {escape(path)}</a></li>'
            for method, path, one in calls
            if one["tags"][0] == noun
        )
        + "</ul></li>"
        for noun in nouns
    )
    described = "".join(
        _call(method, path, one) for noun in nouns for method, path, one in calls if noun in one["tags"]
    )
    types = "".join(_type(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    info = document["info"]
    return _page(
        f"{info['title']} API {info['version']}",
        f'<p>{escape(info["summary"])} As a document: <a href="openapi.json">openapi.json</a>. '
        f'What may go wrong: <a href="problems">problems</a>.</p>{_prose(info["description"])}'
        f"<nav><ul>{index}</ul></nav>{described}<h2>Types</h2>{types}",
        root="",
    )


def problems_page() -> str:
    """All problems."""
    rows = (
        (f'<a href="problems/{slug}">{escape(title_of(slug))}</a>', str(error.status), _inline(_told(error)))
        for slug, error in catalogue().items()
    )
    return _page("Problems", _table(("problem", "status", "what it means"), rows), root="")


def problem_page(slug: str, error: type[EarmarkError]) -> str:
    """One problem: what it means and what to do."""
    rows = [("type", f"<code>/problems/{slug}</code>"), ("status", str(error.status))]
    rows += [("SQLSTATE", f"<code>{error.sqlstate}</code>")] if error.sqlstate else []
    rows += [("members", ", ".join(f"<code>{name}</code>" for name in error.members))] if error.members else []
    return _page(
        title_of(slug),
        f"<p>{_inline(_told(error))}</p><h2>What to do</h2><p>{_inline(error.remedy)}</p>{_table((), rows)}"
        '<p><a href="../problems">All problems</a></p>',
        root="../",
    )


def problems_text() -> str:
    """All problems in Markdown, for the documentation."""
    parts = [_PREFACE]
    for slug, error in catalogue().items():
        facts = [f"status {error.status}", *([f"SQLSTATE `{error.sqlstate}`"] if error.sqlstate else [])]
        facts += [f"members {', '.join(f'`{name}`' for name in error.members)}"] if error.members else []
        parts.append(f"## `/problems/{slug}`\n\n{_told(error)}\n\n{error.remedy}\n\n*{'; '.join(facts)}*\n")
    return "\n".join(parts)


def _told(error: type[EarmarkError]) -> str:
    return " ".join((inspect.getdoc(error) or "").split("\n\n")[0].split())


def _call(method: str, path: str, one: Json) -> str:
    body = f'<section id="{one["operationId"]}"><h3><b>{method.upper()}</b> {escape(path)}</h3>'
    body += f"<p>{_inline(one['summary'])}</p>{_prose(one.get('description', ''))}"
    if not one["security"]:
        body += "<p>No token is asked for.</p>"
    named = [parameter for parameter in one.get("parameters", ()) if "name" in parameter]
    rows = [
        (f"<code>{escape(parameter['name'])}</code>", parameter["in"], _kind(parameter["schema"]))
        for parameter in named
    ]
    keyed = len(named) < len(one.get("parameters", ()))
    rows += [("<code>Idempotency-Key</code>", "header", "string")] if keyed else []
    body += _table(("parameter", "in", "type"), rows) if rows else ""
    for media, content in one.get("requestBody", {}).get("content", {}).items():
        body += f"<p>Body, <code>{escape(media)}</code>: {_kind(content['schema'])}</p>"
        if "example" in content:
            body += f"<pre>{escape(json.dumps(content['example'], indent=2, ensure_ascii=False))}</pre>"
    answers = ((status, _answer(answer)) for status, answer in one["responses"].items() if status != "default")
    return f"{body}{_table(('status', 'answer'), answers)}</section>"


def _answer(answer: Json) -> str:
    for media, content in answer.get("content", {}).items():
        if media != "application/problem+json":
            return _kind(content["schema"]) if content else f"<code>{escape(media)}</code>"
        slugs = [kind.rpartition("/")[2] for kind in content["schema"]["allOf"][1]["properties"]["type"]["enum"]]
        return ", ".join(f'<a href="problems/{slug}">{escape(title_of(slug))}</a>' for slug in slugs)
    return _inline(answer["description"])


def _type(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (f"<code>{escape(field)}</code>", _kind(kind), "" if field in required else "may be left out")
        for field, kind in schema.get("properties", {}).items()
    )
    head = f'<section id="{name}"><h3>{name}</h3><p>{_inline(schema.get("description", ""))}</p>'
    if "enum" in schema:
        return head + "<p>" + ", ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"]) + "</p></section>"
    return f"{head}{_table(('field', 'type', ''), rows)}</section>"


def _kind(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"<code>{escape(str(one))}</code>" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"names with {_kind(schema['additionalProperties'])}"
    bounds = [f"{word} {schema[name]}" for name, word in _BOUNDS.items() if name in schema]
    kind = schema.get("format") or schema.get("type", "any value")
    return escape(", ".join([str(kind), *bounds]))


_BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "minLength": "at least",
    "maxLength": "at most",
    "default": "else",
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of cells that are HTML already."""
    top = f"<thead><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr></thead>" if head else ""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{top}<tbody>{lines}</tbody></table>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.strip().split("\n\n") if part)


def _inline(text: str) -> str:
    return _MARKED.sub(
        lambda found: f"<b>{found[1]}</b>" if found[1] else f"<code>{found[2]}</code>", escape(text, quote=False)
    )


def _page(title: str, body: str, *, root: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="{root}reference.css"></head>'
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
