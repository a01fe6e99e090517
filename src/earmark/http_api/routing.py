"""One route per address, whatever its methods, so that a 405 names all of them."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Endpoint = Callable[[Request], Awaitable[Response]]


def resource(path: str, **methods: Endpoint) -> Route:
    """The route of an address; HEAD is answered by GET."""

    async def dispatch(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, dispatch, methods=list(methods))


def address(request: Request, path: str) -> str:
    """Where a path of this application is, also when it is mounted."""
    return f"{request.scope.get('root_path', '')}{path}"
