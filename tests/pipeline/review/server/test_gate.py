"""Each attack that the gate is there for, tried."""

import asyncio
from dataclasses import replace

import pytest
from viewbrowsers import HOST, TOKEN, Browser

from pipeline.review.server import gate
from pipeline.review.server.gate import MOST_BODY
from pipeline.review.server.sessions import Sessions
from pipeline.review.server.throttle import Bucket

JSON = {"content-type": "application/json"}


def told(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] == code
    return answer


def test_nobody_comes_in_without_the_token(room):
    stranger = Browser(room, come_in=False)
    for path in ("/api/slides", "/api/session", "/api/health", "/api/tasks", "/nonsense"):
        told(stranger.get(path), 401, "session")
    told(stranger.post("/api/session", json={"name": "Eve"}), 401, "session")
    for token in ("", "wrong", TOKEN[:-1], TOKEN + "x", "ü"):
        answer = stranger.get("/", params={"token": token})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
    stranger.cookies.set(room.cookie, "made-up")
    told(stranger.get("/api/slides"), 401, "session")


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(room):
    answer = Browser(room, come_in=False).get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert TOKEN not in cookie
    safe = replace(room, scheme="https")
    answer = Browser(safe, come_in=False).get("/", params={"token": TOKEN})
    assert "secure" in answer.headers["set-cookie"].lower()


def test_two_cookies_of_the_name_are_none(browser, room):
    secret = browser.cookies[room.cookie]
    bare = Browser(room, come_in=False)
    one = f"{room.cookie}={secret}"
    assert bare.get("/api/health", headers={"cookie": one}).status_code == 200
    told(bare.get("/api/health", headers={"cookie": f"{one}; {room.cookie}=x"}), 401, "session")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:8001", "127.0.0.1:8000.x"]
)
def test_another_name_that_leads_here_is_refused(browser, host):
    for path in ("/", "/api/slides", f"/?token={TOKEN}"):
        told(browser.get(path, headers={"host": host}), 403, "host")
    assert browser.get("/api/health", headers={"host": "LOCALHOST:8000"}).status_code == 200


def test_behind_every_address_numbers_and_own_names_are_taken(room):
    anywhere = replace(room, hosts=None, names=frozenset({"lab"}))
    browser = Browser(anywhere)
    for host in ("10.1.2.3:80", "[fe80::1]:9000", "lab:8000", "Lab:1", "10.1.2.3"):
        answer = browser.get("/api/health", headers={"host": host})
        assert answer.status_code in (200, 401), host
        assert answer.json().get("error") != "host"
    for host in ("evil.example:8000", "lab.evil.example", "lab:x", "10.1.2.3.evil.example", ""):
        told(browser.get("/api/health", headers={"host": host}), 403, "host")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"https://{HOST}"},
        {"origin": "http://127.0.0.1:8001"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_can_not_write(browser, headers):
    told(browser.post("/api/session", json={"name": "Eve"}, headers=headers), 403, "origin")
    told(browser.delete("/api/session", headers=headers), 403, "origin")
    assert browser.room.store.readers() == []


def test_our_own_pages_can(browser):
    own = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
    assert browser.post("/api/session", json={"name": "Ann"}, headers=own).status_code == 200
    assert browser.get("/api/session").json()["reader"]["name"] == "Ann"


def test_other_sites_can_not_read_either_but_may_lead_to_the_first_page(browser):
    headers = {"sec-fetch-site": "cross-site"}
    told(browser.get("/api/slides", headers=headers), 403, "origin")
    told(browser.get(f"{browser.slide}/thumbnail.jpg", headers=headers), 403, "origin")
    assert browser.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_form_of_another_site_can_send_is_refused(browser, kind):
    answer = browser.post("/api/session", content='{"name": "Eve"}', headers={"content-type": kind})
    told(answer, 400, "content-type")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(browser, method):
    told(browser.request(method, "/api/slides"), 405, "method")


def test_what_is_too_large_is_refused_before_it_is_read(browser):
    large = '{"name": "' + "x" * MOST_BODY + '"}'
    told(browser.post("/api/session", content=large, headers=JSON), 413, "too-large")
    parts = (large[i : i + 1000].encode() for i in range(0, len(large), 1000))
    told(browser.post("/api/session", content=parts, headers=JSON), 413, "too-large")
    headers = JSON | {"content-length": "9" * 30}
    told(browser.post("/api/session", content="{}", headers=headers), 413, "too-large")
    headers = JSON | {"content-length": "-5"}
    told(browser.post("/api/session", content="{}", headers=headers), 400, "length")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '"a"', "nul", "[" * 60_000, '{"name": 3}'])
def test_what_is_no_json_is_refused(browser, content):
    answer = browser.post("/api/session", content=content, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"] in ("json", "name")


def test_a_body_that_does_not_come_is_not_waited_for(room, monkeypatch):
    monkeypatch.setattr(gate, "BODY_S", 0.05)
    sent = []

    async def never():
        await asyncio.sleep(10)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [
            (b"host", HOST.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"10"),
        ],
    }
    asyncio.run(gate.Gate(_unreached, room)(scope, never, send))
    assert sent[0]["status"] == 408


async def _unreached(scope, receive, send):
    raise AssertionError


def test_every_answer_forbids_what_the_page_does_not_need(browser):
    for path in ("/", "/api/slides", "/nonsense", f"{browser.slide}/report.html", "/again.js"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "server" not in headers
    policy = browser.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy, "no other host"
    assert (
        "sandbox" in browser.get(f"{browser.slide}/report.html").headers["content-security-policy"]
    )


def test_the_server_describes_itself_to_nobody(browser):
    for path in ("/docs", "/redoc", "/openapi.json"):
        told(browser.get(path), 404, "not-there")


def test_a_read_only_server_writes_nothing(read_only, room):
    room.store.reader("Ann")
    browser = Browser(read_only)
    told(browser.post("/api/session", json={"name": "Eve"}), 403, "read-only")
    assert browser.post("/api/session", json={"name": "ann"}).json()["reader"]["name"] == "Ann"
    told(browser.change(0, kind="slide", category="HSIL"), 403, "read-only")
    assert [one.name for one in room.store.readers()] == ["Ann"]
    assert list(room.store.history()) == []
    assert browser.get("/api/session").json()["read_only"] is True


@pytest.mark.parametrize(
    "path",
    [
        "thumbnail.jpg/../../../secret.txt",
        "..%2f..%2fsecret.txt",
        "best/..%2f..%2fsecret.txt.jpg",
        "tiles/0/0_0.jpg%00.txt",
        "best/0.jpg",
        "best/-1.jpg",
        "cells/..%2f..%2f..%2fsecret.txt/picture.jpg",
    ],
)
def test_no_path_leads_out_of_the_reports(browser, path):
    answer = browser.get(f"{browser.slide}/{path}")
    assert answer.status_code in (400, 404)
    assert "secret" not in answer.text.replace(path, "")


@pytest.mark.parametrize(
    "path", ["../server/app.py", "..%2fserver%2fapp.py", "%2fetc%2fpasswd", "..%5cx", "%00", "."]
)
def test_no_path_leads_out_of_the_built_page(browser, path):
    answer = browser.get(f"/assets/{path}")
    assert answer.status_code == 404, answer.text
    assert "import" not in answer.text


def test_links_beside_a_report_lead_nowhere(browser, folder):
    place = folder / "reports" / "one.tif"
    thumbnail, kept = place / "thumbnail.jpg", (place / "thumbnail.jpg").read_bytes()
    outside = folder / "outside.jpg"
    outside.write_bytes(kept)
    slide = next(r.id for r in browser.room.catalogue if r.name == "one.tif")
    try:
        thumbnail.unlink()
        thumbnail.symlink_to(outside)
        told(browser.get(f"/api/slides/{slide}/thumbnail.jpg"), 404, "not-there")
        thumbnail.unlink()
        thumbnail.write_text("no picture")
        told(browser.get(f"/api/slides/{slide}/thumbnail.jpg"), 404, "not-there")
    finally:
        thumbnail.unlink()
        thumbnail.write_bytes(kept)
    assert browser.get(f"/api/slides/{slide}/thumbnail.jpg").content == kept


def test_who_asks_for_too_many_tiles_is_told_to_wait(browser, room):
    session = room.sessions.get(browser.cookies[room.cookie])
    session.tiles = Bucket(rate=0.001, burst=2)
    slide = next(r.id for r in room.catalogue if r.name == "one.tif")
    path = f"/api/slides/{slide}/tiles/8/0_0.jpg"
    assert [browser.get(path).status_code for _ in range(3)] == [200, 200, 429]
    answer = told(browser.get(path), 429, "busy")
    assert answer.headers["retry-after"] == "1"


def test_sessions_end_when_idle_and_are_bounded():
    now = [0.0]
    sessions = Sessions(TOKEN, lambda: now[0])
    secret = sessions.begin()
    now[0] = 11 * 3600
    assert sessions.get(secret)
    now[0] += 13 * 3600
    assert sessions.get(secret) is None
    first = sessions.begin()
    for _ in range(1000):
        sessions.begin()
    assert sessions.get(first) is None
