"""The page: the files of `earmark/web`, read once; a browser asks each time whether its copy is current."""

import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark.http_api.conditional import is_current
from earmark.http_api.routing import resource
from earmark.http_api.services import Services
from earmark.uploads.storage import Storage

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "ts": "text/plain; charset=utf-8",
}


def routes(services: Services) -> list[Route]:
    """An address per file, and `/` for `index.html`."""
    policy = page_policy(services.storage)
    served = [_File(file.name, file.read_bytes(), policy) for file in (files("earmark") / "web").iterdir()]
    named = {f"/{file.name}": file for file in served if file.content_type}
    named["/"] = named["/index.html"]
    return [resource(path, GET=file.show) for path, file in named.items()]


def page_policy(storage: Storage) -> str:
    """The page's Content-Security-Policy: its own files, and the store to upload to and show images from."""
    store = "'self' https:"
    link = urlsplit(storage.sign_download("probe", content_type="image/png", filename=None, expires_at=_now()))
    if link.scheme == "http":
        store += f" http://{link.netloc}"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src {store} blob: data:; connect-src {store}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _File:
    def __init__(self, name: str, content: bytes, policy: str) -> None:
        self.name = name
        self.content_type = _TYPES.get(name.rpartition(".")[2])
        self._content = content
        self._headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy,
        }

    async def show(self, request: Request) -> Response:
        if is_current(request, self._headers["ETag"]):
            return Response(None, 304, self._headers)
        return Response(self._content, 200, self._headers, self.content_type)


def _now() -> datetime:
    return datetime.now(UTC)
