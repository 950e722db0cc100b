"""Users and their passwords."""

import os
import stat
from dataclasses import replace

import pytest
from argon2 import PasswordHasher
from viewbrowsers import Browser

from configs import ConfigError
from pipeline.review.server import users as module
from pipeline.review.server.sessions import Sessions
from pipeline.review.server.throttle import Bucket, LoginBrake
from pipeline.review.server.users import Users, add_user


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Hashes that take a millisecond: how long they take is argon2's own business."""
    monkeypatch.setattr(module, "PasswordHasher", lambda: PasswordHasher(1, 8, 1))


@pytest.fixture
def guarded(room, tmp_path):
    """The room for users alone."""
    path = tmp_path / "users"
    add_user(path, "Ann", "right password")
    now = [0.0]
    return replace(
        room,
        users=Users.load(path),
        sessions=Sessions(None),
        brake=LoginBrake(lambda: now[0]),
    ), now


def sign_in(browser, name, password):
    return browser.post("/api/session", json={"name": name, "password": password})


def test_only_the_right_password_lets_in(guarded):
    room, _ = guarded
    browser = Browser(room, come_in=False)
    assert browser.get("/api/slides").status_code == 401
    told = browser.get("/api/session").json()
    assert (told["mode"], told["reader"], told["readers"], told["folder"]) == (
        "users",
        None,
        [],
        "",
    )
    assert browser.get("/").status_code == 200
    assert browser.get("/?token=").status_code == 401
    for name, password in (("Ann", "wrong"), ("Eve", "right password"), ("Ann", "")):
        answer = sign_in(browser, name, password)
        assert answer.status_code == 401
        assert answer.json()["message"] == "name or password is wrong"
    room.brake.passed("name:ann", "address:127.0.0.1")
    answer = sign_in(browser, "ann", "right password")
    assert answer.json()["reader"]["name"] == "Ann"
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert browser.get("/api/slides").status_code == 200
    secret = browser.cookies[room.cookie]
    assert browser.delete("/api/session").status_code == 200
    browser.cookies.set(room.cookie, secret)
    assert browser.get("/api/slides").status_code == 401, "the session has ended, not its cookie"


def test_a_reader_can_not_take_anothers_name(guarded):
    room, _ = guarded
    browser = Browser(room, come_in=False)
    sign_in(browser, "Ann", "right password")
    assert sign_in(browser, "Bob", "right password").status_code == 401
    assert browser.get("/api/session").json()["reader"]["name"] == "Ann"


def test_wrong_passwords_make_the_next_ones_wait(guarded):
    room, now = guarded
    browser = Browser(room, come_in=False)
    for _ in range(3):
        assert sign_in(browser, "Ann", "wrong").status_code == 401
    answer = sign_in(browser, "Ann", "right password")
    assert (answer.status_code, answer.json()["error"]) == (429, "slow")
    assert answer.headers["retry-after"] == "2"
    # Another name from there has to wait, too.
    assert sign_in(browser, "Bob", "x").status_code == 429
    now[0] += 1.01
    assert sign_in(browser, "Ann", "wrong").status_code == 401
    now[0] += 1.5
    assert sign_in(browser, "Ann", "right password").status_code == 429, "twice as long now"
    now[0] += 1
    assert sign_in(browser, "Ann", "right password").status_code == 200


def test_the_wait_is_bounded():
    now = [0.0]
    brake = LoginBrake(lambda: now[0])
    for _ in range(50):
        brake.failed("name:a")
    assert brake.wait_s("name:a", "address:b") == 60
    assert brake.wait_s("name:c", "address:b") == 0


def test_a_bucket_gives_a_burst_and_then_its_rate():
    now = [0.0]
    bucket = Bucket(rate=10, burst=3, clock=lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 0.25
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] = 100
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_users_are_added_and_changed_for_their_owner_alone(tmp_path):
    path = tmp_path / "users"
    assert add_user(path, "Ann", "password one") is True
    assert add_user(path, "李 医生", "password two") is True
    assert add_user(path, "ANN", "password three") is False
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "password" not in path.read_text()
    known = Users.load(path)
    assert known.doubts == ()
    assert known.check("ann", "password three") == "ANN"
    assert known.check("Ann", "password one") is None
    assert known.check("李 医生", "password two") == "李 医生"
    assert os.listdir(tmp_path) == ["users"]
    path.chmod(0o644)
    assert "chmod 600" in Users.load(path).doubts[0]


@pytest.mark.parametrize(
    ("name", "password", "told"),
    [
        ("", "long enough", "name is empty"),
        ("a:b", "long enough", "no colon"),
        ("#a", "long enough", "no #"),
        ("a\nb", "short", "8 to 1000"),
        ("a", "x" * 1001, "8 to 1000"),
        ("a\x07", "long enough", "can't be seen"),
    ],
)
def test_names_and_passwords_that_can_not_be_are_refused(tmp_path, name, password, told):
    with pytest.raises(ConfigError, match=told):
        add_user(tmp_path / "users", name, password)
    assert not (tmp_path / "users").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read"),
        ("", "names nobody"),
        ("# nobody\n\n", "names nobody"),
        ("ann:secret\n", "line 1: expected name"),
        ("ann:$argon2id$nonsense\n", "line 1: expected name"),
        ("ann\n", "line 1: expected name"),
        (b"\xff\xfe", "no text in UTF-8"),
        ("x" * (2 << 20), "too large"),
    ],
)
def test_a_file_of_users_that_is_none_is_refused(tmp_path, content, told):
    path = tmp_path / "users"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=told):
        Users.load(path)


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "users"
    add_user(path, "Ann", "password one")
    path.write_text(path.read_text() + path.read_text().replace("Ann", "ann"))
    with pytest.raises(ConfigError, match="line 2: ann is there twice"):
        Users.load(path)
