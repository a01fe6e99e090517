"""`make run-s3`: what `make run` does, with the objects in SeaweedFS instead of a local folder."""

import secrets
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from os import environ
from pathlib import Path

from botocore.session import Session  # type: ignore[import-untyped] # botocore has no types

from earmark.cli import run as run_earmark
from earmark.config import Settings
from seaweedfs import BUCKET, REGION, SeaweedFS


def run() -> None:
    """Serves until it is told to stop, then stops the store too."""
    options = ArgumentParser(add_help=False)
    options.add_argument("--home", type=Path, default=Settings().home)
    folder = options.parse_known_args()[0].home / "s3"
    with _only_one(folder):
        _serve(folder)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            sys.exit(f"run-s3: another one uses {folder}; stop it, or take another folder: ARGS='--home FOLDER'")
        yield


def _serve(folder: Path) -> None:
    store = SeaweedFS(folder, ("earmark", _secret(folder / "secret")))
    try:
        store.start()
    except RuntimeError as error:
        sys.exit(f"run-s3: {error}")
    try:
        environ.update(store.environment, EARMARK_STORAGE_URL=f"s3://{BUCKET}")
        _allow_browsers()
        _tell(folder, store)
        sys.argv[1:1] = ["serve"]
        run_earmark()
    finally:
        store.kill()


def _allow_browsers() -> None:
    """The rule that lets the page upload straight to the bucket; the signed URL is what permits it."""
    rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["*"], "MaxAgeSeconds": 3600}
    client = Session().create_client("s3", region_name=REGION, endpoint_url=environ["AWS_ENDPOINT_URL"])
    client.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [rule]})


def _tell(folder: Path, store: SeaweedFS) -> None:
    """Leaves beside the data what other commands, such as `earmark sweep`, need to reach the store."""
    lines = {**store.environment, "EARMARK_STORAGE_URL": f"s3://{BUCKET}"}
    file = folder / "environment"
    file.touch(mode=0o600)
    file.write_text("".join(f"export {name}={value}\n" for name, value in lines.items()))
    print(f"\n    Objects are in SeaweedFS at {store.endpoint}; for other commands: . {file}")  # noqa: T201 - for the person at the terminal


def _secret(file: Path) -> str:
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(24))
    return file.read_text().strip()


if __name__ == "__main__":
    run()
