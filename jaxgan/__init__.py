"""jaxgan: a functional training toolkit for generative adversarial networks in JAX."""

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.2.0"


def __getattr__(name: str) -> ModuleType:
    """Imports a part of the package when it is first used, as in `jaxgan.steps` (PEP 562)."""
    if name in _parts():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_parts()})


def _parts() -> set[str]:
    return {part.name for part in pkgutil.iter_modules(__path__)}
