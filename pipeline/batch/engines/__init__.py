"""Who screens the slides of a batch: threads of this process, other processes, or a cluster.

An engine takes paths and promises reports. What is written, recorded and told stays with the batch,
in one process, so that every engine gives the same results.
"""

from pipeline.batch.engines.base import Engine, Screen, Told
from pipeline.batch.engines.local import STAGGERED, LocalEngine
from pipeline.batch.engines.processes import ProcessEngine, devices_for, processes_of
from pipeline.batch.engines.ray import RayEngine
from pipeline.batch.engines.rescoring import RescoringAside
from pipeline.batch.engines.worker import Recipe, Worker

__all__ = [
    "STAGGERED",
    "Engine",
    "LocalEngine",
    "ProcessEngine",
    "RayEngine",
    "Recipe",
    "RescoringAside",
    "Screen",
    "Told",
    "Worker",
    "devices_for",
    "processes_of",
]
