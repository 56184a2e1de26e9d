"""The preview's routes on the host's web server."""

from __future__ import annotations

import atexit

from ...stream.live.sources import LiveSources
from .. import host
from ..runtime.session import session


def open_to_browsers() -> None:
    """Add the routes if there is a web server; called once, when the pack loads."""
    if host.has_web_server():
        from ...stream.live.routes import live_routes  # aiohttp comes with a web server only
        from ...stream.preview.doorway import refuse_unreadable_names
        from ...stream.preview.routes import take_routes

        live = LiveSources(session.takes)
        host.guard(refuse_unreadable_names)
        host.serve([*take_routes(session.takes), *live_routes(live)])
        atexit.register(live.close)
        atexit.register(session.reset)
