"""Shows HDR pictures (HLG or PQ, in BT.2020's colours) as SDR ones in BT.709's.

Light is counted in SDR whites of 203 cd/m2, as ITU-R BT.2408 does. What is brighter is compressed
by the curve of BT.2390, up to 1000 cd/m2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...lazy.frame_chunk import Pictures

PQ, HLG = 16, 18  # as ITU-T H.273 numbers the transfers
WHITE_CD_M2, PEAK_CD_M2 = 203.0, 1000.0
PEAK = PEAK_CD_M2 / WHITE_CD_M2
SDR_GAMMA = 2.4  # of BT.1886's displays
HLG_GAMMA = 1.2  # of a display of 1000 cd/m2, BT.2100
BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)  # BT.2087
CODES = 1 << 16
GAINS, LEVELS = 1 << 12, 1 << 20  # rows of the tables

Codes = NDArray[np.uint16]
Light = NDArray[np.float32]


def is_hdr(transfer: int) -> bool:
    """Whether a picture of this transfer must be compressed for an SDR display."""
    return transfer in (PQ, HLG)


def to_sdr(picture: Codes, transfer: int) -> Pictures:
    """An HDR picture (H, W, 3) of full range as 8-bit SDR; one gain a pixel keeps its hue."""
    light = _displayed[transfer](picture)
    brightest = light.max(-1)
    rows = np.minimum(brightest * ((GAINS - 1) / PEAK), GAINS - 1).astype(np.int32)
    light *= _gains()[rows][..., None]
    shown = np.clip(light @ BT2020_TO_BT709.T, 0, 1)
    codes: Pictures = _sdr_codes()[(shown * (LEVELS - 1)).astype(np.int32)]
    return codes


def _from_pq(picture: Codes) -> Light:
    return _pq_light()[picture]


def _from_hlg(picture: Codes) -> Light:
    scene = _hlg_scene()[picture]
    luma = scene @ BT2020_LUMA
    return scene * (PEAK * luma ** (HLG_GAMMA - 1))[..., None]


_displayed: dict[int, Callable[[Codes], Light]] = {PQ: _from_pq, HLG: _from_hlg}


@lru_cache(1)
def _pq_light() -> Light:
    """The light of each code, at most `PEAK`."""
    cd_m2 = _pq_to_cd_m2(np.linspace(0, 1, CODES))
    return np.minimum(cd_m2 / WHITE_CD_M2, PEAK).astype(np.float32)


@lru_cache(1)
def _hlg_scene() -> Light:
    """The light of the scene for each code, in [0, 1]: the inverse of BT.2100's HLG."""
    codes = np.linspace(0, 1, CODES)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    return np.clip(scene, 0, 1).astype(np.float32)


@lru_cache(1)
def _gains() -> Light:
    """The gain of a pixel by its brightest colour, from 0 to `PEAK`: BT.2390's curve."""
    light = np.linspace(0, PEAK, GAINS)
    top = _cd_m2_to_pq(np.array(PEAK_CD_M2))
    level = _cd_m2_to_pq(light * WHITE_CD_M2) / top
    most = _cd_m2_to_pq(np.array(WHITE_CD_M2)) / top
    knee = 1.5 * most - 0.5
    t = np.clip((level - knee) / (1 - knee), 0, 1)
    bent = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * most
    )
    shown = _pq_to_cd_m2(np.where(level < knee, level, bent) * top) / WHITE_CD_M2
    return np.divide(shown, light, out=np.ones(GAINS), where=light > 0).astype(np.float32)


@lru_cache(1)
def _sdr_codes() -> Pictures:
    """The 8-bit code of each level of light."""
    return np.rint(255 * np.linspace(0, 1, LEVELS) ** (1 / SDR_GAMMA)).astype(np.uint8)


M1, M2 = 2610 / 16384, 2523 / 32
C1, C2, C3 = 3424 / 4096, 2413 / 128, 2392 / 128


def _pq_to_cd_m2(code: NDArray[np.float64]) -> NDArray[np.float64]:
    root = code ** (1 / M2)
    return 10000 * (np.maximum(root - C1, 0) / (C2 - C3 * root)) ** (1 / M1)


def _cd_m2_to_pq(cd_m2: NDArray[np.float64]) -> NDArray[np.float64]:
    root = (cd_m2 / 10000) ** M1
    return ((C1 + C2 * root) / (1 + C3 * root)) ** M2
