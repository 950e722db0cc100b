"""What becomes of slides and workers when a cluster's machines differ, die or have no room."""

import socket
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fakeray import FakeRay, RayError
from fakes import MODEL, make_report

from configs import ConfigError
from pipeline.batch.engines import RayEngine, Recipe, ray, ray_cluster
from pipeline.batch.engines.ray_cluster import plan_room
from pipeline.batch.engines.ray_host import host_class
from pipeline.errors import EngineError, SlideError, WorkerLostError
from pipeline.in_force import InForce
from pipeline.network.detector import RuntimeSettings
from pipeline.reports.report import software_versions
from pipeline.settings import ScreenSettings

FORCE = InForce(MODEL, {"runtime": {"precision": "fp32", "device": "cpu"}}, None)
GONE = RayError("The actor died unexpectedly before finishing this task.")


def greet(node, **other):
    return {
        "node": node,
        "host": node,
        "pid": 7,
        "force": FORCE,
        "software": software_versions(),
    } | other


def well(node, method, *arguments):
    """The answers of a machine on which all is well."""
    if method == "greet":
        return greet(node)
    return (3, 7) if method == "tiles" else make_report(arguments[0])


@pytest.fixture
def start(monkeypatch):
    """Starts an engine on a made-up cluster."""
    engines = []

    def begin(nodes, answer=well, settings=None, **how):
        cluster = FakeRay(nodes, answer)
        monkeypatch.setattr(ray, "load_ray", lambda: cluster)
        chosen = ScreenSettings.model_validate(settings or {})
        engines.append(RayEngine(Recipe("cric-fcos-light", chosen), **how))
        return engines[-1], cluster

    yield begin
    for engine in engines:
        engine.close()


def test_a_lost_worker_is_its_slides_loss_and_another_one_follows_it(start):
    fails = iter([True])

    def answer(node, method, *arguments):
        if method == "screen" and next(fails, False):
            raise RayError("The actor died because its node has died. Node Id: 3f")
        return well(node, method, *arguments)

    warned = []
    engine, cluster = start({"a": 2}, answer, warn=warned.append)
    first = engine.submit("a.tif")
    with pytest.raises(WorkerLostError, match=r"^a\.tif: the worker .* lost: its machine is gone"):
        first.result(60)
    assert first.exception().code == "process-died"
    assert warned == ["Ray: the worker of a.tif on a was lost: its machine is gone"]
    assert engine.submit("a.tif", careful=True).result(60).slide.path == "a.tif"
    assert [actor.is_dead for actor in cluster.actors] == [True, False]


def test_what_a_slide_raised_is_its_own_and_the_worker_stays(start):
    def answer(node, method, *arguments):
        if method == "screen" and arguments[0] == "bad.tif":
            raise SlideError("bad.tif: is no slide")
        return well(node, method, *arguments)

    engine, cluster = start({"a": 2}, answer)
    with pytest.raises(SlideError, match="is no slide"):
        engine.submit("bad.tif").result(60)
    assert engine.submit("good.tif").result(60)
    assert len(cluster.actors) == 1


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"problem": "it has cytolibra 0.0.9, not 0.1.0"}, "it has cytolibra 0.0.9, not 0.1.0"),
        ({"problem": "it doesn't see /slides"}, "it doesn't see /slides"),
        (
            {"force": replace(FORCE, settings={"runtime": {"precision": "bf16"}})},
            "it would screen otherwise: runtime.precision is bf16 there, not fp32",
        ),
        (
            {"force": replace(FORCE, model=MODEL.model_copy(update={"sha256": "1" * 64}))},
            "it would screen otherwise: its model is another one",
        ),
    ],
)
def test_a_machine_that_differs_is_left_out_which_is_told(start, other, why):
    greeted = []  # in the engine's own thread, which begins before the test knows the cluster

    def answer(node, method, *arguments):
        if method == "greet" and node == "b":
            return greet(node, **other) if greeted else None
        if method == "greet":
            greeted.append(node)
        return well(node, method, *arguments)

    warned = []
    engine, cluster = start({"a": 2, "b": 2}, answer, warn=warned.append)
    assert engine.slots == 2
    assert engine.describe() == FORCE
    deadline = time.monotonic() + 5
    while not warned and time.monotonic() < deadline:
        time.sleep(0.01)
    assert warned == [f"Ray: b is left out: {why}"]
    futures = [engine.submit(f"{i}.tif") for i in range(4)]
    assert all(future.result(60) for future in futures)
    assert cluster.actors[-1].without == ("b",)
    assert {a.node for a in cluster.actors if not a.is_dead} == {"a", ""}


def test_where_no_machine_will_do_the_reasons_are_told(start):
    engine, _ = start(
        {"a": 2, "b": 2}, lambda node, *_: greet(node, problem="it doesn't see /slides")
    )
    with pytest.raises(ConfigError, match=r"^engine ray: a: it doesn't see /slides; b: it doesn't"):
        engine.describe()


def test_other_software_is_told_and_used(start):
    warned = []
    other = software_versions() | {"numpy": "1.0.0"}
    engine, _ = start(
        {"a": 2},
        lambda node, method, *rest: (
            greet(node, software=other) if method == "greet" else well(node, method, *rest)
        ),
        warn=warned.append,
    )
    assert engine.submit("a.tif").result(60)
    here = software_versions()["numpy"]
    assert warned == [f"Ray: a has numpy 1.0.0 (here {here}): its results may differ a little"]


def test_nobody_waits_for_ever_for_a_place(start):
    engine, cluster = start({"a": 2}, patience_s=0.3)
    engine.describe()
    cluster.cpus["a"] = 0  # somebody else's now
    cluster.actors[0].asked[0].actor.is_dead = True
    for hand in engine._hands:
        engine._replace(hand)
    with pytest.raises(
        EngineError, match=r"no worker is ready after 0 s: each needs 2 CPU of a ma"
    ):
        engine.submit("a.tif").result(60)
    with pytest.raises(EngineError):  # and so it goes for those that come later
        engine.submit("b.tif").result(1)


def test_workers_that_end_as_they_start_are_not_started_for_ever(start):
    def answer(node, method, *_):
        raise RayError("Task was killed due to the node running low on memory.")

    engine, cluster = start({"a": 2}, answer)
    with pytest.raises(EngineError, match="end as they start: it was ended because its machine ra"):
        engine.describe()
    assert len(cluster.actors) == 3


def test_one_that_never_starts_does_not_stop_the_others(start):
    def answer(node, method, *arguments):
        if node == "b":
            raise GONE
        return well(node, method, *arguments)

    warned = []
    engine, _ = start({"a": 2, "b": 2}, answer, warn=warned.append)
    engine.describe()
    deadline = time.monotonic() + 5
    while not warned and time.monotonic() < deadline:
        time.sleep(0.01)
    assert warned == [
        "Ray: workers end as they start: its process died, perhaps for want of memory; 1 go on"
    ]
    assert all(engine.submit(f"{i}.tif").result(60) for i in range(3))


def test_tiles_are_told_while_a_slide_is_screened(start):
    told, go = [], []

    def answer(node, method, *arguments):
        if method == "tiles":
            go.append(True)
            return (len(go), 7)
        if method == "screen" and len(go) < 2:
            return None
        return well(node, method, *arguments)

    engine, _ = start({"a": 2}, answer, told=lambda *news: told.append(news))
    assert engine.submit("a.tif").result(60)
    assert told[:2] == [("a.tif", 1, 7), ("a.tif", 2, 7)]


def test_tiles_of_a_slide_are_never_told_of_the_next(start):
    told, asked, begun = [], [], []

    def answer(node, method, *arguments):
        if method == "tiles":
            asked.append(True)
            return (9, 9) if begun else None
        if method == "screen" and arguments[0] == "a.tif" and not asked:
            return None
        begun.extend(arguments[:1] if arguments == ("b.tif",) else ())
        return well(node, method, *arguments)

    engine, _ = start({"a": 1}, answer, workers=1, told=lambda *news: told.append(news))
    slides = [engine.submit(name) for name in ("a.tif", "b.tif")]
    assert all(slide.result(60) for slide in slides)
    assert asked
    assert told == []


def test_between_slides_no_tiles_are_told():
    host = host_class()("1", b"", "", [])

    def screen(path):
        host._tell(path, 7, 9)
        assert host.tiles() == (7, 9)
        return make_report(path)

    host._worker = SimpleNamespace(screen=screen)
    host.screen("a.tif")
    assert host.tiles() == (0, 0)


def test_a_slide_that_takes_too_long_fails_and_its_worker_is_ended(start):
    def answer(node, method, *arguments):
        if method == "screen" and arguments[0] == "slow.tif":
            return None
        return well(node, method, *arguments)

    engine, cluster = start({"a": 2}, answer, settings={"limits": {"seconds": 0.3}})
    slow = engine.submit("slow.tif")
    with pytest.raises(SlideError, match=r"slow\.tif: took longer than 0\.3 s \(limits\.seconds\)"):
        slow.result(60)
    assert not isinstance(slow.exception(), WorkerLostError)
    assert slow.exception().code == "over-limit"
    assert engine.submit("next.tif").result(60)
    assert [actor.is_dead for actor in cluster.actors] == [True, False]


def test_memory_is_rays_own_business(start):
    with pytest.raises(ConfigError, match="memory_gb is of --engine local"):
        start({"a": 2}, settings={"limits": {"memory_gb": 4}})


@pytest.mark.parametrize(
    ("nodes", "workers", "runtime", "room"),
    [
        ([{"CPU": 8}, {"CPU": 5}], None, {}, (6, "CPU", 2.0)),
        ([{"CPU": 8}, {"CPU": 5}], None, {"threads": 4}, (3, "CPU", 4.0)),
        ([{"CPU": 1}, {"CPU": 1}], None, {}, (2, "CPU", 1.0)),
        ([{}, {"CPU": 8}], 3, {}, (3, "CPU", 2.0)),  # a head without cores
        ([{"CPU": 2}], 2, {}, (2, "CPU", 1.0)),
        ([{"CPU": 2}], 3, {}, (3, "CPU", 0.6666)),
        ([{"CPU": 7}, {"CPU": 7}], 4, {"threads": 7}, (4, "CPU", 3.0)),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 8}], None, {}, (2, "GPU", 1.0)),
        ([{"CPU": 8, "GPU": 2}], 4, {}, (4, "GPU", 0.5)),
        ([{"CPU": 8, "GPU": 2}], None, {"device": "cpu"}, (4, "CPU", 2.0)),
    ],
)
def test_room(nodes, workers, runtime, room):
    found = plan_room(nodes, workers, RuntimeSettings(**runtime))
    assert (found.slots, found.resource, found.share) == room
    amounts = [node.get(found.resource, 0) for node in nodes]
    assert sum(int(amount / found.share) for amount in amounts) >= found.slots


@pytest.mark.parametrize(
    ("nodes", "runtime", "told"),
    [
        ([{"CPU": 8}], {"device": "cuda"}, "the cluster has no GPU"),
        ([{"GPU": 8}], {"device": "cuda:1"}, "Ray gives each worker its GPU; say cuda"),
        ([{}], {}, "the cluster has no CPU to work with"),
        ([], {}, "the cluster has no CPU to work with"),
    ],
)
def test_no_room(nodes, runtime, told):
    with pytest.raises(ConfigError, match=told):
        plan_room(nodes, None, RuntimeSettings(**runtime))


def test_a_client_is_told_to_come_nearer(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    cluster = FakeRay({}, well)
    monkeypatch.setattr(cluster, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="start the command on a machine of the cluster"):
        ray_cluster.join(cluster)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "[::1]:{port}", "127.0.0.1:99999"])
def test_an_address_at_which_nobody_is_takes_no_minutes(monkeypatch, address):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setenv("RAY_ADDRESS", address.format(port=taken.getsockname()[1]))
        cluster = FakeRay({}, well)
        monkeypatch.setattr(cluster, "is_initialized", lambda: False)
        with pytest.raises(ConfigError, match=r"RAY_ADDRESS=\S+: nobody answers there: .*up\?$"):
            ray_cluster.join(cluster)
