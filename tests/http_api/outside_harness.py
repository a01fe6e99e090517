"""The application with a processor or a queue outside that tests play themselves."""

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
from standardwebhooks.webhooks import Webhook

from earmark.http_api.app import create_app
from earmark.uploads.job import ImageJobs
from earmark.uploads.outside import Jobs, ProcessorJobs, QStashJobs
from earmark.uploads.process_pool import ImagePool
from http_api.harness import ADDRESS, Api, opened

KEY = "sig_current_key_of_some_length_0123456789"
SECRET = f"whsec_{base64.b64encode(b'k' * 24).decode()}"
PROCESSOR = "http://processor.test/jobs"
PROCESS, RESULT = "/api/jobs/process-image", "/api/jobs/result"
WEBHOOK = {
    "processing": "webhook",
    "qstash_url": "http://qstash.test",
    "qstash_token": "publish-token",
    "qstash_current_signing_key": KEY,
    "webhook_secrets": SECRET,
    "retry_base_seconds": 0.01,
    "retry_cap_seconds": 0.02,
}
EXTERNAL = {
    "processing": "external",
    "processor_url": PROCESSOR,
    "webhook_secrets": SECRET,
    "image_resources": "credits:5",
    "retry_base_seconds": 0.01,
    "retry_cap_seconds": 0.02,
    "processing_attempts": 2,
}


@dataclass
class Outside:
    """The application, and what lies beyond it: `answers` are the statuses that the outside gives, then 200."""

    api: Api
    jobs: Jobs
    told: list[httpx.Request]
    answers: list[int]
    alice: httpx.AsyncClient
    nobody: httpx.AsyncClient

    def signed(self, body: bytes, message_id: str | None = None, secret: str = SECRET) -> dict[str, str]:
        message_id, now = message_id or str(uuid4()), datetime.now(UTC)
        signature = Webhook(secret).sign(message_id, now, body.decode())
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }

    async def result(
        self, image: str, attempt: int = 1, *, delivery: str | None = None, **said: object
    ) -> httpx.Response:
        body = json.dumps({"imageId": image, "attempt": attempt, "outcome": "completed", **said}).encode()
        return await self.nobody.post(RESULT, content=body, headers=self.signed(body, delivery))

    async def process(self, image: str, attempt: int = 1) -> httpx.Response:
        body = json.dumps({"imageId": image, "attempt": attempt}).encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()
        now = int(time.time())
        claims = {"iss": "Upstash", "sub": ADDRESS + PROCESS, "exp": now + 60, "nbf": now, "body": digest}
        headers = {"Upstash-Signature": jwt.encode(claims, KEY, algorithm="HS256")}
        return await self.nobody.post(PROCESS, content=body, headers=headers)

    async def state(self, image: str) -> tuple[str, str | None]:
        shown = (await self.alice.get(f"/api/images/{image}")).json()
        return shown["state"], shown["cause"]

    async def waiting(self) -> int:
        """Jobs on our own queue."""
        async with self.api.services.uploads.pool.connection() as connection:
            rows = await connection.execute("SELECT count(*) FROM procrastinate.procrastinate_jobs")
            return (await rows.fetchone())[0]  # type: ignore[index]


@asynccontextmanager
async def outside(
    database: str, folder: Path, images: ImagePool, settings: dict[str, Any], processor: Callable[..., Any]
) -> AsyncIterator[Outside]:
    told: list[httpx.Request] = []
    answers: list[int] = []

    async def take(request: httpx.Request) -> httpx.Response:
        told.append(request)
        return httpx.Response(answers.pop(0) if answers else 200)

    async with (
        opened(database, folder, **settings) as services,
        httpx.AsyncClient(transport=httpx.MockTransport(take)) as client,
        services.uploads.queue.open_async(),
    ):
        own = ImageJobs(services.uploads, images, processor, requeues=False)
        jobs: Jobs = QStashJobs(services.uploads, client)
        if settings["processing"] == "external":
            jobs = ProcessorJobs(own, services.uploads, client)
        composed = replace(services, jobs=own)
        api = Api(composed, create_app(composed))
        yield Outside(api, jobs, told, answers, api.client("alice"), api.client(None))
        for one in api.clients:
            await one.aclose()
