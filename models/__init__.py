"""Detectors in torchvision's calling convention, their cards and their checkpoints.

What is offered stands in ``__init__.pyi``; it is loaded when it is first asked for: a model's card
can be read, and its exported network run, without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
