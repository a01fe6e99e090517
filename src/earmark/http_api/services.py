"""What the HTTP service works with; opened and closed by whoever composes it."""

from dataclasses import dataclass

from starlette.requests import Request

from earmark.config import Settings
from earmark.http_api.caller import Caller
from earmark.http_api.sign_in import NotSignedIn, SignIn
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
    jobs: ImageJobs | None = None
    """With the way of processing `webhook`: carries out the jobs that a queue outside calls for."""

    def caller(self, request: Request) -> Caller:
        """Who sends this request.

        Raises:
            NotSignedIn: Nobody we know.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise NotSignedIn("Send Authorization: Bearer <token>.", token_given=False)
        caller = self.sign_in.verify(token.strip())
        request.scope[SUBJECT_IN_SCOPE] = caller.subject
        return caller
