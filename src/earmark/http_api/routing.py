"""One route per address, whatever its methods, and what each method takes and answers, as the API's document tells it.

The description stands on the method that answers the call; `openapi.py` reads it from the route table.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from earmark.errors import EarmarkError

Endpoint = Callable[[Request], Awaitable[Response]]
E = TypeVar("E", bound=Callable[..., Any])
_DESCRIPTION = "earmark_operation"


class Access(StrEnum):
    """Who may call."""

    OPEN = "open"
    """Anybody."""
    USER = "user"
    """The bearer of a token: a user for himself, a service for everybody."""
    SERVICE = "service"
    """The bearer of a service's token."""
    SIGNATURE = "signature"
    """Whoever holds a signed link, or signs what he sends."""


@dataclass(frozen=True, slots=True)
class Media:
    """A body that is not JSON, of this type."""

    type: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, or a header: its JSON schema, and what it is in one sentence."""

    name: str
    schema: Mapping[str, Any]
    text: str
    required: bool = False


SUBJECT = Parameter(
    "subject",
    {"type": "string", "minLength": 1, "maxLength": 255},
    "Whom the call is about; a service may name anybody, a user only himself.",
)
LIMIT = Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "How many to a page.")
CURSOR = Parameter("cursor", {"type": "string"}, "The `nextCursor` of the page before.")


@dataclass(frozen=True, slots=True)
class Operation:
    """What a call takes and answers.

    Attributes:
        answers: Type of the body by status; None: no body.
        access: Who may call.
        body: Type of the request's body; None: it has none.
        example: A body that is accepted.
        problems: What may go wrong, besides what goes wrong with every call of its kind.
        query: The query parameters.
        headers: The headers that are heeded, besides those that follow from the rest.
        keyed: Whether an Idempotency-Key is taken.
        tagged: Whether the answer has an ETag, and If-None-Match is heeded.
        quota: Whether the answer carries the RateLimit headers.
        located: Whether the answer has a Location.
        told: Further headers of an answer, by its status: name, and the component that describes it.
        path: Schemas of path parameters that are no ids.
    """

    answers: Mapping[int, object]
    access: Access = Access.USER
    body: object = None
    example: Struct | None = None
    problems: tuple[type[EarmarkError], ...] = ()
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    keyed: bool = False
    tagged: bool = False
    quota: bool = False
    located: bool = False
    told: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    path: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def operation(**description: Any) -> Callable[[E], E]:
    """Describes the method that answers a call; its docstring is the rest. Takes what `Operation` takes."""
    described = Operation(**description)

    def mark(endpoint: E) -> E:
        setattr(endpoint, _DESCRIPTION, described)
        return endpoint

    return mark


class Resource(Route):
    """The route of an address, with the method that answers each of its HTTP methods."""

    def __init__(self, path: str, methods: Mapping[str, Endpoint]) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            endpoint = methods["GET" if scope["method"] == "HEAD" else scope["method"]]
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        super().__init__(path, next(iter(methods.values())), methods=list(methods))
        self.app = app  # what Route makes of an endpoint also looks for handlers of exceptions, which are the frame's
        self.endpoints = dict(methods)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """A known address answers for all methods: those it lacks are refused here, and no later route is asked."""
        match, child = super().matches(scope)
        return Match.FULL if match is Match.PARTIAL else match, child

    def described(self) -> dict[str, tuple[Endpoint, Operation]]:
        """The methods that are described, each with its description."""
        found = {method: getattr(endpoint, _DESCRIPTION, None) for method, endpoint in self.endpoints.items()}
        return {method: (self.endpoints[method], one) for method, one in found.items() if one is not None}


def resource(path: str, **methods: Endpoint) -> Resource:
    """The route of an address; HEAD is answered by GET."""
    return Resource(path, methods)


def address(request: Request, path: str) -> str:
    """Where a path of this application is, also when it is mounted."""
    return f"{request.scope.get('root_path', '')}{path}"
