"""A course and a small library: clean pictures, train a LoRA on Kolors, tell a story in eight panels, score it.

`__init__.pyi` lists what can be imported from here; a room is loaded when its first name is used, so that importing the
package imports nothing heavy.
"""

import lazy_loader

import kolors_lab.core.language  # noqa: F401  errors speak by it from the first one on
from kolors_lab.core.threads import settle_threads

settle_threads()
__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
