"""Media servers that were not written here: GStreamer's RTSP server, and OpenSSL's web server.

And TLS in front of any other.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

from longtake.errors import BadInput
from longtake.tests.support.server_process import free_port, running

T = TypeVar("T")
LIMIT_S = 120
OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="needs the program openssl")
NEEDS_GSTREAMER = (
    "needs GStreamer's RTSP server: apt install gir1.2-gst-rtsp-server-1.0 python3-gi "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
IMPORT = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer
Gst.init(None)
for name in ("qtdemux", "h264parse", "rtph264pay"):
    if Gst.ElementFactory.find(name) is None:
        raise ImportError(name)
"""
SERVE = f"""{IMPORT}
import sys
port, clip, user, certificate, transport = sys.argv[1:6]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(f"( filesrc location={{clip}} ! qtdemux ! h264parse ! rtph264pay name=pay0 )")
if user or certificate:
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    if user:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*user.split(":")), token)
    else:
        auth.set_default_token(token)
    if certificate:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(certificate))
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for right in ("access", "construct"):
        permissions.add_permission_for_role("viewer", f"media.factory.{{right}}", True)
    factory.set_permissions(permissions)
if transport:
    factory.set_protocols(getattr(GstRtsp.RTSPLowerTrans, transport))
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
GLib.MainLoop().run()
"""


@cache
def gstreamer() -> str | None:
    """A Python that has GStreamer's RTSP server, or None."""
    pythons = (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin"))
    return next((python for python in pythons if python and _has_gstreamer(python)), None)


def _has_gstreamer(python: str) -> bool:
    return not subprocess.run([python, "-c", IMPORT], capture_output=True).returncode


@contextmanager
def rtsp_server(  # noqa: PLR0913
    clip: Path,
    log: Path,
    user: str = "",
    port: int | None = None,
    certificate: str = "",
    transport: str = "",
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """GStreamer's server of an MP4 file, which each viewer sees from its start at its own rate.

    Yield the address and the process. `user` is NAME:PASSWORD, `certificate` a file with its key,
    `transport` the only one that the server takes: TCP or UDP.
    """
    python, place = gstreamer(), port or free_port()
    if python is None:
        pytest.skip(NEEDS_GSTREAMER)
    command = [python, "-c", SERVE, str(place), str(clip), user, certificate, transport]
    with running(command, place, log, LIMIT_S) as process:
        yield f"rtsp{'s' * bool(certificate)}://127.0.0.1:{place}/live", process


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody else has signed, and its key."""
    assert OPENSSL is not None
    own, key = folder / "own.pem", folder / "key.pem"
    subprocess.run(
        [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", own, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return own, key


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """OpenSSL's web server of a folder, with a certificate that it has signed itself.

    Yield the address and the certificate.
    """
    assert OPENSSL is not None
    (own, key), port = self_signed(folder), free_port()
    command = [OPENSSL, "s_server", "-WWW", "-quiet", "-accept", f"127.0.0.1:{port}",
               "-cert", str(own), "-key", str(key)]  # fmt: skip
    with running(command, port, folder / "tls.log", LIMIT_S, cwd=folder):
        yield f"https://127.0.0.1:{port}", own


@asynccontextmanager
async def tls_front(port: int, behind: int, folder: Path) -> AsyncIterator[None]:
    """TLS on `port`, whose plain bytes go to and from the server on the port `behind`."""
    own, key = self_signed(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(pass_on(reader, outer), pass_on(inner, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", port, ssl=context):
        yield


def soon(attempt: Callable[[], T]) -> T:
    """What succeeds once a server is up."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            return attempt()
        except BadInput as error:
            if "check that it is running" not in str(error) or time.monotonic() > end:
                raise
            threading.Event().wait(0.1)
