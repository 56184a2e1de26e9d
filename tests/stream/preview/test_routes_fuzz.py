"""The preview's routes under arbitrary requests: no answer is a 500."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.tests.support.laws import examples
from longtake.tests.support.stream.take_site import Site, site

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
nearly_right = st.fixed_dictionaries(
    {
        "op": st.sampled_from(
            ["pause", "resume", "stop", "prompt", "guidance", "lora", "strength", "edit"]
        )
        | json_values,
        "rev": st.integers(-5, 2**60) | json_values,
    },
    optional={
        "text": json_values,
        "guidance": json_values,
        "lora": json_values,
        "strength": json_values,
        "more": json_values,
    },
) | st.fixed_dictionaries(
    {"driver": st.just("a") | json_values, "number": st.integers(-5, 2**60) | json_values},
    optional={name: json_values for name in ("keys", "sticks", "look", "mode", "shown", "leave")},
)
bodies = st.binary(max_size=200) | (nearly_right | json_values).map(
    lambda value: json.dumps(value).encode()
)
plain = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
headers = st.dictionaries(
    st.sampled_from([
        "Content-Type", "Origin", "Sec-Fetch-Site", "Range", "If-None-Match", "Accept",
        "If-Modified-Since", "Referer", "X-Forwarded-Host",
    ]),
    plain | st.sampled_from(["application/json", "same-origin", "bytes=0-1"]),
    max_size=4,
)  # fmt: skip
parts = st.sampled_from(
    ["longtake", "takes", "TOKEN", "chunks", "control", "drive", "input", "attach", "alive"]
    + ["0", "2", "..", "%2e", "api", ""]
)
paths = st.lists(parts | plain, max_size=6).map(lambda names: "/" + "/".join(names)) | (
    st.sampled_from([
        "/longtake/takes/TOKEN", "/longtake/takes/TOKEN/chunks/1", "/longtake/attach",
        "/longtake/takes/TOKEN/drive", "/longtake/takes/TOKEN/control",
        "/api/longtake/takes/TOKEN/control",
    ])
)  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server on its own event loop, shared by all examples."""
    loop = asyncio.new_event_loop()
    opened = site(tmp_path_factory.mktemp("temp"))
    running = loop.run_until_complete(opened.__aenter__())
    yield loop, running
    loop.run_until_complete(opened.__aexit__(None, None, None))
    loop.close()


@examples(120)
@given(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE"]), paths, headers, bodies)
def test_no_request_is_answered_by_a_500(
    fuzzed: tuple[asyncio.AbstractEventLoop, Site],
    method: str,
    path: str,
    sent: dict[str, str],
    body: bytes,
) -> None:
    loop, site = fuzzed
    raw = quote(path.replace("TOKEN", site.take.token), safe="/%.~")
    url = site.page.make_url("/").with_path(raw, encoded=True)

    async def ask() -> int:
        async with site.page.session.request(
            method, url, headers=sent, data=body, allow_redirects=False
        ) as answer:
            return answer.status

    assert loop.run_until_complete(ask()) < 500
