"""The quota ledger over HTTP, for services that do not share its database: `AsyncClient`, and `Client`, its twin."""

from earmark.extras import needs

with needs("client"):
    from earmark.client._async import AsyncClient
    from earmark.client._async_reservation import AsyncReservation
    from earmark.client._sync import Client
    from earmark.client._sync_reservation import Reservation
    from earmark.client.calls import History
    from earmark.client.image_calls import File, Image, Preupload, Sending, Upload
    from earmark.client.problems import ServiceError, ServiceUnavailable

__all__ = [
    "AsyncClient",
    "AsyncReservation",
    "Client",
    "File",
    "History",
    "Image",
    "Preupload",
    "Reservation",
    "Sending",
    "ServiceError",
    "ServiceUnavailable",
    "Upload",
]
