"""How slides that are named by URL are fetched."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from configs import StrictModel


class CloudSettings(StrictModel):
    """How slides that are named by URL are fetched; they change no result.

    Attributes:
        scratch: folder for slides while they are here; None for a hidden one in ``--out``. Several
            runs may share it, each in a folder of its own.
        scratch_gb: most that a run has there at once, in GB (10^9 bytes); None for half of what is
            free on that disk as the run begins, 200 GB at most.
        ahead: how many slides are fetched before their turn.
        connections: pieces of a file that are fetched at once.
        tries: how often a piece is asked for before its slide fails.
        timeout_s: seconds after which a piece that hasn't come is asked for again.
        anonymous: whether to ask without credentials, as for public buckets.
    """

    scratch: Path | None = None
    scratch_gb: float | None = Field(None, gt=0)
    ahead: int = Field(2, ge=0, le=100)
    connections: int = Field(4, ge=1, le=64)
    tries: int = Field(5, ge=1, le=100)
    timeout_s: float = Field(120.0, gt=0)
    anonymous: bool = False

    @property
    def unhurried(self) -> CloudSettings:
        """The same for what may take any time as a whole; each request in it is minded alone."""
        return self.model_copy(update={"timeout_s": None})
