"""The player bench's claims, for a good page and for a page with each fault."""

from __future__ import annotations

from typing import Any

import pytest

from longtake.benchmarks.player import PlayerPlan, evaluate

MIB = 2**20


def seen(**faults: list[float]) -> dict[str, Any]:
    """Return forty samples of a page and a server within their bounds."""
    good = {
        "fps": 16.0, "drawn_share": 1.0, "load": 1.0, "script_bytes": 4.0 * MIB,
        "buffer_bytes": 250.0 * MIB, "renderer_bytes": 500.0 * MIB, "store_bytes": 255.0 * MIB,
        "spilled_bytes": 400.0 * MIB, "waiting_bytes": 110.0 * MIB, "server_bytes": 700.0 * MIB,
        "bitmaps": 28.0, "behind_frames": 0.0, "wrong": 0.0,
    }  # fmt: skip
    samples = {name: faults.get(name, [value] * 40) for name, value in good.items()}
    return {"samples": samples, "press_seconds": [0.05] * 20, "wrong_presses": 0}


def failing(of: dict[str, Any]) -> list[str]:
    """Return the claims that fail."""
    return [claim.text for claim in evaluate(PlayerPlan(), of).claims if not claim.holds]


def test_ten_minutes_are_9600_frames() -> None:
    assert (PlayerPlan().run["frames"], PlayerPlan().run["width"], PlayerPlan().run["height"]) == (
        9600,
        832,
        480,
    )


@pytest.mark.parametrize(
    ("name", "values", "claim"),
    [
        ("fps", [12.0] * 40, "page: frames drawn per second (low bound)"),
        ("drawn_share", [0.9] * 40, "page: share of the frames passed that were drawn (low bound)"),
        ("buffer_bytes", [300.0 * MIB] * 40, "page: heap with its buffers, bytes"),
        ("script_bytes", [n * MIB / 5 for n in range(1, 41)],
         "page: scripts' heap, second half, most over least"),
        ("bitmaps", [33.0] * 40, "page: bitmaps at once"),
        ("store_bytes", [257.0 * MIB] * 40, "server: frames in memory, bytes"),
        ("waiting_bytes", [257.0 * MIB] * 40, "server: frames waiting to be encoded, bytes"),
        ("server_bytes", [float(n * MIB) for n in range(500, 900, 10)],
         "server: resident, second half, most over least"),
        ("spilled_bytes", [0.0] * 40, "server: bytes spilled to files"),
        ("wrong", [0.0] * 39 + [1.0],
         "page: pictures that were not the frame they were said to be"),
    ],
)  # fmt: skip
def test_each_fault_breaks_its_own_claim(name: str, values: list[float], claim: str) -> None:
    assert failing(seen()) == []
    assert failing(seen(**{name: values})) == [claim]
