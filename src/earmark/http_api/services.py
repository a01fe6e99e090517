"""What the HTTP service works with; opened and closed by whoever composes it."""

from dataclasses import dataclass

from starlette.requests import Request

from earmark.config import Settings
from earmark.http_api.caller import Caller
from earmark.http_api.sign_in import NotSignedIn, SignIn, bearer_token
from earmark.ledger import AsyncLedger
from earmark.uploads.flow import Uploads
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
