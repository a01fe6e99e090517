"""The quota ledger in Python: `AsyncLedger`, and `Ledger`, its generated twin."""

from earmark.ledger._async import AsyncLedger
from earmark.ledger._async_reservation import AsyncReservation
from earmark.ledger._sync import Ledger
from earmark.ledger._sync_reservation import Reservation

__all__ = ["AsyncLedger", "AsyncReservation", "Ledger", "Reservation"]
