"""The application, made from open services. No global state: make as many as you like, and mount them anywhere."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from earmark.http_api.frame import REQUEST_ID, Frame
from earmark.http_api.routes import (
    events,
    images,
    jobs,
    operations,
    operator,
    page,
    quota,
    reference,
    reservations,
    storage,
)
from earmark.http_api.services import Services
from earmark.http_api.sign_in import KeysAtHand

__all__ = ["Services", "create_app"]


def create_app(services: Services) -> Starlette:
    """The whole service: API, page, and, with the local store, its links.

    Serve it with the server's own access log off: the addresses of the local store's links are signed.
    """
    routes = [
        *reservations.routes(services),  # first what is called most: routes are looked through in their order
        *images.routes(services),
        *quota.routes(services),
        *jobs.routes(services),
        *events.routes(services),
        *operator.routes(services),
        *operations.routes(services),
        *storage.routes(services),
        *page.routes(services),
    ]
    app = _Application(
        routes=[*routes, *reference.routes(routes, services.settings)],
        middleware=[
            *([_cross_origin(services.settings.cors_origins)] if services.settings.cors_origins else []),
            Middleware(Frame, hsts_seconds=services.settings.hsts_seconds),
            *([Middleware(KeysAtHand, services.sign_in)] if services.sign_in.fetches else []),
        ],
    )
    app.router.redirect_slashes = False
    return app


def _cross_origin(origins: tuple[str, ...]) -> Middleware:
    """Outside the frame, so that problems can be read from another origin, too. Credentials are tokens, not cookies."""
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-None-Match",
            "Last-Event-ID",
            REQUEST_ID,
        ],
        expose_headers=[
            *("ETag", "Idempotency-Replayed", "Location", "RateLimit", "RateLimit-Policy", "Retry-After"),
            REQUEST_ID,
        ],
        max_age=3600,
    )


class _Application(Starlette):
    """Starlette without its own handling of errors, which the frame does for all: it costs as much as the routing."""

    def build_middleware_stack(self) -> ASGIApp:
        """The router in the middleware that was named, and no other."""
        app: ASGIApp = self.router.app
        for kind, arguments, options in reversed(self.user_middleware):
            app = kind(app, *arguments, **options)
        return app


def create_operations_app(services: Services) -> Starlette:
    """Only what an operator asks: alive, ready, metrics; for a process that serves nothing else."""
    return _Application(routes=operations.routes(services), middleware=[Middleware(Frame)])
