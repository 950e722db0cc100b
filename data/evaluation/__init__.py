"""How well cells are found and named: COCO's figures and those of this field.

What is offered stands in ``__init__.pyi``; it is loaded when it is first asked for: a screening
needs the statistics of false alarms, and neither torch nor pycocotools.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
