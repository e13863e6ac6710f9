"""/docs: what was vendored is what the registry has, and the page asks nobody else for anything."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.keys import read_keys
from gateway.limits import Limits
from gateway.pages import FILES, PAGE, START, VENDOR, packed
from tests.gateway.house import House, house

TABLE = re.compile(r"^\| (\S+)\.gz \| [^|]+ \| ([\d.]+) \| ([^|]+) \| ([0-9a-f]{64}) \|$", re.M)


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[House]:
    path = tmp_path / "keys"
    path.write_text("ann sk-ann-secret")
    async with house(tmp_path, keyring=read_keys(path, {}, Limits())) as made:
        yield made


def test_what_is_vendored_is_what_the_table_says():
    told = {name: digest for name, _, _, digest in TABLE.findall((VENDOR / "VENDORED.md").read_text())}
    assert told == {name: hashlib.sha256(gzip.decompress(packed(name))).hexdigest() for name in FILES}
    licence = (VENDOR / "swagger-ui.LICENSE").read_text()
    assert "Apache License" in licence and (VENDOR / "swagger-ui-bundle.LICENSES").stat().st_size
    here = {path.name for path in VENDOR.iterdir()} - {"VENDORED.md"}
    assert {name for name in here if name.endswith(".gz")} == {f"{name}.gz" for name in FILES}
    assert sum(path.stat().st_size for path in VENDOR.iterdir()) < 1 << 20


def test_the_page_names_nobody_else_and_has_no_inline_code():
    assert not re.search(r"(?:src|href)=\"(?!/|data:,)", PAGE) and "//" not in START
    assert not re.search(r"<style|style=|<script>|\son\w+=", PAGE)


async def test_the_page_and_its_files_need_no_key_and_have_a_strict_policy(there: House):
    for path in ("/docs", "/docs/start.js", *(f"/docs/{name}" for name in FILES)):
        answer = await there.http.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if path != "/docs":
            assert answer.headers["content-type"].startswith(("text/css", "text/javascript"))
    assert (await there.http.get("/docs/other.js")).status_code == 404


async def test_files_come_packed_or_plain_as_the_reader_wants(there: House):
    for name in FILES:
        whole = gzip.decompress(packed(name))
        for accept, coding in (("gzip, br", "gzip"), ("identity", None)):
            answer = await there.http.get(f"/docs/{name}", headers={"accept-encoding": accept})
            assert answer.headers.get("content-encoding") == coding and answer.content == whole


async def test_the_document_is_open_and_the_rest_is_not(there: House):
    document = (await there.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.") and document["security"] == [{"key": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            status = (await there.http.request(method, path)).status_code
            assert (status != 401) == (operation.get("security") == []), path
    assert (await there.http.get("/v1/models")).status_code == 401
