"""Calls of the outside about jobs: process this image now; this is what became of it. Signed, not signed in."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark.errors import NotFound
from earmark.http_api.bodies import JobBody, ResultBody
from earmark.http_api.requests import decoded, read_body, uuid_of
from earmark.http_api.routing import Access, Parameter, operation, resource
from earmark.http_api.services import Services
from earmark.http_api.wire import JobAnswer, ResultAnswer, answer
from earmark.model import Cause
from earmark.uploads.job import backoff_seconds
from earmark.uploads.model import State, in_one_line
from earmark.uploads.outside import PROCESS_PATH, RESULT_PATH, address
from earmark.uploads.results import Result, StaleAttempt, TooEarly, take_result
from earmark.uploads.signatures import (
    QSTASH_HEADER,
    WEBHOOK_HEADER,
    MessageNotSigned,
    QStashSignatures,
    WebhookSignatures,
)

NOT_AGAIN = 489
"""QStash's status for a call that is not to be repeated."""
NOT_NOW = 503
_TEXT = {"type": "string"}
_WEBHOOK = (
    Parameter("webhook-id", _TEXT, "The message's id (Standard Webhooks)."),
    Parameter("webhook-timestamp", _TEXT, "When it was sent, in seconds since 1970."),
    Parameter(WEBHOOK_HEADER, _TEXT, "Of id, time and body, with one of the webhook secrets."),
)
_QSTASH = Parameter(QSTASH_HEADER, _TEXT, "QStash's own, in place of those of Standard Webhooks.")


def routes(services: Services) -> list[Route]:
    """The calls that the way of processing needs; there are none where our own worker does it."""
    processing = services.settings.processing
    if processing == "webhook":
        return [resource(PROCESS_PATH, POST=Processing(services).process)]
    if processing == "external":
        return [resource(RESULT_PATH, POST=Results(services).result)]
    return []


class Processing:
    """Called by a queue outside."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        assert services.jobs is not None  # noqa: S101 - opened with this way of processing
        self._jobs = services.jobs
        self._uploads = services.uploads
        keys = (settings.qstash_current_signing_key, settings.qstash_next_signing_key)
        self._qstash = QStashSignatures(
            [key.get_secret_value() for key in keys if key is not None], address(settings, PROCESS_PATH)
        )
        self._webhooks = WebhookSignatures([secret.get_secret_value() for secret in settings.webhook_secrets])

    @operation(
        answers={200: JobAnswer, NOT_AGAIN: JobAnswer, NOT_NOW: JobAnswer},
        told={NOT_AGAIN: {"Upstash-NonRetryable-Error": "NotAgain"}, NOT_NOW: {"Retry-After": "RetryAfter"}},
        access=Access.SIGNATURE,
        body=JobBody,
        example=JobBody(image_id="01a2129e-b1c9-822b-9573-7b239050fd7b", attempt=1),
        headers=(*_WEBHOOK, _QSTASH),
        problems=(MessageNotSigned, NotFound),
    )
    async def process(self, request: Request) -> Response:
        """Processes an image now: 2xx when done or done already, 503 to be called again, 489 when it failed for good.

        What has ended is answered by what it ended as, whoever calls and however often.
        """
        body = await read_body(request)
        if QSTASH_HEADER in request.headers:
            self._qstash.verify(request.headers, body)
        else:
            self._webhooks.verify(request.headers, body)
        told = decoded(body, JobBody)
        outcome = await self._jobs.run(uuid_of(told.image_id, "image"))
        return await self._answer(told, outcome)

    async def _answer(self, told: JobBody, outcome: str) -> Response:
        status, headers = 200, {}
        if outcome == "over":
            image = await self._uploads.image(uuid_of(told.image_id, "image"))
            if image.state is State.FAILED and image.cause is Cause.PROCESSING_FAILED:
                outcome = "failed"
        if outcome in {"failed", "not_found"}:
            status, headers = NOT_AGAIN, {"Upstash-NonRetryable-Error": "true"}
        elif outcome in {"retrying", "busy", "too_early", "stale"}:
            delay = backoff_seconds(self._uploads.settings, told.attempt)
            status, headers = NOT_NOW, {"Retry-After": str(max(1, round(delay)))}
        response = answer(JobAnswer(told.image_id, outcome), status)
        response.headers.update(headers)
        return response


class Results:
    """Called by a processor outside."""

    def __init__(self, services: Services) -> None:
        self._uploads = services.uploads
        secrets = services.settings.webhook_secrets
        self._webhooks = WebhookSignatures([secret.get_secret_value() for secret in secrets])

    @operation(
        answers={200: ResultAnswer, 409: ResultAnswer},
        access=Access.SIGNATURE,
        body=ResultBody,
        example=ResultBody(
            image_id="01a2129e-b1c9-822b-9573-7b239050fd7b", attempt=1, outcome="completed", actual={"credits": 2}
        ),
        headers=_WEBHOOK,
        problems=(MessageNotSigned, NotFound, StaleAttempt, TooEarly),
    )
    async def result(self, request: Request) -> Response:
        """What a processor outside made of a job; under a message id seen before, the answer it had."""
        body = await read_body(request)
        delivery = self._webhooks.verify(request.headers, body)
        told = decoded(body, ResultBody)
        result = Result(
            image_id=uuid_of(told.image_id, "image"),
            attempt=told.attempt,
            is_completed=told.outcome == "completed",
            is_permanent=told.permanent,
            actual=told.actual,
            error=in_one_line(told.error or "") or None,
        )
        taken = await take_result(self._uploads, delivery, result)
        told_back = ResultAnswer(taken["imageId"], taken["attempt"], taken["outcome"])
        return answer(told_back, 409 if told_back.outcome == "too_late" else 200)
