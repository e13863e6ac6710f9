"""/docs in a real browser: every route is shown, tried out from the page, and nobody else is asked for anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.gateway.house import served_house
from tests.support.browser import chromium, needs_chromium, watched_page
from tests.support.hash_engine import MODEL

pytestmark = [pytest.mark.browser, needs_chromium]


async def test_the_page_shows_every_route_and_tries_one_out(tmp_path: Path):
    async with served_house(tmp_path) as there:
        document = (await there.http.get("/openapi.json")).json()
        routes = {path for path, operations in document["paths"].items() for _ in operations}
        await asyncio.to_thread(_look, there.url, routes)


def _look(url: str, routes: set[str]) -> None:
    with chromium() as browser, watched_page(browser, url) as (page, _):
        page.goto("/docs")
        page.locator(".opblock").first.wait_for()
        shown = {each.replace("\u200b", "") for each in page.locator(".opblock-summary-path").all_inner_texts()}
        assert shown == routes
        page.locator("#operations-models-models_v1_models_get .opblock-summary-control").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
        assert (
            MODEL.name
            in page.locator(".live-responses-table td.response-col_description:not(.col_header)").inner_text()
        )
