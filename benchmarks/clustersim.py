"""A batch on many machines, as a discrete-event simulation: see ``simulate_cluster.py``.

What machines share flows like a fluid: the bandwidth of the storage that holds the slides, and the
answers of its file server (look-ups, creations, renames). Each activity asks for so much a second
while it goes on; where all together ask for more than there is, all go on slower by one factor. So
each shared thing has a clock of its own, which slows down then, and activities end by that clock:
no event has to be moved when another one begins.

Simplified, and told in docs/concepts/million.md: a machine is two cores that screen one slide at a
time; all of them begin at once; slides are read while they are screened, without ever waiting for
the first tile; what is shared is shared by demand.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field

from configs import StrictModel

Way = Literal["shards", "claims", "ray"]
WAYS: tuple[Way, ...] = ("shards", "claims", "ray")

CAUSES = (
    "work",
    "storage",
    "file server",
    "driver",
    "start",
    "summary",
    "lost",
    "idle",
)
"""What machines spend their hours on: screening as if alone; waiting for bytes, for the file server
or for the Ray driver to give out slides; starting (finding slides and what is done); the summary;
what a loss undid; waiting for others at the end."""


class Slides(StrictModel):
    """The slides; each field says where its value is from."""

    seconds: float = Field(
        42.0,
        gt=0,
        description="to screen one of 62,000 x 46,500 px on two cores: 38 to 40 s by the detector "
        "alone, times 1.1 for the second look (figures.md)",
    )
    spread: float = Field(
        0.35, ge=0, description="standard deviation of its logarithm; assumed: deposits differ"
    )
    slow_share: float = Field(
        0.002, ge=0, le=1, description="of slides that take far longer; assumed"
    )
    slow_times: float = Field(10.0, ge=1, description="as long as others; assumed")
    gigabytes: float = Field(
        0.85,
        gt=0,
        description="in a file: 2.88 gigapixels, at the 0.29 bytes a pixel of "
        "CMU-1-Small-Region.svs",
    )
    failing: float = Field(0.005, ge=0, le=1, description="share that fails at opening; assumed")


class Machines(StrictModel):
    """The machines, of two cores each."""

    slow_share: float = Field(0.2, ge=0, le=1, description="of older ones without VNNI; assumed")
    slow_times: float = Field(
        1.8,
        ge=1,
        description="as long as others: 8.0 s with AVX2 alone, 4.5 s with VNNI (figures.md)",
    )
    hours_to_loss: float = Field(
        720.0, gt=0, description="until one is lost, in the mean; assumed: once a month"
    )
    back_s: float = Field(300.0, ge=0, description="until another one takes its place; assumed")
    start_s: float = Field(3.0, ge=0, description="to load program and network (figures.md)")


class Storage(StrictModel):
    """The share that holds slides and results."""

    gigabytes_per_s: float = Field(1.25, gt=0, description="of all together: 10 Gb/s; assumed")
    ops_per_s: float = Field(
        10_000.0, gt=0, description="look-ups, creations, renames of all together; assumed"
    )
    op_ms: float = Field(0.5, gt=0, description="until one is answered; assumed")


class Costs(StrictModel):
    """What CytoLibra itself spends, beside screening."""

    start_ms: float = Field(
        0.11,
        ge=0,
        description="processor time of each process for each slide of the batch, to find it and to "
        "tell of it at the end: bench_calls.py --run, a shard of 500 and of 5,500 slides",
    )
    start_ops: float = Field(
        13.0,
        ge=0,
        description="asked of the file server likewise: bench_calls.py, a shard of many",
    )
    slide_ops: float = Field(
        62.0,
        ge=0,
        description="asked of it for each slide that is screened, with its claim: 56.6 less those "
        "13 (bench_calls.py), and 18 for opening it (strace of screen)",
    )
    look_ops: float = Field(
        4.0,
        ge=0,
        description="more, with claims, of each process for each slide that others have done: 17 "
        "less 13 (bench_calls.py)",
    )
    publish_s: float = Field(
        0.013,
        ge=0,
        description="to write results and records, in the batch's own thread: bench_calls.py "
        "--run, 300 and 1,300 slides to do, 50 cells each",
    )
    hash_gb_per_s: float = Field(
        1.76, gt=0, description="SHA-256 of a slide's file, likewise: hashlib on 64 MiB"
    )
    summary_ms: float = Field(
        0.12,
        ge=0,
        description="a slide of the batch, for the summary: 0.23 less 0.11; bench_calls.py --run, "
        "300 and 1,300 slides done",
    )
    stale_s: float = Field(
        120.0, ge=0, description="until a dead process's claim is taken over: claims.Pace"
    )
    detect_s: float = Field(30.0, ge=0, description="until Ray takes a node for dead; assumed")


class Rates(StrictModel):
    """All that the simulation goes by."""

    slides: Slides = Slides()
    machines: Machines = Machines()
    storage: Storage = Storage()
    costs: Costs = Costs()


@dataclass
class Outcome:
    """How a simulated batch went.

    Attributes:
        hours: from the start until the last machine has ended.
        spent: machine hours, by `CAUSES`; machines that are gone cost nothing.
        losses: machines that were lost.
        redone: slides that were begun again.
        failed: slides.
        done: slides that were screened.
    """

    hours: float = 0.0
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0.0))
    losses: int = 0
    redone: int = 0
    failed: int = 0
    done: int = 0

    @property
    def machine_hours(self) -> float:
        """Of all machines."""
        return sum(self.spent.values())

    def share(self, cause: str) -> float:
        """Of the machine hours."""
        return self.spent[cause] / self.machine_hours

    @property
    def breaks(self) -> str:
        """What costs most beside the work itself."""
        return max((cause for cause in CAUSES if cause != "work"), key=lambda c: self.spent[c])


class Fluid:
    """Something that is shared by demand, with a clock that slows down where too much is asked."""

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity
        self._load = self._clock = self._now = 0.0
        self._ends: list[tuple[float, int, int]] = []
        self._demands: dict[int, float] = {}

    def begin(self, key: int, now: float, demand: float, seconds: float) -> None:
        """Something begins that asks for ``demand`` a second, for so many seconds if alone."""
        self._advance(now)
        self._demands[key] = demand
        self._load += demand
        heapq.heappush(self._ends, (self._clock + seconds, key, key))

    def stop(self, key: int, now: float) -> None:
        """It ends, or is cut short."""
        self._advance(now)
        self._load -= self._demands.pop(key)
        if not self._demands:
            self._load = 0.0  # no rests of rounding

    def holds(self, key: int | None) -> bool:
        """Whether it goes on here."""
        return key in self._demands

    def next(self) -> tuple[float, int] | None:
        """When the next one ends, and which; None where nothing goes on."""
        while self._ends and self._ends[0][1] not in self._demands:
            heapq.heappop(self._ends)
        if not self._ends:
            return None
        end, key, _ = self._ends[0]
        return self._now + max(0.0, end - self._clock) / self._pace, key

    @property
    def _pace(self) -> float:
        return min(1.0, self._capacity / self._load) if self._load > 0 else 1.0

    def _advance(self, now: float) -> None:
        self._clock += (now - self._now) * self._pace
        self._now = now


@dataclass
class _Machine:
    """What one machine does: since when, on which slide, and which activity of a fluid it is."""

    index: int
    times: float
    state: str = "start"
    since: float = 0.0
    slide: int | None = None
    key: int | None = None
    fluid: Fluid | None = None
    life: int = 0
    redo: deque[int] = field(default_factory=deque)
    next_own: int = 0


class _Simulation:
    """One batch; times in seconds."""

    def __init__(self, rates: Rates, slides: int, machines: int, way: Way, seed: int) -> None:
        self._rates, self._way, self._slides = rates, way, slides
        self._random = random = np.random.default_rng(seed)
        self._seconds = _seconds(rates.slides, slides, random)
        self._fails = random.random(slides) < rates.slides.failing
        slow = random.random(machines) < rates.machines.slow_share
        self._machines = [
            _Machine(n, rates.machines.slow_times if slow[n] else 1.0, next_own=n)
            for n in range(machines)
        ]
        self._storage = Fluid(rates.storage.gigabytes_per_s)
        self._server = Fluid(rates.storage.ops_per_s)
        self._timed: list[tuple[float, int, Callable[[], None]]] = []
        self._keys = itertools.count()
        self._then: dict[int, Callable[[], None]] = {}
        self._now = 0.0
        self._next = 0
        self._again: deque[int] = deque()
        self._left = slides
        self._at_work = machines
        self._waiting: list[_Machine] = []
        self._found: list[int] = []
        self._written: list[int] = []
        self._driver_key: int | None = None
        self._driver_works = False
        self._told = Outcome()

    def run(self) -> Outcome:
        """The batch from its start to its end."""
        if self._way == "ray":
            self._start_driver()
            self._lose_driver_later()
        for machine in self._machines:
            self._lose_later(machine)
            if self._way != "ray":
                self._start(machine)
        while self._step():
            pass
        self._told.hours = self._now / 3600
        self._told.spent = {cause: s / 3600 for cause, s in self._told.spent.items()}
        return self._told

    def _step(self) -> bool:
        """The next event; False where there is none, or all machines have ended."""
        if self._at_work == 0:
            return False
        coming = [
            (found[0], place, found[1])
            for place, fluid in enumerate((self._storage, self._server))
            if (found := fluid.next())
        ]
        if self._timed and (not coming or self._timed[0][0] <= min(coming)[0]):
            self._now, _, then = heapq.heappop(self._timed)
            then()
            return True
        if not coming:
            return False
        self._now, place, key = min(coming)
        (self._storage, self._server)[place].stop(key, self._now)
        self._then.pop(key)()
        return True

    # What a machine does, one after the other.

    def _start(self, machine: _Machine) -> None:
        """Loads the program and looks for all slides of the batch."""
        demand, seconds = self._cost_of_start()
        self._flow(machine, "start", self._server, demand, seconds, lambda: self._take(machine))

    def _cost_of_start(self) -> tuple[float, float]:
        costs, storage = self._rates.costs, self._rates.storage
        each = (costs.start_ms + costs.start_ops * storage.op_ms) / 1000
        seconds = self._rates.machines.start_s + self._slides * each
        return self._slides * costs.start_ops / max(seconds, 1e-9), seconds

    def _take(self, machine: _Machine) -> None:
        """Takes the next slide; waits, or ends, where there is none."""
        slide = self._pick(machine)
        if slide is None:
            self._wait_or_end(machine)
            return
        machine.slide = slide
        if self._way == "ray":  # the driver does it
            self._screen(machine)
            return
        costs, op = self._rates.costs, self._rates.storage.op_ms / 1000
        ops = costs.slide_ops
        if self._way == "claims":
            ops += costs.look_ops * len(self._machines)  # each looks at all that others have done
        self._flow(
            machine, "file server", self._server, 1 / op, ops * op, lambda: self._screen(machine)
        )

    def _pick(self, machine: _Machine) -> int | None:
        queue = machine.redo if self._way == "shards" else self._again
        if queue:
            self._told.redone += 1
            return queue.popleft()
        if self._way == "shards":
            slide = machine.next_own
            machine.next_own += len(self._machines)
        else:
            slide, self._next = self._next, self._next + 1
        return slide if slide < self._slides else None

    def _screen(self, machine: _Machine) -> None:
        assert machine.slide is not None
        if self._fails[machine.slide]:
            self._flow(machine, "work", self._storage, 0.0, 1.0, lambda: self._end(machine))
            return
        seconds = self._seconds[machine.slide] * machine.times
        if self._way != "ray":
            seconds += self._publishing() / 2  # one of two cores
        demand = self._rates.slides.gigabytes / seconds
        self._flow(machine, "work", self._storage, demand, seconds, lambda: self._end(machine))

    def _publishing(self) -> float:
        """Seconds to hash a slide's file and to write its results, in a batch's own thread."""
        costs = self._rates.costs
        return costs.publish_s + self._rates.slides.gigabytes / costs.hash_gb_per_s

    def _end(self, machine: _Machine) -> None:
        """A slide has ended."""
        slide, machine.slide = machine.slide, None
        if self._way == "ray":
            self._found.append(slide)
            self._join(machine)
        else:
            self._count(slide)
            self._take(machine)
            self._end_if_all_is_done()

    def _count(self, slide: int) -> None:
        """A slide's results, or its failure, are written."""
        self._left -= 1
        if self._fails[slide]:
            self._told.failed += 1
        else:
            self._told.done += 1

    def _wait_or_end(self, machine: _Machine) -> None:
        if self._way == "shards":
            self._summarise(machine)
        else:
            self._become(machine, "idle")

    def _summarise(self, machine: _Machine) -> None:
        seconds = self._slides * self._rates.costs.summary_ms / 1000
        self._become(machine, "summary")
        self._later(seconds, machine, lambda: self._become(machine, "ended"))

    def _end_if_all_is_done(self) -> None:
        """Who shares all slides goes then; the last one, or the driver, sums up."""
        if self._left or self._way == "shards":
            return
        for machine in self._machines:
            machine.life += 1  # nobody takes the place of one that is gone
        last, *others = sorted(self._machines, key=lambda m: m.state == "gone")
        for machine in others:
            self._interrupt(machine)
            self._become(
                machine, "idle" if self._way == "ray" and machine.state != "gone" else "ended"
            )
        self._interrupt(last)
        self._summarise(last)
        if self._way == "ray":  # the cluster is held until its job has ended
            seconds = self._slides * self._rates.costs.summary_ms / 1000
            for machine in others:
                self._later(seconds, machine, lambda m=machine: self._become(m, "ended"))

    # The driver of a Ray cluster.

    def _start_driver(self) -> None:
        self._driver_works = True
        demand, seconds = self._cost_of_start()
        self._driver_key = self._begin(self._server, demand, seconds, self._driver_started)

    def _driver_started(self) -> None:
        self._driver_works = False
        for machine in self._machines:
            if machine.state == "start":
                self._join(machine)

    def _drive(self) -> None:
        """Gives out slides to all who have ended, then writes what these have found."""
        if not self._left or self._driver_works or not (self._waiting or self._found):
            return
        waiting, self._waiting = self._waiting, []
        self._written, self._found = self._found, []
        self._driver_works = True
        for machine in waiting:
            self._take(machine)
        op = self._rates.storage.op_ms / 1000
        each = self._publishing() + self._rates.costs.slide_ops * op
        demand = self._rates.slides.gigabytes / max(each, 1e-9)
        seconds = each * sum(not self._fails[slide] for slide in self._written)
        self._driver_key = self._begin(self._storage, demand, seconds, self._driver_free)

    def _driver_free(self) -> None:
        self._driver_works = False
        for slide in self._written:
            self._count(slide)
        self._written = []
        self._end_if_all_is_done()
        self._drive()

    def _lose_driver_later(self) -> None:
        self._after(self._until_loss(), self._lose_driver)

    def _lose_driver(self) -> None:
        """All that is in work is lost with it; a new one starts, and finds what is done."""
        if not self._left:
            return
        self._told.losses += 1
        for fluid in (self._storage, self._server):
            if self._driver_key in self._then and fluid.holds(self._driver_key):
                fluid.stop(self._driver_key, self._now)
        self._then.pop(self._driver_key, None)
        self._driver_works = True
        self._waiting.clear()
        for slide in (*self._found, *self._written):
            self._again.append(slide)
        self._found, self._written = [], []
        for machine in self._machines:
            if machine.state in ("work", "driver", "idle"):
                self._give_back(machine, 0.0)
                self._become(machine, "start")
        self._after(self._rates.machines.back_s, self._start_driver)
        self._lose_driver_later()

    # Losses of machines.

    def _until_loss(self) -> float:
        return float(self._random.exponential(3600 * self._rates.machines.hours_to_loss))

    def _lose_later(self, machine: _Machine) -> None:
        self._later(self._until_loss(), machine, lambda: self._lose(machine))

    def _lose(self, machine: _Machine) -> None:
        if machine.state in ("ended", "summary") or not self._left:
            return
        self._told.losses += 1
        costs = self._rates.costs
        self._give_back(machine, costs.stale_s if self._way == "claims" else costs.detect_s)
        if machine in self._waiting:
            self._waiting.remove(machine)
        self._become(machine, "gone")
        machine.life += 1
        self._later(self._rates.machines.back_s, machine, lambda: self._come_back(machine))

    def _come_back(self, machine: _Machine) -> None:
        self._lose_later(machine)
        if self._way != "ray":
            self._start(machine)
            return
        self._become(machine, "start")
        self._later(self._rates.machines.start_s, machine, lambda: self._join(machine))

    def _join(self, machine: _Machine) -> None:
        """A worker of a Ray cluster waits until the driver has something for it."""
        self._become(machine, "driver")
        self._waiting.append(machine)
        self._drive()

    def _give_back(self, machine: _Machine, seconds: float) -> None:
        """What a machine had in work is to be done again, after some time."""
        self._interrupt(machine)
        if machine.state == "work":
            self._book(machine, "lost")
        slide, machine.slide = machine.slide, None
        if slide is None:
            return
        if self._way == "shards":
            machine.redo.append(slide)
        else:
            self._after(seconds, lambda: self._return(slide))

    def _return(self, slide: int) -> None:
        self._again.append(slide)
        for machine in self._machines:
            if machine.state == "idle":
                self._take(machine)
                return

    # Bookkeeping.

    def _flow(
        self,
        machine: _Machine,
        state: str,
        fluid: Fluid,
        demand: float,
        seconds: float,
        then: Callable[[], None],
    ) -> None:
        """A machine does something, alone for so many seconds, of a shared thing."""
        self._become(machine, state)
        alone = seconds if state == "work" else 0.0

        def ended() -> None:
            machine.key = machine.fluid = None
            if state == "work":  # what it took longer than alone it has waited for bytes
                self._told.spent["work"] += alone
                self._told.spent["storage"] += max(0.0, self._now - machine.since - alone)
                machine.since = self._now
            then()

        machine.fluid, machine.key = fluid, self._begin(fluid, demand, seconds, ended)

    def _begin(self, fluid: Fluid, demand: float, seconds: float, then: Callable[[], None]) -> int:
        key = next(self._keys)
        self._then[key] = then
        fluid.begin(key, self._now, demand, seconds)
        return key

    def _interrupt(self, machine: _Machine) -> None:
        if machine.key is not None and machine.fluid is not None:
            machine.fluid.stop(machine.key, self._now)
            del self._then[machine.key]
            machine.key = machine.fluid = None

    def _become(self, machine: _Machine, state: str) -> None:
        self._book(machine, machine.state)
        self._at_work -= state == "ended" != machine.state
        machine.state = state

    def _book(self, machine: _Machine, cause: str) -> None:
        if cause in self._told.spent:
            self._told.spent[cause] += self._now - machine.since
        machine.since = self._now

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._timed, (self._now + seconds, next(self._keys), then))

    def _later(self, seconds: float, machine: _Machine, then: Callable[[], None]) -> None:
        """After some time, unless the machine is lost meanwhile."""
        life = machine.life
        self._after(seconds, lambda: then() if machine.life == life else None)


def _seconds(slides: Slides, number: int, random: np.random.Generator) -> np.ndarray:
    """Seconds of each slide on a machine of the usual kind; their mean is as it is given."""
    drawn = np.exp(slides.spread * random.standard_normal(number) - slides.spread**2 / 2)
    slow = random.random(number) < slides.slow_share
    mean = 1 + slides.slow_share * (slides.slow_times - 1)
    return slides.seconds * drawn * np.where(slow, slides.slow_times, 1.0) / mean


def simulate(rates: Rates, slides: int, machines: int, way: Way, seed: int = 0) -> Outcome:
    """How a batch goes.

    Args:
        rates: of slides, machines, storage and CytoLibra.
        slides: how many.
        machines: how many, at least one.
        way: of sharing the slides.
        seed: of all that is drawn.
    """
    return _Simulation(rates, slides, machines, way, seed).run()
