"""A slide's journey, one station a module; see ARCHITECTURE.md.

What is offered stands in ``__init__.pyi``; it is loaded when it is first asked for, since geometry
needs none of the readers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
