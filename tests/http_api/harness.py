"""The application on a database and a folder of the test's own, and what tests do with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette

from earmark.config import Settings
from earmark.http_api.answers import Answers
from earmark.http_api.caller import Role
from earmark.http_api.services import Services
from earmark.http_api.sign_in import SignIn
from earmark.ledger import AsyncLedger
from earmark.uploads import _calls
from earmark.uploads.flow import Uploads
from earmark.uploads.model import StoredOutput
from earmark.uploads.queue_app import queue_app
from earmark.uploads.storage import LocalStorage
from fixtures.pictures import picture

SECRET = b"a secret that only this test knows, 32+"
ADDRESS = "http://service.test"


JPEG = picture()


def described(data: bytes = JPEG, filename: str = "photo.jpg", content_type: str = "image/jpeg") -> dict[str, Any]:
    return {"filename": filename, "contentType": content_type, "size": len(data)}


@asynccontextmanager
async def opened(
    database: str, folder: Path, public_url: str = ADDRESS, *, connections: int = 8, **more: object
) -> AsyncIterator[Services]:
    """The service's parts on this database and folder, with at most so many connections and `more` settings."""
    settings = Settings(home=folder, public_url=public_url, **more)
    storage = LocalStorage(folder / "objects", secret=SECRET, public_url=public_url)
    pool = AsyncConnectionPool(
        database, min_size=1, max_size=connections, open=False, kwargs={"autocommit": True}, timeout=5
    )
    async with pool:
        ledger = AsyncLedger(pool)
        uploads = Uploads(ledger=ledger, pool=pool, storage=storage, queue=queue_app(database), settings=settings)
        yield Services(
            uploads=uploads,
            ledger=ledger,
            storage=storage,
            sign_in=SignIn(SECRET),
            settings=settings,
            answers=Answers(pool),
        )


@dataclass
class Api:
    """The application and what tests do with it."""

    services: Services
    app: Starlette
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, subject: str | None = "alice", role: Role = Role.AUTHENTICATED) -> httpx.AsyncClient:
        headers = {}
        if subject is not None:
            headers["Authorization"] = f"Bearer {SignIn(SECRET).issue(subject, role)}"
        client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=ADDRESS, headers=headers)
        self.clients.append(client)
        return client

    @property
    def objects(self) -> list[Path]:
        """Every file in the store, whatever it is."""
        root = self.services.settings.home / "objects"
        return [path for path in root.rglob("*") if path.is_file()]

    async def reserved(self, client: httpx.AsyncClient, *files: dict[str, Any]) -> list[dict[str, Any]]:
        response = await client.post("/api/images/preupload", json={"files": files or (described(),)})
        assert response.status_code == 201, response.text
        return response.json()["images"]

    async def uploaded(self, client: httpx.AsyncClient, data: bytes = JPEG, **file: str) -> str:
        """The id of an image whose bytes have arrived; nobody has said so yet."""
        (upload,) = await self.reserved(client, described(data, **file))
        response = await client.put(upload["uploadUrl"], content=data, headers=upload["headers"])
        assert response.status_code == 201, response.text
        return upload["imageId"]

    async def queued(self, client: httpx.AsyncClient) -> str:
        image = await self.uploaded(client)
        response = await client.post("/api/images/complete", json={"imageId": image})
        assert response.status_code == 202, response.text
        return image

    async def started(self, image: str) -> _calls.Transition:
        """A worker begins on it."""
        async with self.services.uploads.pool.connection() as connection:
            return await _calls.start(connection, UUID(image), _calls.Deadline(60, 60))

    async def completed(self, client: httpx.AsyncClient) -> str:
        """The id of an image that went all the way."""
        image = await self.queued(client)
        await self.started(image)
        thumbnail = f"images/{image}/thumbnail"
        await self.services.storage.put(thumbnail, picture(16, 16, "WEBP"), content_type="image/webp")
        async with self.services.uploads.pool.connection() as connection:
            moved = await _calls.complete(
                connection,
                UUID(image),
                1,
                content_type="image/jpeg",
                metadata={"width": 64, "height": 48, "format": "JPEG", "thumbhash": "abc", "colors": ["#1e785a"]},
                outputs={"thumbnail": StoredOutput(thumbnail, "image/webp")},
                actual={},
            )
        assert moved.outcome == "completed"
        return image

    async def used(self, client: httpx.AsyncClient) -> dict[str, tuple[int, int]]:
        """Committed and held, per resource."""
        resources = (await client.get("/api/usage")).json()["resources"]
        return {name: (one["committed"], one["held"]) for name, one in resources.items()}

    async def history(self, client: httpx.AsyncClient) -> list[dict[str, Any]]:
        return (await client.get("/api/quota/history?limit=200")).json()["entries"]


@dataclass
class Server:
    """The application behind a real server, in a thread with a loop of its own."""

    host: str
    port: int
    home: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def client(self, subject: str = "alice") -> httpx.Client:
        token = SignIn(SECRET).issue(subject)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=20)

    @property
    def objects(self) -> list[Path]:
        return [path for path in (self.home / "objects").rglob("*") if path.is_file()]
