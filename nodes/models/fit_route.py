"""The HTTP route that answers whether a model file fits, on the host's web server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ...errors import BadInput
from ...model.families.recognise import AUTO, EMA, RAW
from ...model.families.table import BY_KEY
from ...model.files.known_files import FLASHVSR_REMEDY, missing_file
from ...model.flashvsr.parts import TITLES, find_parts
from ...model.preset import DEMO_FOLDER
from ...model.recurrent.file import is_recurrent
from ...units import byte_size
from .. import host
from .fit import Fit, Machine, fit, without_folders
from .flashvsr.fit import fit_flashvsr
from .flashvsr.load import BESIDE, CAUSAL
from .load_model import DTYPES, FOLDER

PATH = "/longtake/fit"
DEMO_NODE, FLASHVSR_NODE = "LongtakeLoadDemoModel", "LongtakeLoadFlashVSR"


def open_fit_route() -> None:
    """Add the route if there is a web server; called once, when the pack loads."""
    if not host.has_web_server():
        return
    from aiohttp import web  # comes with a web server only

    from ...stream.preview.routes import GUARDED

    routes = web.RouteTableDef()

    @routes.get(PATH)
    async def answer(request: web.Request) -> web.Response:
        verdict = await asyncio.get_running_loop().run_in_executor(None, fit_of, request.query)
        return web.json_response(asdict(verdict), headers=GUARDED)

    host.serve(routes)


def fit_of(choice: Mapping[str, str]) -> Fit:
    """Answer for the class of a loader, `node`, and the values of its widgets.

    Each file must be in the host's own list, so no path can be asked for.
    """
    try:
        family, weights = choice.get("family", AUTO), choice.get("weights", AUTO)
        dtype = choice.get("weight_dtype", "auto")
        known = family in (AUTO, *BY_KEY) and weights in (AUTO, EMA, RAW) and dtype in DTYPES
        if not known:
            raise BadInput("This loader has a value that Longtake does not know; choose another.")
        if choice.get("node") == FLASHVSR_NODE:
            return _fit_of_flashvsr(choice)
        path = _file(choice)
        if is_recurrent(path):
            return _fit_of_recurrent(path, _machine())
        return fit(path, _machine(), family, weights, DTYPES[dtype])
    except BadInput as error:
        return Fit(str(error), False)


def _fit_of_flashvsr(choice: Mapping[str, str]) -> Fit:
    """The answer for FlashVSR's four files, of which some may be named."""
    names = {part: choice.get(part, BESIDE) for part in TITLES}
    named = {part: _listed(name, FLASHVSR_NODE) for part, name in names.items() if name != BESIDE}
    transformer = _file(choice)
    try:
        parts = find_parts(transformer, named)
    except BadInput as error:
        return Fit(without_folders(error, transformer, *named.values()), False)
    causal = CAUSAL.get(choice.get("version", ""), True)
    dtype = DTYPES[choice.get("weight_dtype", "auto")]
    return fit_flashvsr(parts, _machine(), causal=causal, weight_dtype=dtype)


def _fit_of_recurrent(path: Path, machine: Machine) -> Fit:
    """The answer for a recurrent model: its weights are nearly all that it takes."""
    size = path.stat().st_size
    text = f"A recurrent model of {byte_size(size)}, with a history of constant size."
    return Fit(text, 2 * size < machine.room_bytes)  # computed in twice the bytes of its file


def _file(choice: Mapping[str, str]) -> Path:
    if choice.get("node") == DEMO_NODE:
        return DEMO_FOLDER / "dit.safetensors"
    return _listed(choice.get("model_name", ""), choice.get("node", ""))


def _listed(name: str, node: str) -> Path:
    if name not in host.model_files(FOLDER):
        if node == FLASHVSR_NODE:
            raise BadInput(f"{name!r} is not in models/{FOLDER}; {FLASHVSR_REMEDY}.")
        raise BadInput(f"{missing_file(name, FOLDER)}.")
    return host.model_file(FOLDER, name)


def _machine() -> Machine:
    device = host.compute_device()
    return Machine(device, host.usable_memory_bytes(device))
