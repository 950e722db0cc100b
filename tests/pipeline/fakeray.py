"""A stand-in for Ray: machines that a test gives and takes, actors that answer as it says."""

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace


class RayError(Exception):
    """Of a worker that is gone, or a machine."""


class RayTaskError(RayError):
    """What a worker raised."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Ref:
    """What will be there once its actor has a place."""

    def __init__(self, actor, name, arguments):
        self.actor, self.name, self.arguments = actor, name, arguments
        self.value = None
        self.is_there = False


@dataclass(eq=False)
class Actor:
    ray: "FakeRay"
    needs: float
    without: tuple[str, ...]
    node: str = ""
    is_dead: bool = False
    asked: list = field(default_factory=list)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)

        def remote(*arguments):
            ref = Ref(self, name, arguments)
            self.asked.append(ref)
            return ref

        method = SimpleNamespace(remote=remote)
        method.options = lambda **_: method
        return method


class FakeRay:
    """A cluster.

    Args:
        nodes: CPUs by a machine's name.
        answer: what a call gives, of machine, method and arguments; what it raises is raised there,
            a `RayError` ends the actor. None: not yet.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, nodes, answer):
        self.cpus = dict(nodes)
        self.answer = answer
        self.actors = []
        self.lock = threading.RLock()

    def is_initialized(self):
        return True

    def nodes(self):
        return [
            {"NodeID": name, "Alive": True, "Resources": {"CPU": cpus}}
            for name, cpus in self.cpus.items()
        ]

    def cluster_resources(self):
        return {"CPU": sum(self.cpus.values())}

    def available_resources(self):
        return {"CPU": sum(map(self.free, self.cpus))}

    def free(self, node):
        taken = [a.needs for a in self.actors if a.node == node and not a.is_dead]
        return self.cpus[node] - sum(taken)

    def remote(self, **_):
        def options(num_cpus=0, label_selector=None, **_):
            text = (label_selector or {}).get("ray.io/node-id", "!in()")
            without = tuple(text.removeprefix("!in(").removesuffix(")").split(","))

            def start(*_):
                self.actors.append(Actor(self, num_cpus, without))
                return self.actors[-1]

            return SimpleNamespace(remote=start)

        return lambda _: SimpleNamespace(options=options)

    def kill(self, actor):
        actor.is_dead = True

    def wait(self, refs, num_returns=1, timeout=None):
        for actor in self.actors:
            self._place(actor)
        for ref in refs:
            self._settle(ref)
        ready = [ref for ref in refs if ref.is_there][:num_returns]
        if not ready and timeout:
            threading.Event().wait(min(timeout, 0.01))
        return ready, [ref for ref in refs if ref not in ready]

    def _place(self, actor):
        for node in self.cpus:
            if not actor.node and node not in actor.without and self.free(node) >= actor.needs:
                actor.node = node

    def _settle(self, ref):
        if ref.is_there or not ref.actor.node:
            return
        try:
            ref.value = self.answer(ref.actor.node, ref.name, *ref.arguments)
            ref.is_there = ref.value is not None
        except RayError as error:
            ref.actor.is_dead, ref.is_there, ref.value = True, True, error
        except Exception as error:
            ref.is_there, ref.value = True, RayTaskError(error)

    def get(self, ref):
        assert ref.is_there
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value
