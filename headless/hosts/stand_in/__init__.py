"""A small stand-in for ComfyUI, sufficient to run this pack's nodes without a checkout.

`host_modules` installs fakes under the host's module names; `StandInHost` runs workflows within.
"""

from __future__ import annotations

from .executor import StandInHost, execute, our_extension
from .modules import HostState, host_modules

__all__ = ["HostState", "StandInHost", "execute", "host_modules", "our_extension"]
