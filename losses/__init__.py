"""Classification losses for the long tail: functional, and as modules for a detector's slot.

What is offered stands in ``__init__.pyi``; it is loaded when it is first asked for: torch takes
seconds, and a configuration does without.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
