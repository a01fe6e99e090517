"""`earmark reconcile` as an operator runs it, beside a service whose objects are in S3."""

import asyncio
import json
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from earmark.uploads.storage import open_storage
from fixtures.life import complete, preupload, put
from fixtures.pictures import picture

JPEG = picture()
TIMES = 6
"""How often an exit code must be right: taking the interpreter down beside obstore's threads spoiled one in ten."""


@pytest.mark.usefixtures("s3")
def test_reconcile_finds_and_repairs_what_a_bucket_has_lost(service_of, tmp_path):
    url = f"s3://objects/{uuid4().hex}"
    service = service_of(storage_url=url).start()
    (image,) = preupload(service, JPEG)
    assert urlsplit(image["uploadUrl"]).query.count("X-Amz-Signature")
    assert put(image, JPEG).status_code == 200
    complete(service, image)
    service.wait_until(lambda: [one["state"] for one in service.images()] == ["completed"])
    assert [service.run("reconcile", check=False).returncode for _ in range(TIMES)] == [0] * TIMES

    bucket = open_storage(url, home=tmp_path, secret=b"unused", public_url="http://unused")
    asyncio.run(bucket.delete([image["s3Key"]]))
    found = service.run("reconcile", "--json", check=False)
    assert found.returncode == 3
    assert [(one["difference"], one["key"]) for one in json.loads(found.stdout)] == [("missing", image["s3Key"])]
    assert "1 repaired, 0 left." in service.run("reconcile", "--repair").stdout
    assert service.usage()["storage_bytes"]["used"] == 0
    (lost,) = service.images()
    assert (lost["state"], lost["url"]) == ("failed", None)
    assert "Upload it again" in lost["reason"]
