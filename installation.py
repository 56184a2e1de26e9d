"""What is installed on this machine and what Longtake can use, for both doctors.

`longtake doctor` shows these findings in the terminal, the Doctor node on the canvas. The checks
install and change nothing, except that they write small test files into folders.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .attention.backends import usable_backends
from .core.pack_copies import CUSTOM_NODES, pack_copies
from .machine.processor_settings import advised, threads_sleep
from .machine.products import outdoes_mkl
from .pip_command import pip_install
from .stream.lazy.thread_shares import share_threads
from .units import byte_size
from .versions import pack_version, version_numbers, version_of

OLDEST = {  # as in pyproject.toml, which ComfyUI's own installation does not read
    "torch": "2.5",
    "numpy": "1.25",
    "safetensors": "0.4.4",
    "einops": "0.6",
    "av": "16",
    "pillow": "10.1",
}
ENCODERS = {"h264": "MP4 video", "ffv1": "lossless MKV video"}
EXTRAS = {
    "aiohttp": "web server library of ComfyUI, --watch, batches and workers",
    "spandrel": "models for Upscale (Stream)",
    "faiss": "approximate search in long histories",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOW_BYTES = 1 << 30
ROOT = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `state` is ok, note (optional) or bad."""

    state: str
    subject: str
    text: str


def software() -> Iterator[Finding]:
    """Check Python, this pack and its required packages."""
    system = f"{platform.python_version()} on {platform.platform(terse=True)} ({sys.executable})"
    yield Finding("ok", "longtake", pack_version())
    yield Finding("ok", "python", system)
    for name in OLDEST:
        yield _required(name, str(torch.__version__) if name == "torch" else version_of(name))
    yield from _encoders()


def devices(free_bytes: int) -> Iterator[Finding]:
    """Report the main memory, with `free_bytes` free, and every accelerator."""
    state = "ok" if free_bytes > LOW_BYTES else "note"
    yield from _processor()
    yield Finding(state, "memory", f"{byte_size(free_bytes)} free")
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        sizes = f"{byte_size(free)} of {byte_size(total)} free"
        yield Finding("ok", "device", f"{torch.cuda.get_device_name(number)}, {sizes}")
    for number in range(torch.xpu.device_count()):
        facts = torch.xpu.get_device_properties(number)
        yield Finding("ok", "device", f"{facts.name}, {byte_size(facts.total_memory)}")
    if torch.backends.mps.is_available():
        yield Finding("ok", "device", "Apple GPU (MPS), shares the main memory")


def attention(device: torch.device) -> Iterator[Finding]:
    """Report the attention backends usable on `device`, and why others are not."""
    for name, reason in usable_backends(device).items():
        good = "works" if name.startswith("SDPA") else "found, not tried"
        text = f"{name} on {device.type}: {reason or good}"
        yield Finding("ok" if reason is None else "note", "attention", text)
    triton = version_of("triton") or version_of("triton-windows")
    yield _optional("triton", triton, "compiled kernels for NVIDIA GPUs")


def extras() -> Iterator[Finding]:
    """Report packages that some features or tests use."""
    for name, use in EXTRAS.items():
        available = importlib.util.find_spec(name) is not None
        version = version_of("faiss-cpu" if name == "faiss" else name)
        yield _optional(name, (version or "installed") if available else None, use)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    yield _optional("chromium", browser, "the tests of the player")


def folder(subject: str, path: Path) -> Finding:
    """Check that `path` is writable, and report its free space."""
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".longtake"):
            free = shutil.disk_usage(path).free
    except OSError as error:
        reason = error.strerror or error
        return Finding("bad", subject, f"{path} is not writable ({reason}); choose another folder.")
    state = "ok" if free > LOW_BYTES else "note"
    return Finding(state, subject, f"{path}, {byte_size(free)} free")


def copies(comfy: Path | None) -> Iterator[Finding]:
    """Report several copies of this pack in a ComfyUI, without `comfy` in that of this pack."""
    if comfy is None and ROOT.parent.name != CUSTOM_NODES:
        return
    custom_nodes = ROOT.parent if comfy is None else comfy / CUSTOM_NODES
    names = [place.name for place in pack_copies(custom_nodes)]
    if len(names) > 1:
        text = (
            f"{custom_nodes} holds {len(names)} copies of Longtake ({', '.join(names)}), and "
            "ComfyUI mixes their nodes and players; keep one and remove the others"
        )
        yield Finding("bad", "single copy", text)


def summary(findings: Sequence[Finding]) -> str:
    """Summarise all findings in one sentence."""
    bad = [finding.subject for finding in findings if finding.state == "bad"]
    if bad:
        return f"Longtake cannot work here yet: see {', '.join(bad)}."
    notes = sum(finding.state == "note" for finding in findings)
    return f"All that Longtake needs is here; {notes} optional things are not."


def _required(package: str, version: str | None) -> Finding:
    """Check that `package` is there in a version that Longtake can use."""
    if version is None:
        return Finding("bad", package, f"not installed; run: {pip_install(package)}")
    if version_numbers(version) >= version_numbers(OLDEST[package]):
        return Finding("ok", package, version)
    # Plain pip may replace a torch for this GPU by another build.
    remedy = (
        "PyTorch's install page says how to update"
        if package == "torch"
        else f"run: {pip_install(f'--upgrade {package}')}"
    )
    needed = f"{version} is too old: Longtake needs {OLDEST[package]} or newer"
    return Finding("bad", package, f"{needed}; {remedy}")


def _processor() -> Iterator[Finding]:
    """Report how torch uses the processor, and whether waiting threads take time from others."""
    threads = torch.get_num_threads()
    shares = share_threads(threads, flops=0)
    text = f"{platform.machine()}, {threads} threads of {os.cpu_count()} cores"
    if shares is not None:
        text += f"; small models: {shares.main} to make chunks, {shares.side} to decode"
    if outdoes_mkl():
        text += "; float32 layers multiply by oneDNN"
    yield Finding("ok", "processor", text)
    if threads > 1 and not threads_sleep(os.environ):
        glibc = platform.libc_ver()[0] == "glibc"
        yield Finding(
            "note",
            "processor",
            "threads that wait keep their cores busy, and memory that a layer frees goes back to "
            "the system, both of which slow shots on the processor; start ComfyUI with "
            f"{advised(os.environ, glibc=glibc)} in its environment",
        )


def _encoders() -> Iterator[Finding]:
    if importlib.util.find_spec("av") is None:
        return  # reported already
    import av

    for codec, use in ENCODERS.items():
        names = {codec, f"lib{codec.replace('h', 'x')}"}
        if names & set(av.codecs_available):
            yield Finding("ok", "encoder", f"{codec} ({use})")
        else:
            text = f"{codec} is missing ({use}); reinstall av from its wheel"
            yield Finding("bad", "encoder", text)


def _optional(subject: str, version: str | None, use: str) -> Finding:
    text = f"{version} ({use})" if version else f"not installed ({use})"
    return Finding("ok" if version else "note", subject, text)
