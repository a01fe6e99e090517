"""What the HTTP service works with; opened and closed by whoever composes it."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from earmark.config import Settings
from earmark.errors import NotFound, NotSignedIn
from earmark.http_api.answers import Answers, Connection
from earmark.http_api.caller import Caller
from earmark.http_api.requests import uuid_of
from earmark.http_api.sign_in import SignIn, bearer_token
from earmark.ledger import AsyncLedger
from earmark.uploads.flow import Uploads
from earmark.uploads.job import ImageJobs
from earmark.uploads.storage import Storage

SUBJECT_IN_SCOPE = "earmark.subject"
"""Where the signed-in subject is left in the ASGI scope, for the request's log line."""


@dataclass(frozen=True, slots=True)
class Services:
    """Open services; the application neither opens nor closes any of them."""

    uploads: Uploads
    ledger: AsyncLedger
    storage: Storage
    sign_in: SignIn
    settings: Settings
    answers: Answers
    jobs: ImageJobs | None = None
    """With the way of processing `webhook`: carries out the jobs that a queue outside calls for."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service has been told to stop: it is not ready any more."""

    def uploads_on(self, connection: Connection | None) -> Uploads:
        """The upload flow, in this connection's transaction where there is one."""
        return self.uploads if connection is None else self.uploads.on(connection)

    async def owner_of_reservation(self, reservation: str, seen: str | None) -> str:
        """Whose reservation it is; `seen` where the caller may see only his: whether it is his, its calls find out.

        Raises:
            NotFound: There is none.
        """
        if seen is not None:
            return seen
        story = await self.ledger.reservation(uuid_of(reservation, "reservation"))
        if story is None:
            raise NotFound("There is no such reservation.")
        return story.subject

    async def owner_of_image(self, image: str, seen: str | None, connection: Connection | None = None) -> str:
        """Whose image it is; `seen` as for a reservation, `connection` as for `uploads_on`.

        Raises:
            NotFound: There is none.
        """
        if seen is not None:
            return seen
        return (await self.uploads_on(connection).image(uuid_of(image, "image"))).subject

    def caller(self, request: Request) -> Caller:
        """Who sends this request.

        Raises:
            NotSignedIn: Nobody we know.
        """
        token = bearer_token(request.headers.get("authorization", ""))
        if token is None:
            raise NotSignedIn("Send Authorization: Bearer <token>.", token_given=False)
        caller = self.sign_in.verify(token)
        request.scope[SUBJECT_IN_SCOPE] = caller.subject
        return caller
