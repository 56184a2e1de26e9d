"""Node definitions that older cores can read: arguments for display only are dropped there.

Newer cores add arguments to `io.Schema` and the inputs. An older core refuses an unknown argument,
and the whole pack would fail to load. Arguments that change how a node works are never dropped.
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


def build(kind: Callable[..., T], *positional: Any, **settings: Any) -> T:
    """Call `kind` without the `FOR_SHOW` settings that this core does not know."""
    known = inspect.signature(kind).parameters
    unknown = settings.keys() & FOR_SHOW - known.keys()
    if unknown:
        logger.debug("this ComfyUI has no %s in %s", ", ".join(sorted(unknown)), kind.__name__)
    return kind(*positional, **{name: settings[name] for name in settings if name not in unknown})
