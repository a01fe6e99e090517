"""Quota as HTTP's own headers tell it: RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers).

A policy per resource that has a limit: `q` is the quota, `w` its period in seconds where it has one, `qu` what is
counted; `r` is what is left, `t` the seconds until the next period.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from earmark.model import UNLIMITED, ResourceUsage

INTEGER_MAX = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651); a larger quota is told as this."""


def rate_limit_headers(resources: Mapping[str, ResourceUsage]) -> dict[str, str]:
    """Both headers, of every resource that has a limit; none where no resource has one."""
    limited = {name: one for name, one in resources.items() if one.quota_limit != UNLIMITED}
    if not limited:
        return {}
    now = datetime.now(UTC)
    return {
        "RateLimit-Policy": ", ".join(
            policy(name, one.quota_limit, one.period_start, one.period_end) for name, one in limited.items()
        ),
        "RateLimit": ", ".join(left(name, one, now) for name, one in limited.items()),
    }


def shortage_headers(short: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Both headers of a denied reservation: what it was short of, with whomever in the tree has the least left."""
    least: dict[str, Mapping[str, Any]] = {}
    for one in sorted(short, key=lambda one: one["remaining"], reverse=True):
        least[one["resource"]] = one
    if not least:
        return {}
    return {
        "RateLimit-Policy": ", ".join(
            f'"{name}";q={min(one["quota_limit"], INTEGER_MAX)};qu="{name}"' for name, one in least.items()
        ),
        "RateLimit": ", ".join(f'"{name}";r={min(one["remaining"], INTEGER_MAX)}' for name, one in least.items()),
    }


@lru_cache(maxsize=1024)
def policy(name: str, quota_limit: int, period_start: datetime | None, period_end: datetime | None) -> str:
    """The policy of one resource."""
    window = ""
    if period_start is not None and period_end is not None:
        window = f";w={round((period_end - period_start).total_seconds())}"
    return f'"{name}";q={min(quota_limit, INTEGER_MAX)}{window};qu="{name}"'


def left(name: str, one: ResourceUsage, now: datetime) -> str:
    """What is left of one resource."""
    reset = f";t={max(0, math.ceil((one.period_end - now).total_seconds()))}" if one.period_end is not None else ""
    return f'"{name}";r={min(one.remaining, INTEGER_MAX)}{reset}'
