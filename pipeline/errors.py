"""What can go wrong with a slide."""

from configs import CytoLibraError


class SlideError(CytoLibraError):
    """A slide can't be opened or screened; the batch goes on with the next."""


class ReadError(SlideError):
    """One region of a slide can't be read; the slide goes on, the region is recorded as unread."""
