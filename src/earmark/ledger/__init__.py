"""The quota ledger in Python: `AsyncLedger`, and `Ledger`, its generated twin."""

from earmark.ledger._async import AsyncLedger, AsyncReservation
from earmark.ledger._sync import Ledger, Reservation

__all__ = ["AsyncLedger", "AsyncReservation", "Ledger", "Reservation"]
