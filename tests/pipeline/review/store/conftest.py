import pytest

from pipeline.review.store import ReviewStore


@pytest.fixture
def store(tmp_path):
    with ReviewStore.open(tmp_path) as opened:
        yield opened
