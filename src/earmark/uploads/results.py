"""What a processor outside reports, and what follows from it: in one transaction with the answer it gets.

A report that comes again, under the id it had, is answered as before. Any other is judged by the attempt it is about:
only the current one can finish or fail an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from earmark.errors import EarmarkError, InvalidRequest, NotFound
from earmark.faults import reached
from earmark.model import Amounts, Cause
from earmark.uploads import _calls
from earmark.uploads._calls import Transition
from earmark.uploads.flow import Uploads, log_transition
from earmark.uploads.job import backoff_seconds
from earmark.uploads.model import Image, State, in_one_line
from earmark.uploads.outside import external_deadline
from earmark.uploads.queue import enqueue

ACTOR = "processor"
DELIVERY_LENGTH_MAX = 500


class StaleAttempt(EarmarkError):  # noqa: N818 - named for what is wrong
    """A report on an attempt that another one has followed, or whose image is over; nothing was done."""

    status = 409
    slug = "stale-attempt"
    remedy = "Throw away what was made: another attempt has followed, or the image is over."
    members = ("attempt", "state")


class TooEarly(EarmarkError):  # noqa: N818 - named for what is wrong
    """A report on an attempt that has not begun; nothing was done. Send it again later."""

    status = 425
    slug = "too-early"
    remedy = "Send it again later."
    members = ("attempt", "state")


@dataclass(frozen=True, slots=True)
class Result:
    """A report.

    Attributes:
        attempt: As the job had it.
        is_completed: Whether the work is done; else it failed.
        is_permanent: Trying again cannot help.
        actual: Amount really used of each resource whose amount differs from the held one.
        error: One sentence for the user, where it failed for good.
    """

    image_id: UUID
    attempt: int
    is_completed: bool
    is_permanent: bool = False
    actual: Amounts = field(default_factory=dict)
    error: str | None = None


async def take_result(uploads: Uploads, delivery: str, result: Result) -> Mapping[str, Any]:
    """Finishes the image, gives its quota back, or has it tried again.

    Args:
        uploads: The upload flow.
        delivery: The sender's id of this report.
        result: The report.

    Returns:
        `imageId`, `attempt`, and `outcome`: `completed` (also where that attempt is said to have failed after it
        completed: nothing is undone), `failed` (given back), `retrying`, or `too_late` (done after the image had
        expired, and its quota or its file was gone: what was made of it is to be thrown away).

    Raises:
        NotFound: No such image.
        StaleAttempt, TooEarly: It is not about the current attempt.
        InvalidRequest: `actual` holds what is no amount, or the id is too long.
    """
    if len(delivery) > DELIVERY_LENGTH_MAX:
        raise InvalidRequest(f"webhook-id has at most {DELIVERY_LENGTH_MAX} characters.", {"field": "webhook-id"})
    async with uploads.pool.connection() as connection, connection.transaction():
        image, answered = await _calls.delivery(connection, result.image_id, delivery)
        if image is None:
            raise NotFound("There is no such image.", {"imageId": str(result.image_id)})
        if answered is not None:
            return dict(answered)
        await _check_attempt(uploads, connection, image, result)
        if result.is_completed:
            outcome, moved = await _completed(connection, image, result)
        else:
            outcome, moved = await _failed(uploads, connection, image, result)
        answer = {"imageId": str(image.image), "attempt": result.attempt, "outcome": outcome}
        await _calls.delivery_answered(connection, image.image, delivery, answer)
    reached("result_taken")
    log_transition(moved, Cause.PROCESSING_FAILED, ACTOR, result.error)
    return answer


async def _check_attempt(uploads: Uploads, connection: AsyncConnection[Any], image: Image, result: Result) -> None:
    """A report may overtake the note that its job was taken: then it is that note as well."""
    if image.state is State.UPLOADED and result.attempt == image.attempt + 1:
        await _calls.hand_over(connection, image.image, result.attempt, external_deadline(uploads))
    elif result.attempt > image.attempt and image.is_open:
        raise TooEarly(f"Attempt {result.attempt} has not begun.", {"attempt": image.attempt, "state": image.state})
    elif result.attempt != image.attempt:  # of the next one, where the image ended while its job was told
        raise _stale(image)


async def _completed(connection: AsyncConnection[Any], image: Image, result: Result) -> tuple[str, Transition]:
    moved = await _calls.complete(
        connection,
        image.image,
        result.attempt,
        content_type=image.content_type,
        metadata=image.metadata,
        outputs={},
        actual=result.actual,
    )
    if moved.outcome == "exceeds_hold":
        return await _given_back(connection, image, result, "More was used than was reserved.")
    if moved.outcome == "too_late":
        return "too_late", moved
    if moved.outcome not in {"completed", "already_completed"}:
        raise _stale(image)
    return "completed", moved


async def _failed(
    uploads: Uploads, connection: AsyncConnection[Any], image: Image, result: Result
) -> tuple[str, Transition]:
    tries = result.attempt - image.interrupted
    if result.is_permanent or tries >= uploads.settings.processing_attempts or image.state is State.COMPLETED:
        reason = in_one_line(f"Processing failed: {result.error}") if result.error else "Processing failed."
        return await _given_back(connection, image, result, reason)
    deadline = uploads.deadline(State.UPLOADED)
    moved = await _calls.wait(connection, image.image, result.attempt, result.error, deadline)
    if moved.outcome != "waiting":
        raise _stale(image)
    if image.state is not State.UPLOADED or result.attempt > image.attempt:  # else it is waiting for that already
        delay = backoff_seconds(uploads.settings, tries)
        await enqueue(connection, image.image, delay_seconds=delay)
    return "retrying", moved


async def _given_back(
    connection: AsyncConnection[Any], image: Image, result: Result, reason: str
) -> tuple[str, Transition]:
    moved = await _calls.roll_back(
        connection, image.image, Cause.PROCESSING_FAILED, attempt=result.attempt, reason=reason, actor=ACTOR
    )
    if moved.outcome == "already_committed":  # a failure that comes late is no news, and is not to be sent for ever
        return "completed", moved
    repeated = moved.outcome == "already_rolled_back" and image.cause is Cause.PROCESSING_FAILED
    if moved.outcome != "rolled_back" and not repeated:
        raise _stale(image)
    return "failed", moved


def _stale(image: Image) -> StaleAttempt:
    return StaleAttempt(
        f"The image is {image.state}, at attempt {image.attempt}.", {"attempt": image.attempt, "state": image.state}
    )
