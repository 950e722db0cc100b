"""A server as a process: its address, its folder, its end, and what it refuses to start with."""

import errno
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from reviewfolders import draw_slide, write_result

from configs import ConfigError
from pipeline.review.server import serving
from pipeline.review.server.serving import HOLDER, LOCK, PORT, ViewSettings, address, open_room
from pipeline.review.server.users import add_user
from pipeline.review.store import FILE, StoreError

REPO = Path(__file__).resolve().parents[4]


@pytest.fixture
def reports(tmp_path):
    """A folder of reports of one slide."""
    slide = draw_slide(tmp_path / "slides" / "one.tif")
    write_result(tmp_path / "reports", "one.tif", slide)
    return tmp_path / "reports"


@contextmanager
def view(*arguments):
    """A server of its own, and the address that it prints."""
    command = [sys.executable, "-m", "scripts", "view", *map(str, arguments), "--no-browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPO, **pipes) as process:
        try:
            line = process.stdout.readline()
            found = re.fullmatch(r"1 slide at (\S+)\n", line)
            assert found, line + process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()


def ask(url, path, cookie=None, body=None):
    host = re.match(r"http://([^/]+)/", url)[1]
    connection = http.client.HTTPConnection(host, timeout=10)
    headers = {"Cookie": cookie} if cookie else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    content = json.dumps(body) if body is not None else None
    connection.request("POST" if body is not None else "GET", path, content, headers)
    answer = connection.getresponse()
    return answer, answer.read()


def test_a_server_prints_its_address_keeps_what_was_said_and_ends_at_once(reports):
    with view(reports) as (process, url):
        entered, _ = ask(url, url[url.index("/?") :])
        cookie = entered.headers["Set-Cookie"].partition(";")[0]
        _, listed = ask(url, "/api/slides", cookie)
        (slide,) = json.loads(listed)["slides"]
        answer, tile = ask(url, f"/api/slides/{slide['id']}/tiles/11/0_0.jpg", cookie)
        assert answer.status == 200
        assert tile.startswith(b"\xff\xd8")
        ask(url, "/api/session", cookie, {"name": "Ann"})
        change = {"id": "a" * 32, "version": 0, "kind": "slide", "comment": "kept"}
        answer, _ = ask(url, f"/api/slides/{slide['id']}/changes", cookie, change)
        assert answer.status == 200
        known = json.loads((reports / HOLDER).read_text())
        assert known["address"] == url[: url.index("?")]
        assert "token" not in (reports / HOLDER).read_text()

        second = subprocess.run(
            [sys.executable, "-m", "scripts", "view", reports, "--no-browser"],
            cwd=REPO,
            capture_output=True,
            text=True,
        )
        assert second.returncode == 2
        assert known["address"] in second.stderr
        assert second.stderr.count("\n") == 1

        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert time.monotonic() - start < 20  # a tenth of a second where nothing else works
        assert "every decision is kept" in process.stdout.read()
    assert not (reports / LOCK).exists()
    assert not (reports / HOLDER).exists()
    with serving.ReviewStore.open(reports, read_only=True) as store:
        (entry,) = store.history()
        assert entry.reader.name == "Ann"


def test_told_to_end_by_the_system_it_gives_the_folder_back(reports):
    with view(reports) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not (reports / LOCK).exists()
    assert not (reports / HOLDER).exists()


@pytest.mark.slow
def test_after_a_kill_the_next_server_takes_over(reports):
    with view(reports) as (process, url):
        cookie = ask(url, url[url.index("/?") :])[0].headers["Set-Cookie"].partition(";")[0]
        ask(url, "/api/session", cookie, {"name": "Ann"})
        process.kill()
        process.wait()
    assert (reports / HOLDER).exists()
    with open_room(ViewSettings(reports)) as (room, _, _):
        assert [one.name for one in room.store.readers()] == ["Ann"]


def test_the_address_has_the_token_and_the_port(reports):
    settings = ViewSettings(reports)
    with open_room(settings) as (room, listening, _):
        port = listening.getsockname()[1]
        assert address(settings, room, port) == (
            f"http://127.0.0.1:{port}/?token={room.sessions.token}"
        )
        assert len(room.sessions.token) >= 32
        assert room.hosts == {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}


def test_a_second_server_may_look(reports):
    with (
        open_room(ViewSettings(reports)),
        open_room(ViewSettings(reports, read_only=True)) as (room, _, _),
    ):
        assert room.read_only
        with (
            pytest.raises(ConfigError, match="another server serves it already at http"),
            open_room(ViewSettings(reports)),
        ):
            pass


def test_a_port_in_use_is_told(reports):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"127.0.0.1:{port}: .*another --port"),
            open_room(ViewSettings(reports, port=port)),
        ):
            pass
    assert not (reports / LOCK).exists(), "the folder is free again"


def test_a_folder_is_served_where_it_was_last(reports):
    def served(**more):
        with open_room(ViewSettings(reports, **more)) as (_, listening, told):
            return listening.getsockname()[1], [line for line in told if "--port" in line]

    first, told = served()
    assert (served(), told) == ((first, []), [])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        (second, (line,)) = served()
        assert second != first
        assert f"--port {first}" in line
    assert served(port=first) == (first, [])
    with open_room(ViewSettings(reports)), open_room(ViewSettings(reports, read_only=True)):
        pass
    assert served() == (first, [])


@pytest.mark.parametrize("content", [b"", b"x", b"-1", b"0", b"70000", b"\xff", b"9" * 5000])
def test_what_is_no_port_is_not_tried(reports, content):
    (reports / PORT).write_bytes(content)
    with open_room(ViewSettings(reports)) as (_, listening, told):
        assert not any("--port" in line for line in told)
        assert (reports / PORT).read_text() == f"{listening.getsockname()[1]}\n"


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "a\0b", "x" * 500])
def test_an_address_of_another_machine_is_told(reports, tmp_path, host):
    add_user(tmp_path / "users", "Ann", "long enough")
    settings = ViewSettings(reports, host=host, users=tmp_path / "users")
    with pytest.raises(ConfigError, match="host"), open_room(settings):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "lab.example"])
def test_others_come_in_by_password_only(reports, host):
    with (
        pytest.raises(ConfigError, match="--users FILE"),
        open_room(ViewSettings(reports, host=host)),
    ):
        pass


def test_without_tls_it_is_told_that_all_can_read_along(reports, tmp_path):
    add_user(tmp_path / "users", "Ann", "long enough")
    settings = ViewSettings(reports, host="0.0.0.0", users=tmp_path / "users", names=("Lab",))
    with open_room(settings) as (room, listening, told):
        assert any("without --tls" in line for line in told)
        assert room.hosts is None
        assert "lab" in room.names
        assert room.sessions.token is None
        assert "token" not in address(settings, room, listening.getsockname()[1])


def test_certificates_that_can_not_be_used_are_told(reports, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with (
        pytest.raises(ConfigError, match=r"--tls .*cert\.pem: no such file"),
        open_room(ViewSettings(reports, tls=(certificate, key))),
    ):
        pass
    certificate.write_text("none")
    key.write_text("none")
    with (
        pytest.raises(ConfigError, match="no certificate and its key"),
        open_room(ViewSettings(reports, tls=(certificate, key))),
    ):
        pass


@pytest.mark.slow
def test_with_tls_it_is_https(reports, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    files = ["-subj", "/CN=localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *files], capture_output=True, check=True)
    settings = ViewSettings(reports, tls=(certificate, key))
    with open_room(settings) as (room, _, told):
        assert room.scheme == "https"
        assert address(settings, room, 1).startswith("https://127.0.0.1:1/?token=")
        assert not any("--tls" in line for line in told)
    with view(reports, "--tls", certificate, key) as (_, url):
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        host = re.match(r"https://([^/]+)/", url)[1]
        connection = http.client.HTTPSConnection(host, context=context, timeout=10)
        connection.request("GET", url[url.index("/?") :])
        answer = connection.getresponse()
        assert answer.status == 303
        assert "secure" in answer.headers["Set-Cookie"].lower()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path: path.write_bytes(b"x" * 10_000), None),
        (lambda path: _set_version(path, 99), "newer"),
    ],
)
def test_reviews_that_can_not_be_used_are_told_and_left_alone(reports, spoil, code):
    with open_room(ViewSettings(reports)) as (room, _, _):
        room.store.reader("Ann")
    spoil(reports / FILE)
    before = (reports / FILE).read_bytes()
    with pytest.raises(StoreError) as caught, open_room(ViewSettings(reports)):
        pass
    assert code in (None, caught.value.code)
    assert (reports / FILE).read_bytes() == before
    assert not (reports / LOCK).exists()


def _set_version(path, version):
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def test_a_folder_that_can_not_be_written_is_shown_read_only(reports, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with (
        pytest.raises(ConfigError, match=r"can't be written to .*--read-only"),
        open_room(ViewSettings(reports)),
    ):
        pass
    with open_room(ViewSettings(reports, read_only=True)) as (room, _, _):
        assert len(room.catalogue) == 1
    assert not (reports / FILE).exists()


@pytest.mark.skipif(os.name != "posix", reason="others may write by other rules")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_told(reports, monkeypatch, number):
    def unknown(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", unknown)
    with open_room(ViewSettings(reports)) as (_, _, told):
        assert any("has no locks" in line for line in told)


@pytest.mark.skipif(os.name != "posix", reason="others may write by other rules")
def test_what_a_killed_server_leaves_keeps_nobody_out(reports):
    with open_room(ViewSettings(reports)):
        assert (reports / LOCK).stat().st_mode & 0o666 == 0o666
