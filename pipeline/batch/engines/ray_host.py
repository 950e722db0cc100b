"""What runs on the machines of a Ray cluster."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.batch.engines.worker import Recipe, Worker
from pipeline.reports.report import software_versions

Tell = Callable[[Path, int, int], None]


def host_class() -> type:
    """The class of the actors.

    It is defined in here so that Ray sends its code along: a machine that lacks CytoLibra, or has
    another version, can say so.
    """

    class Host:
        """A worker on some machine of the cluster.

        Args:
            version: of CytoLibra, that must be there.
            recipe: what to do, pickled.
            folder: of the caller, in which paths are looked up.
            places: what it must see.
        """

        def __init__(self, version: str, recipe: bytes, folder: str, places: list[str]) -> None:
            self._version, self._recipe = version, recipe
            self._folder, self._places = folder, places
            self._done = (0, 0)
            self._worker: Any = None

        def greet(self) -> dict[str, Any]:
            """Loads the network and says who is here, and what is in force or what is wrong."""
            import os
            import socket
            from importlib import import_module

            import ray

            node = ray.get_runtime_context().get_node_id()
            said: dict[str, Any] = {"node": node, "host": socket.gethostname(), "pid": os.getpid()}
            try:
                import_module("cytolibra")  # as an outsider: whatever lies beside, ours are found
                from pipeline.reports.report import software_versions

                version = software_versions().get("cytolibra", "unknown")
                if version != self._version:
                    return said | {"problem": f"it has cytolibra {version}, not {self._version}"}
                from pipeline.batch.engines.ray_host import prepare
            except Exception as error:
                return said | {"problem": f"cytolibra can't be imported there: {error}"}
            self._worker, facts = prepare(self._recipe, self._folder, self._places, self._tell)
            return said | facts

        def screen(self, path: str) -> Any:
            """Screens a slide."""
            from pathlib import Path

            from pipeline.batch.engines.child import portable

            try:
                return self._worker.screen(Path(path))
            except Exception as error:
                raise portable(error) from None
            finally:
                self._done = (0, 0)  # before the next slide is handed out

        def tiles(self) -> tuple[int, int]:
            """How many tiles of the slide in work are done, of how many."""
            return self._done

        def _tell(self, path: object, done: int, tiles: int) -> None:
            self._done = (done, tiles)

    return Host


def our_version() -> str:
    """Of CytoLibra here."""
    return software_versions().get("cytolibra", "unknown")


def prepare(
    recipe: bytes, folder: str, places: list[str], tell: Tell
) -> tuple[Worker | None, dict[str, Any]]:
    """A worker with its network loaded, and what is to be said of it.

    Returns:
        The worker, and ``force`` (`InForce`) and ``software``; or None, and the ``problem``.
    """
    from configs import CytoLibraError

    try:
        if os.path.isdir(folder):
            os.chdir(folder)
        if unseen := [place for place in places if not os.path.exists(place)]:
            return None, {"problem": f"it doesn't see {unseen[0]}"}
        todo: Recipe = pickle.loads(recipe)  # of our own driver
        worker = todo.worker(tell)
        return worker, {"force": worker.describe(), "software": software_versions()}
    except CytoLibraError as error:
        return None, {"problem": str(error)}
