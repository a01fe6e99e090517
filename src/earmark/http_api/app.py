"""The application, made from open services. No global state: make as many as you like, and mount them anywhere."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from earmark.http_api.frame import Frame
from earmark.http_api.routes import images, operations, page, quota, reference, reservations, storage
from earmark.http_api.services import Services
from earmark.http_api.sign_in import KeysAtHand

__all__ = ["Services", "create_app"]


def create_app(services: Services) -> Starlette:
    """The whole service: API, page, and, with the local store, its links.

    Serve it with the server's own access log off: the addresses of the local store's links are signed.
    """
    routes = [
        *images.routes(services),
        *quota.routes(services),
        *reservations.routes(services),
        *operations.routes(services),
        *storage.routes(services),
        *page.routes(services),
    ]
    app = Starlette(
        routes=[*routes, *reference.routes(routes, services.settings)],
        middleware=[
            Middleware(Frame),
            *([Middleware(KeysAtHand, services.sign_in)] if services.sign_in.fetches else []),
        ],
        exception_handlers={HTTPException: _leave_to_frame},
    )
    app.router.redirect_slashes = False
    return app


async def _leave_to_frame(_: Request, error: Exception) -> Response:
    raise error
