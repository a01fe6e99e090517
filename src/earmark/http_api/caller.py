"""Who is asking, and whom and what he may name."""

from dataclasses import dataclass
from enum import StrEnum

from earmark.errors import Forbidden, InvalidRequest
from earmark.model import USER_CAUSES, Cause

SUBJECT_LENGTH_MAX = 255


class Role(StrEnum):
    """What a token's bearer is: a user, or a service that acts for users."""

    AUTHENTICATED = "authenticated"
    SERVICE = "service_role"


def subject_name(text: str) -> str:
    """The text itself, when it could be a subject's name.

    Raises:
        InvalidRequest: It is empty, too long, or cannot be stored.
    """
    if not 1 <= len(text) <= SUBJECT_LENGTH_MAX or "\0" in text:
        message = f"subject must be a text of 1 to {SUBJECT_LENGTH_MAX} characters, without NUL."
        raise InvalidRequest(message, {"field": "subject"})
    return text


@dataclass(frozen=True, slots=True)
class Caller:
    """The bearer of a verified token."""

    subject: str
    role: Role

    @property
    def is_service(self) -> bool:
        """Whether he may act for others and say that work is done."""
        return self.role is Role.SERVICE

    def acting_for(self, named: str | None) -> str:
        """The subject that a request is about: the one it names, else the caller himself.

        Raises:
            Forbidden: A user names somebody else.
            InvalidRequest: The name could not be a subject's.
        """
        if named is None or named == self.subject:
            return self.subject
        if not self.is_service:
            raise Forbidden("You can only act for yourself.")
        return subject_name(named)

    def sees(self, named: str | None) -> str | None:
        """Whose things the caller finds by id: a user only his own, a service everybody's unless it names a subject.

        Raises:
            Forbidden, InvalidRequest: As `acting_for`.
        """
        return None if self.is_service and named is None else self.acting_for(named)

    def states(self, cause: Cause) -> Cause:
        """The cause itself, when it is the caller's to state.

        Raises:
            Forbidden: A user states a cause that only a service can know.
        """
        if not self.is_service and cause not in USER_CAUSES:
            causes = " and ".join(sorted(USER_CAUSES))
            raise Forbidden(f"You can only state the causes {causes}.", {"cause": cause})
        return cause

    def must_be_service(self) -> None:
        """Returns for a service.

        Raises:
            Forbidden: The caller is a user.
        """
        if not self.is_service:
            raise Forbidden("Only a service may do this.", {"role": Role.SERVICE})
