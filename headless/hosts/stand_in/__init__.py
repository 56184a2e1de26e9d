"""A small stand-in for ComfyUI, sufficient to run this pack's nodes without a checkout.

`host_modules` installs fakes under the host's module names; `StandInHost` runs workflows within.
"""

from __future__ import annotations

from .executor import StandInHost, execute, our_extension
from .installing import host_modules
from .modules import HostState

__all__ = ["HostState", "StandInHost", "execute", "host_modules", "our_extension"]
