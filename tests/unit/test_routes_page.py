"""``/docs``: every route as a page that needs no other host and runs no script."""

from __future__ import annotations

import re
from html import escape

from starlette.testclient import TestClient

from document_service.api import create_app, routes_page


def test_every_route_and_every_shape_is_on_the_page_and_every_link_leads_somewhere() -> None:
    described = create_app(None).openapi()
    page = routes_page.render(described)
    for path, operations in described["paths"].items():
        for method in operations:
            assert f"<h2>{method.upper()} {escape(path)}</h2>" in page
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
    for name in described["components"]["schemas"]:
        assert f'id="{name}"' in page


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    with TestClient(create_app(None)) as browser:
        answer = browser.get("/docs")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert re.findall(r"<script|<link|<img|<iframe|src=|@import|url\(", answer.text) == []
        for path in ("/redoc", "/docs/oauth2-redirect"):
            assert browser.get(path).status_code == 404


def test_what_a_description_says_is_text_and_never_markup() -> None:
    wicked = "<b>&"
    page = routes_page.render(
        {
            "info": {"title": wicked, "version": wicked, "description": wicked},
            "paths": {
                wicked: {
                    "get": {
                        "summary": wicked,
                        "x-roles": [wicked],
                        "parameters": [{"name": wicked, "in": wicked, "schema": {"enum": [wicked]}}],
                        "requestBody": {"content": {wicked: {"schema": {"const": wicked}}}},
                        "responses": {wicked: {"description": wicked}},
                    }
                }
            },
            "components": {"schemas": {wicked: {"properties": {wicked: {"type": wicked, "pattern": wicked}}}}},
        }
    )
    assert wicked not in page
    assert page.count(escape(wicked)) >= 14
