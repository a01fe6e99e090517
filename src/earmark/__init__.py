"""Earmark keeps users' quotas exact when uploads and processing fail."""

from earmark.errors import (
    AlreadySettled,
    EarmarkError,
    Forbidden,
    InvalidRequest,
    KeyConflict,
    NotFound,
    QuotaExceeded,
    SchemaMismatch,
    UnknownPlan,
    UnknownResource,
    UnknownSubject,
)
from earmark.ledger import AsyncLedger, AsyncReservation, Ledger, Reservation
from earmark.model import Cause, Late, PlanQuota

__all__ = [
    "AlreadySettled",
    "AsyncLedger",
    "AsyncReservation",
    "Cause",
    "EarmarkError",
    "Forbidden",
    "InvalidRequest",
    "KeyConflict",
    "Late",
    "Ledger",
    "NotFound",
    "PlanQuota",
    "QuotaExceeded",
    "Reservation",
    "SchemaMismatch",
    "UnknownPlan",
    "UnknownResource",
    "UnknownSubject",
]
