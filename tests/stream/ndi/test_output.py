"""A live address is shown as an NDI source, to NDI's own receiver."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from longtake.errors import BadInput
from longtake.stream.live.relay import Relay
from longtake.stream.live.target import Target
from longtake.stream.ndi.library import OLDEST, PACKAGE
from longtake.tests.support.import_graph import ROOT
from longtake.tests.support.numbered_frames import number_in
from longtake.tests.support.stream.live_shot import HEIGHT, WIDTH
from longtake.tests.support.stream.live_site import FPS, MP4, Site, served
from longtake.tests.support.stream.ndi_programs import NdiReceiver, broken_package, needs_ndi
from longtake.tests.support.stream.tones import TONE_HZ, pitch_hz, tone

NAME = "Longtake (test) ü"


@needs_ndi
@pytest.mark.parametrize("kind", ["ts", MP4])
def test_a_receiver_gets_pictures_in_order_and_the_sound(tmp_path: Path, kind: str) -> None:
    async def test(site: Site) -> None:
        site.shot.take.sound = tone(400)
        said: list[str] = []
        relay = Relay(f"{site.address}.{kind}", f"ndi://{NAME}", said.append)
        thread = threading.Thread(target=relay.run)
        thread.start()
        try:
            receiver = await asyncio.to_thread(NdiReceiver, NAME)
            for _ in range(3):
                site.shot.add(100)
            heard = await asyncio.to_thread(loud_block, receiver)
            shown = await asyncio.to_thread(until_number, 350, receiver)
            rate = receiver.rate
            receiver.close()
        finally:
            relay.stop()
            await asyncio.to_thread(thread.join, 60)
        assert not thread.is_alive()
        numbers = [number_in(picture) for picture in shown]
        assert len(set(numbers)) > 5 and numbers == sorted(numbers)
        assert shown[0].shape == (HEIGHT, WIDTH, 3) and rate == FPS
        assert heard.shape == (2, 1024) and abs(pitch_hz(heard[0], 48_000) - TONE_HZ) < 5
        assert said[0].startswith("Sending as the NDI source ") and f"({NAME})" in said[0]

    served(tmp_path, test)


def until_number(last: int, receiver: NdiReceiver) -> list[npt.NDArray[np.uint8]]:
    """The pictures that come until number `last` or a later one."""
    shown: list[npt.NDArray[np.uint8]] = []
    for picture in receiver.pictures():
        shown.append(picture)
        if number_in(picture) >= last:
            break
    return shown


def loud_block(receiver: NdiReceiver) -> npt.NDArray[np.float32]:
    """The first block in which the tone sounds from beginning to end."""
    return next(
        block
        for block in receiver.sounds()
        if min(np.abs(part).max() for part in np.array_split(block[0], 8)) > 0.4
    )


@needs_ndi
def test_a_name_is_taken_as_people_write_it() -> None:
    assert Target.parse(" NDI://My%20Show/ ").host == "My Show"
    assert Target.parse("ndi:My Show").host == "My Show"


@needs_ndi
@pytest.mark.parametrize("text", ["ndi:", "ndi://", "ndi://%0A", "ndi://" + "x" * 201])
def test_a_source_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="name of 1 to 200 printable characters; give ndi://NAME"):
        Target.parse(text)


def test_without_the_package_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("longtake.stream.ndi.library.PACKAGE", "no_such_package")
    with pytest.raises(BadInput, match="needs the package .* -m pip install no_such_package"):
        Relay("http://127.0.0.1:1/live.ts", "ndi://Longtake", print)


@needs_ndi
def test_a_package_that_is_too_old_is_refused_with_the_command_for_a_newer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.0.9")
    reason = r"cyndilib 0\.1\.2 or newer, and 0\.0\.9 is .* pip install --upgrade cyndilib"
    with pytest.raises(BadInput, match=reason):
        Relay("http://127.0.0.1:1/live.ts", "ndi://Longtake", print)
    assert f'ndi = ["{PACKAGE}>={OLDEST}"]' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_a_library_that_does_not_load_ends_the_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded by the process that sends; another try would not help."""
    broken_package(tmp_path / "packages", monkeypatch)

    async def test(site: Site) -> None:
        site.shot.add(100)
        said: list[str] = []

        def tell(text: str) -> None:
            said.append(text)
            relay.stop()

        relay = Relay(f"{site.address}.ts", "ndi://Longtake", tell)
        with pytest.raises(BadInput, match=r"cannot be loaded \(no libndi\); install it anew: "):
            await asyncio.to_thread(relay.run)
        assert said == []

    served(tmp_path, test)
