"""What `earmark upload FOLDER` does over HTTP; what it reserved goes back when it fails or is stopped."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from rich.console import Console

from earmark.cli.upload_files import LocalFile, find_files, said
from earmark.cli.upload_report import (
    FileReport,
    Outcome,
    UploadReport,
    UploadScreen,
    plural,
)
from earmark.client import AsyncClient, Image, Sending, ServiceError, ServiceUnavailable, Upload
from earmark.errors import (
    AlreadySettled,
    EarmarkError,
    Forbidden,
    InvalidFile,
    NotFound,
    NotSignedIn,
    QuotaExceeded,
    SchemaMismatch,
    UnknownSubject,
    UploadFailed,
    ValidationFailed,
)
from earmark.model import Usage

FIRST_ATTEMPTS = 3
"""For the very first call: an address that is wrong should be said soon."""
ATTEMPTS = 8
"""For every later one: outlives a restart of the service, about 8 s on average and 16 s at most."""
BATCH_IF_UNLIMITED = 50
CANCEL_BATCH = 50
CHUNK_BYTES = 256 * 1024
CONCURRENT_POLLS = 8
FIRST_POLL_SECONDS = 0.2
SLOWEST_POLL_SECONDS = 1.0
POLL_GROWTH = 1.5
CLOSING_SECONDS = 10.0

_OUTCOME_OF_STATE = {
    "completed": Outcome.ACCEPTED,
    "deleted": Outcome.ACCEPTED,
    "failed": Outcome.ROLLED_BACK,
    "rejected": Outcome.ROLLED_BACK,
    "expired": Outcome.ROLLED_BACK,
    "cancelled": Outcome.CANCELLED,
}
_SAME_FOR_EVERY_FILE = (NotSignedIn, Forbidden, NotFound, UnknownSubject, SchemaMismatch, ServiceUnavailable)


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What to upload, where to and as whom.

    Attributes:
        parallel: Most files sent at a time.
        timeout_seconds: How long one image may take from its complete upload to its final state.
    """

    folder: Path
    url: str
    token: str = field(repr=False)
    parallel: int = 4
    timeout_seconds: float = 600.0


async def upload_folder(options: UploadOptions, console: Console) -> UploadReport:
    """Upload a folder's images and wait until each is settled, showing progress on the console.

    The first SIGINT or SIGTERM stops the sending at once and cancels, in at most 10 s, whatever is still open; the
    second leaves without that, and the deadlines of the reservations return the quota. Expected failures are values
    in the report, never exceptions.
    """
    images, left_out = find_files(options.folder)
    screen = UploadScreen(console, len(images), sum(image.size for image in images))
    async with (
        AsyncClient(options.url, options.token, attempts=ATTEMPTS) as client,
        AsyncClient(options.url, options.token, attempts=FIRST_ATTEMPTS) as impatient,
    ):
        upload = _Upload(options, images, client, impatient, screen)
        with _Interrupts() as interrupts:
            try:
                with screen:
                    await interrupts.run(upload.work())
            finally:
                if interrupts.received and upload.open:
                    screen.say(
                        f"Returning the quota of {plural(len(upload.open), 'image')}; Ctrl-C again to leave at once."
                    )
                await interrupts.run(upload.close())
    upload.report_the_rest()
    return UploadReport(
        folder=str(options.folder),
        url=options.url,
        subject=upload.before.subject if upload.before else None,
        files=tuple(sorted([*left_out, *upload.reports.values()], key=lambda report: report.file)),
        before=upload.before.resources if upload.before else None,
        after=upload.after.resources if upload.after else None,
        error=upload.error,
        signal_number=interrupts.received[0] if interrupts.received else None,
        abandoned=len(interrupts.received) > 1,
    )


class _Upload:
    """One run over one folder. `open` holds what is reserved and not known to be settled, by image id."""

    def __init__(
        self,
        options: UploadOptions,
        files: Sequence[LocalFile],
        client: AsyncClient,
        impatient: AsyncClient,
        screen: UploadScreen,
    ) -> None:
        self._options = options
        self._files = files
        self._client = client
        self._impatient = impatient
        self._screen = screen
        self._slots = asyncio.Semaphore(options.parallel)
        self._polls = asyncio.Semaphore(CONCURRENT_POLLS)
        self._reserving: asyncio.Task[None] | None = None
        self.open: dict[UUID, LocalFile] = {}
        self.reports: dict[LocalFile, FileReport] = {}
        self.before: Usage | None = None
        self.after: Usage | None = None
        self.error: str | None = None

    async def work(self) -> None:
        """Reserve, send and settle all files; a batch is reserved once the last file before it is on its way."""
        try:
            self.before = await self._impatient.usage()
        except EarmarkError as error:
            self.error = f"the token was refused: {error}" if isinstance(error, NotSignedIn) else str(error)
            return
        limit = self.before.features.get("max_bulk_upload", -1)
        batch_size = limit if isinstance(limit, int) and limit > 0 else BATCH_IF_UNLIMITED
        async with asyncio.TaskGroup() as tasks:
            try:
                for start in range(0, len(self._files), batch_size):
                    await self._send_batch(self._files[start : start + batch_size], tasks)
            except EarmarkError as error:  # no more is reserved, but what is on its way goes on
                self.error = str(error)

    async def close(self) -> None:
        """Cancel what is still open and read the usage, in bounded time."""
        with contextlib.suppress(TimeoutError, EarmarkError):
            async with asyncio.timeout(CLOSING_SECONDS):
                if self._reserving is not None:
                    with contextlib.suppress(EarmarkError):
                        await self._reserving
                identifiers = list(self.open)
                for start in range(0, len(identifiers), CANCEL_BATCH):
                    await self._cancel(identifiers[start : start + CANCEL_BATCH])
                if self.before is not None:
                    self.after = await self._impatient.usage()

    def report_the_rest(self) -> None:
        """Report the files that neither the service nor we could settle."""
        for image_id in list(self.open):
            self._settle(image_id, Outcome.UNSETTLED, "left before its end; the deadline returns its quota", fault=True)
        for file in self._files:
            if file not in self.reports:
                reason = "the service failed before its turn" if self.error else "stopped before its turn"
                self.reports[file] = FileReport(file.name, file.size, Outcome.NOT_SENT, reason, fault=True)

    async def _send_batch(self, batch: Sequence[LocalFile], tasks: asyncio.TaskGroup) -> None:
        waiting = deque([batch])
        while waiting:
            files = waiting.popleft()
            grants: list[Upload] = []
            # Shielded: an interruption must not lose the answer that names what has just been reserved.
            self._reserving = asyncio.create_task(self._reserve(files, grants))
            try:
                await asyncio.shield(self._reserving)
            except EarmarkError as error:
                waiting.extendleft(reversed(self._refuse_or_split(files, error)))
                if len(files) == 1 and isinstance(error, QuotaExceeded) and error.detail.get("resource") == "images":
                    self._refuse([file for rest in waiting for file in rest], error)
                    return
            for file, grant in zip(files, grants, strict=False):
                await self._slots.acquire()
                tasks.create_task(self._send(file, grant))

    async def _reserve(self, files: Sequence[LocalFile], grants: list[Upload]) -> None:
        preupload = await self._client.images.preupload([file.declared() for file in files])
        grants.extend(preupload.uploads)
        self.open.update((grant.image, file) for grant, file in zip(grants, files, strict=True))

    def _refuse_or_split(self, files: Sequence[LocalFile], error: EarmarkError) -> list[Sequence[LocalFile]]:
        """What to ask for next, after these files were refused as a whole and nothing was reserved."""
        too_much = isinstance(error, ServiceError) and error.answered == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        if isinstance(error, _SAME_FOR_EVERY_FILE) or (isinstance(error, ServiceError) and not too_much):
            raise error
        index = error.detail.get("index")
        if isinstance(error, InvalidFile) and isinstance(index, int) and 0 <= index < len(files):
            self._refuse([files[index]], error)
            rest = [*files[:index], *files[index + 1 :]]
            return [rest] if rest else []
        if len(files) == 1:
            self._refuse(files, error)
            return []
        half = len(files) // 2
        return [files[:half], files[half:]]

    def _refuse(self, files: Sequence[LocalFile], error: EarmarkError) -> None:
        reason = str(error.detail.get("reason") or error)
        if isinstance(error, QuotaExceeded):
            reason = f"quota: {error}"
        for file in files:
            self._screen.passed(file.name, file.size)
            self._report(FileReport(file.name, file.size, Outcome.REFUSED, reason), file)

    async def _send(self, file: LocalFile, grant: Upload) -> None:
        image_id = grant.image
        try:
            try:
                for sending in grant.sendings:
                    await self._client.images.send(sending, partial(self._content, file, sending))
            finally:
                self._slots.release()
                self._screen.passed(file.name, file.size)
        except EarmarkError as error:
            await self._give_back(image_id, str(error))
            return
        try:
            if await self._complete(image_id):
                await self._wait(image_id)
        except EarmarkError as error:
            self._settle(image_id, Outcome.UNSETTLED, f"{error}; its deadline settles it", fault=True)

    async def _content(self, file: LocalFile, sending: Sending) -> AsyncGenerator[bytes, None]:
        """The bytes that are to be sent; the file has to be as long as was declared."""
        sent, end = sending.offset, sending.offset + sending.size
        self._screen.sent(file.name, file.size, sent)
        try:
            with file.path.open("rb") as source:
                source.seek(sent)
                while sent < end and (chunk := await asyncio.to_thread(source.read, min(CHUNK_BYTES, end - sent))):
                    sent += len(chunk)
                    yield chunk
                    self._screen.sent(file.name, file.size, sent)
                changed = sent != end or os.fstat(source.fileno()).st_size != file.size
        except OSError as error:
            raise EarmarkError(f"cannot be read: {said(error)}") from error
        if changed:
            raise EarmarkError("the file changed while it was sent")

    async def _give_back(self, image_id: UUID, error: str) -> None:
        try:
            with contextlib.suppress(AlreadySettled):
                await self._client.images.fail(image_id, error)
        except EarmarkError:
            reason = f"upload failed: {error}; its deadline returns the quota"
            self._settle(image_id, Outcome.UNSETTLED, reason, fault=True)
            return
        self._settle(image_id, Outcome.ROLLED_BACK, f"upload failed, quota returned: {error}", fault=True)

    async def _complete(self, image_id: UUID) -> bool:
        """Whether the image goes on to be processed."""
        try:
            with contextlib.suppress(AlreadySettled):  # its state says how
                await self._client.images.complete(image_id)
        except (UploadFailed, ValidationFailed) as error:
            reason = str(error.detail.get("reason") or error)
            self._settle(image_id, Outcome.ROLLED_BACK, reason, fault=isinstance(error, UploadFailed))
            return False
        return True

    async def _wait(self, image_id: UUID) -> None:
        pause = FIRST_POLL_SECONDS
        try:
            async with asyncio.timeout(self._options.timeout_seconds):
                while not await self._is_settled(image_id):
                    await asyncio.sleep(pause)
                    pause = min(pause * POLL_GROWTH, SLOWEST_POLL_SECONDS)
        except TimeoutError:
            reason = f"not settled within {self._options.timeout_seconds:g} s; its deadline settles it"
            self._settle(image_id, Outcome.UNSETTLED, reason, fault=True)

    async def _is_settled(self, image_id: UUID) -> bool:
        async with self._polls:
            image = await self._client.images.image(image_id)
        outcome = _OUTCOME_OF_STATE.get(image.state)
        if outcome is None:
            return False
        self._settle(image_id, outcome, _reason_of(image))
        return True

    async def _cancel(self, image_ids: Sequence[UUID]) -> None:
        """Cancel images; where not all of them came back by it, ask each for what became of it."""
        returned = 0
        with contextlib.suppress(EarmarkError):
            returned = (await self._client.images.roll_back(image_ids)).get("images", 0)
        for image_id in image_ids:
            if returned == len(image_ids):
                self._settle(image_id, Outcome.CANCELLED, "cancelled, quota returned")
                continue
            with contextlib.suppress(EarmarkError):
                if not await self._is_settled(image_id):
                    await self._client.images.cancel(image_id)
                    await self._is_settled(image_id)

    def _settle(self, image_id: UUID, outcome: Outcome, reason: str | None, *, fault: bool = False) -> None:
        file = self.open.pop(image_id)
        self._report(FileReport(file.name, file.size, outcome, reason, str(image_id), fault), file)

    def _report(self, report: FileReport, file: LocalFile) -> None:
        self.reports[file] = report
        self._screen.settled(report)


class _Interrupts:
    """Block in which SIGINT and SIGTERM cancel the coroutine that `run` is waiting for, and nothing else."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        # Elsewhere than in a Unix main thread there are no handlers: asyncio then cancels us from outside.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self._receive, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().remove_signal_handler(number)

    async def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Wait for a coroutine, or for the signal that cancels it."""
        self._task = asyncio.create_task(coroutine)
        try:
            await self._task
        except asyncio.CancelledError:
            if not self.received:
                raise
        finally:
            self._task = None

    def _receive(self, number: int) -> None:
        self.received.append(number)
        if self._task is not None:
            self._task.cancel()


def _reason_of(image: Image) -> str | None:
    if image.state == "deleted":
        return "deleted since"
    if image.state == "cancelled":
        return image.reason or "cancelled, quota returned"
    return image.reason or (image.cause.replace("_", " ") if image.cause else None)
