"""The fake host modules; `HostState` is all of their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...events import BarMoved, Event, Listener, from_message
from ...machine import free_memory_bytes, total_memory_bytes
from . import io_types, ui_types
from .folders import (
    INPUT,
    get_filename_list,
    get_full_path_or_raise,
    get_save_image_path,
)
from .models import (
    VAE,
    CallbacksMP,
    Patcher,
    all_devices,
    compute_device,
    convert_old_quants,
    load_diffusion_model,
    load_diffusion_model_state_dict,
    load_lora_for_models,
)
from .tiles import tiled_scale

if TYPE_CHECKING:
    from ...player.server import PageServer


class InterruptProcessingException(BaseException):
    """The host's interrupt; not an `Exception`, so that no node swallows it."""


@dataclass(slots=True)
class HostState:
    """Folders, event listener, command line arguments and interrupt flag of one stand-in."""

    folders: dict[str, Path]
    listener: Listener
    interrupted: bool = field(default=False, init=False)
    page: PageServer | None = field(default=None, init=False)
    arguments: SimpleNamespace = field(init=False)
    prompt: _ProgressState = field(init=False)

    def __post_init__(self) -> None:
        self.arguments = SimpleNamespace(
            disable_metadata=False,
            fp32_vae=False,
            fp32_unet=False,
            force_fp32=False,
            force_channels_last=False,
        )
        self.start_prompt()

    def start_prompt(self, prompt: Mapping[str, object] | None = None) -> None:
        """Begin a new prompt with these nodes by id."""
        self.prompt = _ProgressState(prompt or {})

    def interrupt(self, interrupted: bool = True) -> None:
        """Make the next check raise, or prevent that."""
        self.interrupted = interrupted

    def check_interrupted(self) -> None:
        """Raise once after `interrupt`."""
        if self.interrupted:
            self.interrupted = False
            raise InterruptProcessingException

    def emit(self, event: Event | None) -> None:
        if event is not None:
            self.listener(event)


class ProgressBar:
    """The host's progress bar; every update is also an interrupt check."""

    def __init__(self, state: HostState, total: int, node_id: str | None = None) -> None:
        self._state = state
        self.total = total
        self.current = 0
        self.node_id = node_id or ""

    def update_absolute(self, value: int, total: int | None = None, preview: object = None) -> None:
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        self._state.check_interrupted()
        self._state.emit(BarMoved(self.node_id, self.current, self.total))

    def update(self, value: int) -> None:
        self.update_absolute(self.current + value)


def fake_modules(state: HostState) -> dict[str, ModuleType]:
    """Return the host's modules by name; they read and change that state."""
    latest = _module(
        "comfy_api.latest",
        io=io_types,
        ui=ui_types,
        ComfyExtension=ComfyExtension,
        InputImpl=SimpleNamespace(VideoFromFile=VideoFromFile),
    )
    progress = _module("comfy_execution.progress", get_progress_state=lambda: state.prompt)
    graph = _module("comfy_execution.graph_utils", ExecutionBlocker=ExecutionBlocker)
    management = _model_management(state)
    patcher = _module("comfy.model_patcher", CoreModelPatcher=Patcher, ModelPatcher=Patcher)
    extension = _module("comfy.patcher_extension", CallbacksMP=CallbacksMP)
    ops = _module("comfy.ops", disable_weight_init=SimpleNamespace(Linear=nn.Linear))
    sd = _module(
        "comfy.sd",
        load_diffusion_model=load_diffusion_model,
        load_diffusion_model_state_dict=load_diffusion_model_state_dict,
        load_lora_for_models=load_lora_for_models,
        VAE=VAE,
    )
    utils = _module(
        "comfy.utils",
        convert_old_quants=convert_old_quants,
        ProgressBar=lambda total, node_id=None: ProgressBar(state, total, node_id),
        tiled_scale=tiled_scale,
    )
    arguments = _module("comfy.cli_args", args=state.arguments)
    modules = [
        arguments,
        _module(
            "comfy",
            cli_args=arguments,
            model_management=management,
            model_patcher=patcher,
            ops=ops,
            sd=sd,
            utils=utils,
        ),
        *(management, patcher, extension, ops, sd, utils),
        _module("comfy_api", latest=latest),
        latest,
        _module("comfyui_version", __version__="none (the stand-in of Longtake)"),
        _module("comfy_execution", progress=progress, graph_utils=graph),
        *(progress, graph),
        _folder_paths(state),
        _module("server", PromptServer=SimpleNamespace(instance=_Server(state))),
    ]
    return {module.__name__: module for module in modules}


def _module(name: str, **contents: object) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


class ComfyExtension:
    async def on_load(self) -> None:
        """Called once when the pack is loaded."""

    async def get_node_list(self) -> list[type[io_types.ComfyNode]]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ExecutionBlocker:
    """A value that prevents dependent nodes from running; with a message it is an error."""

    message: str | None


@dataclass(frozen=True, slots=True)
class VideoFromFile:
    """The host's VIDEO value for a file."""

    file: str

    def get_stream_source(self) -> str:
        return self.file


class _ProgressState:
    """Node states for the browser; unused here, since nodes are not expanded into others."""

    prompt_id = ""

    def __init__(self, nodes: Mapping[str, object]) -> None:
        self.dynprompt = SimpleNamespace(
            get_display_node_id=lambda node_id: node_id,
            has_node=nodes.__contains__,
            get_node=nodes.__getitem__,
        )

    def finish_progress(self, node_id: str) -> None: ...


class _Server:
    """The sending half of the web server; nothing adds routes here."""

    routes = None

    def __init__(self, state: HostState) -> None:
        self._state = state

    @property
    def client_id(self) -> str | None:
        """The id of the watching page, if there is one."""
        return self._state.page.key if self._state.page else None

    def send_sync(self, event: str, data: dict[str, object], sid: str | None = None) -> None:
        """Send an event to the watching page, and to the command line if it is a known event."""
        if self._state.page is not None and sid is not None:
            self._state.page.emit(event, data)
        self._state.emit(from_message(event, data, self._state.folders))

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        """Ignore text for a browser; nodes log it too."""


def _model_management(state: HostState) -> ModuleType:
    compute, cpu = compute_device(), torch.device("cpu")

    def cast_to(
        weight: Tensor, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor:
        return weight.to(device=device, dtype=dtype)

    def load_models_gpu(
        models: Sequence[Patcher], memory_required: int = 0, force_full_load: bool = False
    ) -> None:
        for patcher in models:
            patcher.partially_load(patcher.load_device)

    def get_free_memory(device: torch.device | None = None) -> int:
        on_gpu = (device or compute).type == "cuda"
        return torch.cuda.mem_get_info(device)[0] if on_gpu else free_memory_bytes()

    def get_total_memory(device: torch.device | None = None) -> int:
        on_gpu = (device or compute).type == "cuda"
        return torch.cuda.mem_get_info(device)[1] if on_gpu else total_memory_bytes()

    return _module(
        "comfy.model_management",
        InterruptProcessingException=InterruptProcessingException,
        interrupt_current_processing=state.interrupt,
        throw_exception_if_processing_interrupted=state.check_interrupted,
        get_torch_device=lambda: compute,
        get_all_torch_devices=all_devices,
        unet_offload_device=lambda: cpu,
        intermediate_device=lambda: cpu,
        vae_device=lambda: compute,
        vae_offload_device=lambda: cpu,
        cast_to=cast_to,
        load_models_gpu=load_models_gpu,
        current_loaded_models=[],  # whose injections show in modules: the stand-in injects none
        get_free_memory=get_free_memory,
        get_total_memory=get_total_memory,
        extra_reserved_memory=lambda: 0,
    )


def _folder_paths(state: HostState) -> ModuleType:
    def folder(name: str) -> Callable[[], str]:
        def get() -> str:
            state.folders[name].mkdir(parents=True, exist_ok=True)
            return str(state.folders[name])

        return get

    return _module(
        "folder_paths",
        get_output_directory=folder("output"),
        get_temp_directory=folder("temp"),
        get_user_directory=folder("user"),
        get_input_directory=lambda: str(INPUT.resolve()),
        get_save_image_path=get_save_image_path,
        get_filename_list=get_filename_list,
        get_full_path_or_raise=get_full_path_or_raise,
    )
