"""Which addresses are live sources, and how sentences name them."""

from __future__ import annotations

import pytest

from longtake.errors import BadInput
from longtake.stream.incoming.address import SourceAddress


@pytest.mark.parametrize("url", [
    "http://camera/live.ts", "https://example.com:8443/a.mp4?key=1", "rtsp://10.0.0.5:554/stream1",
    "rtsps://camera/1", "udp://@:1234", "udp://239.0.0.1:5000", "srt://host:9000?mode=caller",
])  # fmt: skip
def test_the_kinds_that_are_opened(url: str) -> None:
    assert SourceAddress.parse(f" {url}\n").url == url


def test_a_scheme_in_capitals_is_opened_in_small_letters() -> None:
    """FFmpeg knows no others."""
    assert SourceAddress.parse("RTSPS://Camera/Live").url == "rtsps://Camera/Live"


@pytest.mark.parametrize("url", [
    "file:///etc/passwd", "/etc/passwd", "C:\\video.mp4", "video.mp4",
])  # fmt: skip
def test_a_local_file_is_refused_with_another_way(url: str) -> None:
    with pytest.raises(BadInput, match="not a file of this machine; .* load the file as a video"):
        SourceAddress.parse(url)


@pytest.mark.parametrize("url", [
    "concat:http://a/b|file:///etc/passwd", "gopher://a/", "data:video/mp4;base64,AA==",
    "subfile,,start,0,end,9,,:file.mp4", "rtmp://a/b", "lavfi://testsrc", "pipe:0", "tcp://a:1",
    "hls+http://a/b.m3u8", "ftp://a/b",
])  # fmt: skip
def test_other_schemes_are_refused_by_name(url: str) -> None:
    with pytest.raises(BadInput, match="cannot be a .* address|not a file of this machine"):
        SourceAddress.parse(url)


@pytest.mark.parametrize("url", [
    "", "http://", "rtsp:///1", "http://a b/c", "http://[::1/x", "http://a/\u00e9",
    "http://a:99999/", "http://a/" + "x" * 3000,
])  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BadInput):
        SourceAddress.parse(url)


def test_sentences_do_not_hold_passwords() -> None:
    address = SourceAddress.parse("rtsp://user:secret@camera:554/live?token=secret")
    assert address.shown == "rtsp://camera:554/live"


@pytest.mark.parametrize("text", [
    "ndi://STUDIO-PC (OBS)", " NDI:STUDIO-PC (OBS)/\n", "ndi://STUDIO-PC%20(OBS)",
])  # fmt: skip
def test_an_ndi_source_has_a_name_as_ndi_shows_it(text: str) -> None:
    address = SourceAddress.parse(text)
    assert (address.scheme, address.host) == ("ndi", "STUDIO-PC (OBS)")
    assert address.url == address.shown == "ndi://STUDIO-PC (OBS)" and not address.is_web


def test_an_ndi_source_without_a_name_is_refused() -> None:
    with pytest.raises(BadInput, match="name of 1 to 200 printable characters; give ndi://NAME"):
        SourceAddress.parse("ndi://")
