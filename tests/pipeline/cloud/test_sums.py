import base64
import hashlib

import pytest

from pipeline.cloud.sums import Checker, known_sums, md5_of_etag

DATA = b"a slide"


def test_the_strongest_sum_that_was_told_is_computed():
    md5, sha256 = hashlib.md5(DATA).hexdigest(), hashlib.sha256(DATA).digest()
    sums = known_sums({"md5": md5, "sha256": base64.b64encode(sha256).decode()})
    checker = Checker(sums)
    checker.update(DATA[:3])
    checker.update(DATA[3:])
    assert (checker.kind, checker.fits, checker.sha256) == ("sha256", True, sha256)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("md5", base64.b64encode(hashlib.md5(DATA).digest()).decode()),
        ("md5", bytearray(hashlib.md5(DATA).digest())),
        ("sha1", base64.b64encode(hashlib.sha1(DATA).digest()).decode()),
        ("crc32", "A8yEZg=="),
        ("crc32c", "KjjXmg=="),
    ],
)
def test_each_kind_tells_the_same_bytes_from_others(kind, value):
    if kind == "crc32c":
        pytest.importorskip("google_crc32c", reason="the extra cloud is not installed")
    sums = known_sums({kind: value})
    assert list(sums) == [kind]
    right, wrong = Checker(sums), Checker(sums)
    right.update(DATA)
    wrong.update(DATA[:-1] + b"x")
    assert right.fits
    assert not wrong.fits


def test_what_is_no_sum_is_left_out():
    told = {"md5": "nonsense!", "sha1": "aGk=", "crc64nvme": "AAAAAAAAAAA=", "sha256": None}
    assert known_sums(told) == {}
    checker = Checker({})
    checker.update(DATA)
    assert (checker.kind, checker.fits) == ("", True)


def test_an_etag_is_an_md5_unless_it_was_sent_in_parts():
    md5 = hashlib.md5(DATA).hexdigest()
    assert md5_of_etag(f'"{md5}"') == md5
    assert md5_of_etag(f'"{md5}-3"') is None
    assert md5_of_etag(None) is None
