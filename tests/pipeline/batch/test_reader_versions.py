"""A result counts only while the package that reads its slide has the same version."""

import pytest
from distributions import READING, install

from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import Fingerprint, is_of_slide, stamp_files
from pipeline.slides import containers
from pipeline.slides.offers import installed_offers


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(containers, "_OTHERS", frozenset({".raw"}))
    installed_offers.cache_clear()
    yield folder
    installed_offers.cache_clear()


def test_another_version_of_a_package_makes_results_anew(site, tmp_path):
    install(site, "raw-slides", READING, {"raw": "Raw", "svs": "Raw"})
    for name, reader in {"a.raw": "raw-slides 1.2", "b.svs": ""}.items():
        path = tmp_path / name
        path.write_bytes(b"pixels")
        job = SlideJob(path, name)
        known = Fingerprint(recipe="", files=stamp_files(job), sha256="", reader=reader)
        assert is_of_slide(job, tmp_path, known)
        other = known.model_copy(update={"reader": "raw-slides 1.1"})
        assert not is_of_slide(job, tmp_path, other)
        gone = SlideJob(path, name, gone=True)
        assert is_of_slide(gone, tmp_path, other)
