"""Archives of arrays: as they were written, or refused before memory is taken."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from data.arrays import open_arrays


def pack(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


def head(text, content=b""):
    """An array's bytes with any head."""
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text.encode() + content


def of(shape, kind="'|u1'"):
    return head(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n", bytes(4))


def test_arrays_come_as_they_were_saved():
    out = io.BytesIO()
    np.savez_compressed(out, a=np.arange(5), b=np.zeros((0, 4), np.float32))
    with open_arrays(out.getvalue()) as arrays:
        assert arrays["a"].tolist() == [0, 1, 2, 3, 4]
        assert arrays["b"].shape == (0, 4)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04", id="half an archive"),
        pytest.param(pickle.dumps([1]), id="a pickle"),
        pytest.param(of("(4,)"), id="one array alone"),
        pytest.param(pack(a=b"text"), id="a member that is no array"),
        pytest.param(pack(a=of("(10000000000000,)")), id="said to be of terabytes"),
        pytest.param(pack(a=of("(-1,)")), id="of a negative length"),
        pytest.param(pack(a=of("(10**40,)")), id="a calculation"),
        pytest.param(pack(a=of("(10000000000000,)", "'|S0'")), id="of nothing, many times"),
        pytest.param(pack(a=of("(4,)", "'|O'")), id="objects"),
        pytest.param(pack(a=head("{'descr': (\n")), id="a head that ends within brackets"),
        pytest.param(pack(a=head("  {\n {\n")), id="a head that is no Python"),
        pytest.param(pack(a=head("(" * 5000)), id="a deep head"),
    ],
)
def test_anything_else_is_refused(content):
    with pytest.raises(ValueError, match=r".") as caught:
        open_arrays(content)
    assert type(caught.value) is ValueError


def test_a_bomb_is_refused_by_what_it_claims(monkeypatch):
    out = io.BytesIO()
    np.savez_compressed(out, a=np.zeros(1 << 20, np.uint8))
    monkeypatch.setattr(np.lib.format, "read_array", None)  # no array is read
    with pytest.raises(ValueError, match="more than 1000000 bytes"):
        open_arrays(out.getvalue(), 10**6)
