"""A small stand-in for ComfyUI: enough of it to run this pack's nodes without a checkout.

`installed` puts the fakes under the host's module names; `StandInHost` runs workflows within.
"""

from __future__ import annotations

from .executor import StandInHost, execute, our_extension
from .modules import HostState, installed

__all__ = ["HostState", "StandInHost", "execute", "installed", "our_extension"]
