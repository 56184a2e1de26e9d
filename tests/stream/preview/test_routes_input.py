"""The preview's input route: pictures of a page, only while the run wants them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from longtake.stream.incoming.inlet import Wish
from longtake.stream.preview.messages import Ending
from longtake.tests.support.stream.take_site import JSON, Site, served

JPEG = {"Content-Type": "image/jpeg"}


async def give(site: Site, body: bytes, **headers: str) -> tuple[int, Any]:
    """Post to the take's input route."""
    data = io.BytesIO(body)
    async with site.page.post(f"{site.path}/input", data=data, headers=headers) as answer:
        return answer.status, await answer.json()


def test_a_picture_comes_in_while_the_run_wants_it(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inlet = site.controls.inlet
        assert await give(site, b"one", **JPEG) == (200, {"wanted": False})
        inlet.ask(Wish("screen", 64, 48, 16.0))
        async with site.page.get(site.path) as answer:
            wish = (await answer.json())["wish"]
        assert wish == {"kind": "screen", "width": 64, "height": 48, "fps": 16.0}
        assert await give(site, b"two", **JPEG) == (200, {"wanted": True})
        assert inlet.take(0) == b"two"
        fault = json.dumps({"fault": "denied"}).encode()
        assert await give(site, fault, **JSON) == (200, {"wanted": True})
        assert inlet.take(0) == "denied"
        site.take.finish(Ending("done"))
        site.take.join()
        assert await give(site, b"late", **JPEG) == (200, {"wanted": False})

    served(tmp_path, test)


def test_what_is_no_picture_of_our_page_is_refused(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.controls.inlet.ask(Wish("webcam", 64, 48, 16.0))
        assert (await give(site, b"x", **{"Content-Type": "text/plain"}))[0] == 415
        assert (await give(site, b"x" * (1024 * 1024 + 1), **JPEG))[0] == 413
        assert (await give(site, b"x", **JPEG, Origin="http://evil.example"))[0] == 403
        assert (await give(site, b"x", **JPEG, **{"Sec-Fetch-Site": "cross-site"}))[0] == 403
        for body in (b"{", b'{"fault": "evil"}', b'{"fault": ["lost"]}', b'{"other": 1}'):
            assert (await give(site, body, **JSON))[0] == 400
        assert site.controls.inlet.take(0) is None

    served(tmp_path, test)
