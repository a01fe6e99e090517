"""Images for asyncio. `_sync_images.py` is generated from this file by `tools/generate_sync.py`; edit only this one."""

from collections.abc import Sequence
from uuid import UUID

from earmark.client import image_calls
from earmark.client._async_transport import AsyncTransport, Content
from earmark.client.image_calls import File, Image, Preupload, Sending
from earmark.model import Amounts, Cause


class AsyncImages:
    """Uploads of images: reserve, send, complete; or fail and cancel, by which their quota comes back.

    Every method but `send` names a subject where a service means only that one's images, raises `NotFound` where there
    is no such image of his, and `ServiceUnavailable` without an answer.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def preupload(
        self, files: Sequence[File], *, subject: str | None = None, key: str | None = None
    ) -> Preupload:
        """Takes quota for all files or none, and permits their upload.

        Where its task is cancelled meanwhile, what was taken without a key is given back.

        Raises:
            QuotaExceeded: There is not room for all of them.
            BulkLimitExceeded: More files than the plan allows at once.
            InvalidFile: One that would never be accepted; `index` says which.
            KeyConflict: The key was used for other files.
        """
        return await self._transport.run(image_calls.preupload(files, subject=subject, key=key))

    async def send(self, sending: Sending, content: Content) -> None:
        """Sends one piece of an upload to the store, without the token; again after a connection that broke.

        A whole file is taken once: that a repeat finds it there says that an earlier attempt arrived after all.

        Args:
            sending: Where to, and how many bytes from where.
            content: Those bytes, or what yields them, anew for each attempt.

        Raises:
            ServiceError: The store refused it, or, as `ServiceUnavailable`, nobody can know whether it arrived.
        """
        await self._transport.deliver(sending.method, sending.upload_url, sending.headers, sending.size, content)

    async def complete(self, image: UUID, *, subject: str | None = None) -> str:
        """Says that an upload is done, and has it processed; its state.

        Raises:
            UploadFailed: The file is not there, or not of the declared size; its quota was given back.
            ValidationFailed: Its content was refused; its quota was given back.
            AlreadySettled: It ended before.
        """
        return await self._transport.run(image_calls.complete(image, subject=subject))

    async def fail(self, image: UUID, error: str, *, subject: str | None = None) -> Image:
        """Says that an upload failed, and why: its quota comes back.

        Raises:
            AlreadySettled: It was completed before.
        """
        return await self._transport.run(image_calls.fail(image, error, subject=subject))

    async def cancel(self, image: UUID, *, subject: str | None = None) -> Image:
        """Stops an image at whatever stage before it is completed: its quota comes back.

        Raises:
            AlreadySettled: It was completed before.
        """
        return await self._transport.run(image_calls.cancel(image, subject=subject))

    async def image(self, image: UUID, *, subject: str | None = None) -> Image:
        """An image as it stands."""
        return await self._transport.run(image_calls.one(image, subject=subject))

    async def roll_back(
        self,
        images: Sequence[UUID],
        *,
        cause: Cause = Cause.CANCELLED,
        subject: str | None = None,
        reason: str | None = None,
    ) -> Amounts:
        """Ends those of at most 1000 images of one subject that are open, and tells what came back."""
        return await self._transport.run(image_calls.roll_back(images, cause=cause, subject=subject, reason=reason))
