"""Measures a run: `Meter` takes the times, `Report` is the JSON record for users."""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from ..errors import StorageError
from ..machine.temporary_files import write_whole
from ..versions import pack_version, version_of

REPORTED_PACKAGES = ("torch", "numpy", "safetensors", "av")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The facts about one run. None means unknown; the JSON always has every field."""

    rollout_id: str | None = None
    frames: int | None = None
    latent_frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps_target: float | None = None
    model_load_s: float | None = None
    first_frame_s: float | None = None
    frames_per_s: float | None = None
    chunk_interval_p50_s: float | None = None
    chunk_interval_p95_s: float | None = None
    block_latency_s: float | None = None
    real_time_factor: float | None = None
    continuous_play_rate: float | None = None
    switch_cost_s: float | None = None
    generator_factor: float | None = None
    stage_factor: float | None = None
    kv_bytes: int | None = None
    kv_bytes_planned: int | None = None
    peak_rss_bytes: int | None = None
    peak_vram_bytes: int | None = None
    model_evals: int | None = None
    attention_density: float | None = None
    ann_recall: float | None = None
    dense_fallbacks: int | None = None
    drift: float | None = None
    resumed_from_chunk: int | None = None
    edits: list[str] | None = None
    output_files: list[str] | None = None
    versions: dict[str, str | None] | None = None

    def to_json(self) -> str:
        """One JSON object with every field, in the order above; infinities and NaN become null."""
        known = {name: _finite(value) for name, value in asdict(self).items()}
        return json.dumps(known, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read the JSON of `to_json`; unknown fields are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})

    def save(self, path: Path) -> None:
        """Write the JSON to a file; StorageError if that fails."""
        try:
            write_whole(path, self.to_json())
        except OSError as error:
            raise StorageError(
                f"The report {path} cannot be written ({error.strerror}); choose a writable folder."
            ) from error


class Meter:
    """Times a run chunk by chunk, from the creation of the meter: after the model is loaded.

    Rates are None until they are known. `clock` returns seconds and must be monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.frames = 0
        self.latent_frames = 0
        self.first_frame_s: float | None = None
        self._earlier_frames = 0
        self._clock = clock
        self._started_at = self._last_at = clock()
        self._intervals_s = array("d")

    def chunk_done(self, *, frames: int, latent_frames: int) -> None:
        """Record that a chunk with `frames` pixel frames is finished now."""
        now = self._clock()
        if self.first_frame_s is None:
            self.first_frame_s = now - self._started_at
        else:
            self._intervals_s.append(now - self._last_at)
        self._last_at = now
        self.frames += frames
        self.latent_frames += latent_frames

    def begin_after(self, *, frames: int, latent_frames: int) -> None:
        """Count what an earlier run has finished, which took this one no time."""
        self.frames, self.latent_frames = frames, latent_frames
        self._earlier_frames = frames

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to the last finished chunk."""
        return self._last_at - self._started_at

    @property
    def frames_per_s(self) -> float | None:
        """Frames per second over the whole run, including the first chunk."""
        frames = self.frames - self._earlier_frames
        return frames / self.elapsed_s if self.elapsed_s > 0 else None

    @property
    def chunk_interval_p50_s(self) -> float | None:
        """The median time between finished chunks."""
        return percentile(self._intervals_s, 50)

    @property
    def chunk_interval_p95_s(self) -> float | None:
        """The 95th percentile of the time between finished chunks."""
        return percentile(self._intervals_s, 95)

    def eta_s(self, total_frames: int) -> float | None:
        """Seconds until `total_frames` are finished at the rate so far."""
        rate = self.frames_per_s
        return max(total_frames - self.frames, 0) / rate if rate else None

    def report(self, known: Report) -> Report:
        """`known`, completed by the measurements of the meter and the process."""
        return replace(
            known,
            frames=self.frames,
            latent_frames=self.latent_frames,
            first_frame_s=self.first_frame_s,
            frames_per_s=self.frames_per_s,
            chunk_interval_p50_s=self.chunk_interval_p50_s,
            chunk_interval_p95_s=self.chunk_interval_p95_s,
            peak_rss_bytes=peak_rss_bytes(),
            peak_vram_bytes=peak_vram_bytes(),
            versions=versions(),
        )


def percentile(values: array[float], percent: float) -> float | None:
    """The value below which `percent` of the values lie, interpolated linearly as in numpy."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def peak_rss_bytes() -> int | None:
    """The peak resident memory of this process."""
    if sys.platform == "win32":
        return _peak_working_set_bytes()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def peak_vram_bytes(device: torch.device | None = None) -> int | None:
    """The peak memory that torch allocated on a CUDA device, the current one if none is named.

    None without CUDA, and for other devices.
    """
    if not torch.cuda.is_available() or (device is not None and device.type != "cuda"):
        return None
    return torch.cuda.max_memory_allocated(device) or None


def versions() -> dict[str, str | None]:
    """Versions of Python, the system and the packages that influence results."""
    packages: dict[str, str | None] = {name: version_of(name) for name in REPORTED_PACKAGES}
    system = {"python": platform.python_version(), "system": platform.platform()}
    return {**system, "longtake": pack_version(), **packages}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _ProcessMemoryCounters(ctypes.Structure):
        _fields_ = [
            ("cb", wintypes.DWORD),
            ("PageFaultCount", wintypes.DWORD),
            ("PeakWorkingSetSize", ctypes.c_size_t),
            ("WorkingSetSize", ctypes.c_size_t),
            ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
            ("QuotaPagedPoolUsage", ctypes.c_size_t),
            ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
            ("QuotaNonPagedPoolUsage", ctypes.c_size_t),
            ("PagefileUsage", ctypes.c_size_t),
            ("PeakPagefileUsage", ctypes.c_size_t),
        ]

    def _peak_working_set_bytes() -> int | None:
        counters = _ProcessMemoryCounters()
        counters.cb = ctypes.sizeof(counters)
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        kernel.K32GetProcessMemoryInfo.argtypes = (
            wintypes.HANDLE,
            ctypes.POINTER(_ProcessMemoryCounters),
            wintypes.DWORD,
        )
        known = kernel.K32GetProcessMemoryInfo(
            kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb
        )
        return counters.PeakWorkingSetSize if known else None
