"""Definitions that older cores can read: what only newer ones know how to show is left out.

`io.Schema` and the inputs grow from one core to the next, and a core refuses an argument that it
does not know, which would take the whole pack down. What changes how a node works is never dropped.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("longtake")

FOR_SHOW = frozenset(
    {"advanced", "display_mode", "essentials_category", "is_deprecated", "is_dev_only",
     "is_experimental", "placeholder", "search_aliases", "tooltip"}
)  # fmt: skip


def build(kind: Callable[..., T], *given: Any, **settings: Any) -> T:
    """`kind(*given, **settings)` without those of `FOR_SHOW` that this core's `kind` lacks."""
    known = inspect.signature(kind).parameters
    left_out = settings.keys() & FOR_SHOW - known.keys()
    if left_out:
        logger.debug("this ComfyUI has no %s in %s", ", ".join(sorted(left_out)), kind.__name__)
    return kind(*given, **{name: settings[name] for name in settings if name not in left_out})
