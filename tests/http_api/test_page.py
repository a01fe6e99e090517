from importlib.resources import files

import httpx
import pytest

pytestmark = pytest.mark.anyio


async def test_every_file_of_the_page(alice: httpx.AsyncClient):
    kinds = {
        "html": "text/html; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "ts": "text/plain; charset=utf-8",
    }
    known = [file for file in (files("earmark") / "web").iterdir() if file.name.rpartition(".")[2] in kinds]
    assert known
    for file in known:
        response = await alice.get(f"/{file.name}")
        assert (response.status_code, response.content) == (200, file.read_bytes())
        assert response.headers["content-type"] == kinds[file.name.rpartition(".")[2]]
    index = await alice.get("/")
    assert index.content == (await alice.get("/index.html")).content
    assert index.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' https: http://service.test blob: data:; connect-src 'self' https: http://service.test; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


async def test_a_browser_asks_whether_its_copy_is_current(alice: httpx.AsyncClient):
    etag = (await alice.get("/page.js")).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = await alice.get("/page.js", headers={"If-None-Match": known})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    assert (await alice.get("/page.js", headers={"If-None-Match": '"other"'})).status_code == 200
    head = await alice.head("/page.js")
    assert (head.status_code, head.content) == (200, b"")
