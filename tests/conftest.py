"""Fixtures that every part of the tests shares."""

import gc
import json
import logging
import os
import signal
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from remoteservers import Bucket, proxy

# No deadline an example: machines are noisy. No draws by chance: a change is to blame for what
# it breaks. The examples still differ with hypothesis' version and with the code's constants.
settings.register_profile("cytolibra", deadline=None, derandomize=True)
settings.load_profile("cytolibra")

REPO = Path(__file__).resolve().parent.parent

# What a shell's script starts in the background is deaf to Ctrl-C, what nohup starts to a terminal
# that is closed, and so is all that these start: tests that send such signals would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# A million objects are there once all tests are collected, and there until they end: each look for
# garbage among them would take a second.
def pytest_collection():
    gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    gc.unfreeze()  # else libraries take what they made for leaked


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_tests(tmp_path_factory):
    """Compiled networks never go into the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYTOLIBRA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _threads_of_torch():
    """A test that sets the threads of torch sets them for itself: sums depend on them."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real cells and slides beside the checkout; skips where it is missing."""
    folder = Path(os.environ.get("CYTOLIBRA_SHARED", REPO.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"real cells and slides are not here ({folder}); set CYTOLIBRA_SHARED")
    return folder


@pytest.fixture(scope="session")
def _store():
    """An object store on this machine: its port, and a client of it."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    pytest.importorskip("s3fs", reason="the extra cloud is not installed")
    boto3 = pytest.importorskip("boto3", reason="comes with moto[server]")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    yield port, client
    server.stop()


@pytest.fixture
def bucket(_store, monkeypatch):
    """An empty bucket of an object store, and the environment that leads to it."""
    port, client = _store
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    with proxy(port) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        found = Bucket(client, server, name)
        yield found
        found.clear()


@pytest.fixture
def crowded(coco):
    """The same with the first cell as a crowd."""
    content = json.loads(coco[0].read_text())
    content["annotations"][0]["iscrowd"] = 1
    coco[0].write_text(json.dumps(content))
    return coco


@pytest.fixture
def coco(tmp_path):
    """Two fields at 0.25 µm/px with a dark square on each cell; (json path, images folder)."""
    images = tmp_path / "images"
    images.mkdir()
    cells = {1: [(10, 20, 40, 40, 1), (120, 60, 40, 40, 2)], 2: [(60, 60, 40, 40, 2)]}
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 200, "height": 150, "mpp": 0.25}
            for i in cells
        ],
        "categories": [{"id": 1, "name": "NILM"}, {"id": 2, "name": "HSIL"}],
        "annotations": [],
    }
    for i, rows in cells.items():
        pixels = np.full((150, 200, 3), 230, np.uint8)
        for x, y, w, h, category in rows:
            pixels[y : y + h, x : x + w] = 80
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": i,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                }
            )
        Image.fromarray(pixels).save(images / f"{i}.png")
    path = tmp_path / "fields.json"
    path.write_text(json.dumps(content))
    return path, images
