"""Named points, most of them right after a commit, at which a test can make the process die or fail.

Nothing happens at them in production: the check is one comparison with None.
"""

import os
import signal
from dataclasses import dataclass

from earmark.errors import InvalidRequest

POINTS = frozenset(
    {
        "reserved",
        "uploading",
        "stored",
        "uploaded",
        "started",
        "outputs_stored",
        "completed",
        "waiting",
        "ended",
        "rolled_back",
        "many_rolled_back",
        "deleted",
        "overdue_ended",
        "driven_again",
        "holds_swept",
        "objects_removed",
        "published",
        "posted",
        "handed_over",
        "refused",
        "told_later",
        "result_taken",
        "ledger_reserved",
        "ledger_committed",
        "ledger_rolled_back",
    }
)
"""What has just been done there."""


class FaultInjected(RuntimeError):  # noqa: N818 - named for what happened
    """The failure that a test asked for."""


@dataclass(slots=True)
class _Fault:
    point: str
    action: str
    times: int


_armed: _Fault | None = None


def arm(spec: str | None) -> None:
    """Sets a fault for this process, in place of the one before; None for none.

    Args:
        spec: `point:kill` ends the process as `kill -9` does, `point:error` raises FaultInjected; with `@N` behind it
            when the point is reached for the N-th time. After that the fault is over.

    Raises:
        InvalidRequest: There is no such point or action.
    """
    global _armed  # noqa: PLW0603 - that a process dies concerns all of it
    if spec is None:
        _armed = None
        return
    named, _, times = spec.partition("@")
    point, _, action = named.partition(":")
    if point not in POINTS or action not in {"kill", "error"} or not (times or "1").isdecimal():
        known = ", ".join(sorted(POINTS))
        raise InvalidRequest(f"no fault {spec!r}: write POINT:kill or POINT:error, points are {known}", {"fault": spec})
    _armed = _Fault(point, action, int(times or 1))


def reached(point: str) -> None:
    """Says that this point was reached.

    Raises:
        FaultInjected: A test asked for it.
    """
    if _armed is not None:
        _strike(_armed, point)


def _strike(fault: _Fault, point: str) -> None:
    if fault.point != point:
        return
    fault.times -= 1
    if fault.times > 0:
        return
    arm(None)
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise FaultInjected(point)
