"""ComfyUI behind small functions: the only module that imports `comfy*`, `folder_paths`, `server`.

Everything used of the host, which is also all that the stand-in (`headless/stand_in`) must provide:
    comfy.model_management    cast_to, get_free_memory(device), get_total_memory(device),
                              get_torch_device, intermediate_device, vae_device,
                              vae_offload_device,
                              load_models_gpu(patchers, memory_required=, force_full_load=),
                              throw_exception_if_processing_interrupted
    comfy.model_patcher       CoreModelPatcher(module, load_device=, offload_device=), which has
                              .model and .load_device; ModelPatcher, likewise, to be derived from
    comfy.sd                  load_diffusion_model(path) -> MODEL;
                              load_lora_for_models(model, clip, lora, strength_model,
                              strength_clip) -> MODEL, CLIP; VAE(sd=, dtype=);
                              load_diffusion_model_state_dict(state, model_options=, metadata=)
    comfy.utils               ProgressBar(total, node_id=)
                              .update_absolute(value, total);
                              tiled_scale(pictures, function, tile_x, tile_y, overlap=,
                              upscale_amount=, output_device=)
    comfyui_version           __version__
    comfy_execution.graph_utils  ExecutionBlocker(None)
    comfy_execution.progress  get_progress_state(), another object for every prompt:
                              finish_progress(node_id), prompt_id,
                              dynprompt.get_display_node_id(node_id)
    folder_paths              get_output_directory, get_input_directory, get_temp_directory,
                              get_save_image_path(prefix, folder), get_filename_list(folder),
                              get_full_path_or_raise(folder, name)
    server                    PromptServer.instance: client_id, send_sync(event, payload, sid),
                              send_progress_text(text, node_id, sid=), routes (None: no web server)
    of a CLIP                 tokenize(text), encode_from_tokens_scheduled(tokens), clone(),
                              cond_stage_model, and mostly a patcher: load_device, offload_device,
                              model_size(), loaded_size(), is_dynamic()
    of a MODEL                model.diffusion_model, model.get_dtype_inference(), load_device,
                              model_options, wrappers, object_patches, injections, patches_uuid,
                              patches -> {name: [(strength, patch, strength_model, ...)]}, clone(),
                              backup -> {name: a tuple with the unpatched weight},
                              attachments, set_attachments(key, value), cached_patcher_init
    of an UPSCALE_MODEL       scale, model, called with pictures; newer cores: patcher
Node files import schema and types themselves, from `comfy_api.latest`: ComfyExtension;
InputImpl.VideoFromFile; io.{ComfyNode, Schema, NodeOutput, Hidden, FolderType, Custom, MultiType,
Int, Float, String, Combo, Boolean, ControlAfterGenerate, Model, Clip, Vae, Conditioning, Latent,
Image, Video, UpscaleModel}; ui.{PreviewText, PreviewVideo, SavedImages, SavedResult}.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import comfyui_version
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.progress import get_progress_state
from server import PromptServer
from torch import Tensor, nn

from ..errors import BadInput, StorageError
from ..stream.take_record import Emit, Origin, Record

__all__ = ["ModelPatcher"]

logger = logging.getLogger("longtake")

WAN_MODULES = ("patch_embedding", "text_embedding", "time_embedding", "time_projection", "blocks")
UPSCALE_FACTOR = 384  # activations per byte of a picture, the host's own estimate
TILE_OVERLAP = 32  # pixels, as in the host's own upscaling node


# Progress and messages


class Progress:
    """The progress bar of one node; every advance is an interrupt check too, and may raise.

    A total of 0 is not known: the bar stays short of full.
    """

    def __init__(self, node_id: str, total: int) -> None:
        self.node_id = node_id
        self.total = total
        self._bar = comfy.utils.ProgressBar(total, node_id=node_id)

    def advance(self, done: int) -> None:
        """Show `done` of the total."""
        self._bar.update_absolute(done, self.total or done + 1)

    def finish(self) -> None:
        """Mark the node as done again (work for it may run after the node itself has returned)."""
        get_progress_state().finish_progress(self.node_id)


def check_interrupted() -> None:
    """Raise the host's interrupt exception if the user pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def running_prompt() -> object:
    """Stands for the prompt that runs, or ran last: another one is another object."""
    return get_progress_state()


def nothing_to_give() -> object:
    """The value of an output that has none: what is connected to it is not run."""
    return ExecutionBlocker(None)


def say(node_id: str | None, text: str) -> None:
    """Write one line to the log and under the node."""
    logger.info("%s", text)
    _show(node_id, text)


def warn(node_id: str | None, text: str) -> None:
    """Like `say`, as a warning."""
    logger.warning("%s", text)
    _show(node_id, f"Warning: {text}")


def _show(node_id: str | None, text: str) -> None:
    server = PromptServer.instance
    if node_id is not None and server.client_id is not None:
        server.send_progress_text(text, node_id, sid=server.client_id)


def emit(event: str, payload: Mapping[str, object]) -> None:
    """Send a JSON event to whoever queued the running prompt; nobody listening is fine."""
    server = PromptServer.instance
    server.send_sync(event, dict(payload), server.client_id)


def messenger() -> Emit:
    """Sends JSON events to the page that queued the running prompt, also when it is over.

    On any thread. Nobody hears them if no page did: what is told may open a take.
    """
    server, page = PromptServer.instance, PromptServer.instance.client_id

    def send(event: str, payload: Record) -> None:
        if page is not None:
            server.send_sync(event, payload, page)

    return send


def prompt_id() -> str:
    """Which prompt is running."""
    return str(get_progress_state().prompt_id)


def origin(node_id: str | None, canvas: Mapping[str, Any] | None) -> Origin:
    """Where a node of the running prompt is; `canvas` is what it was told of the workflow."""
    named = node_id or ""
    return Origin(
        named,
        get_progress_state().dynprompt.get_display_node_id(named),
        prompt_id(),
        ((canvas or {}).get("workflow") or {}).get("id"),
        PromptServer.instance.client_id,
    )


def has_web_server() -> bool:
    """Whether routes can be added."""
    return getattr(getattr(PromptServer, "instance", None), "routes", None) is not None


def serve(routes: Iterable[Any]) -> None:
    """Add aiohttp routes to the host's web server; in time only while packs are loaded."""
    for route in routes:
        add = PromptServer.instance.routes.route(route.method, route.path, **route.kwargs)
        add(route.handler)


# Models


def load_diffusion_model(path: Path) -> Any:
    """A MODEL from a diffusion model file, built by the host's own loader."""
    try:
        return comfy.sd.load_diffusion_model(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"{path} cannot be loaded as a diffusion model ({reason}); it may be cut short."
        ) from error


def manage(module: nn.Module) -> Any:
    """A patcher for `claim`: the module under the host's memory management, as its own VAEs are."""
    return comfy.model_patcher.CoreModelPatcher(
        module,
        load_device=comfy.model_management.vae_device(),
        offload_device=comfy.model_management.vae_offload_device(),
    )


def claim(patchers: Sequence[Any], planned_bytes: int) -> None:
    """Ask for all `patchers` on their devices, their own patches applied, with room beside them.

    To be called before each chunk: another node may have used the same weights with another LoRA
    since the last one, or taken the memory. One call, because two calls evict each other on a small
    card.
    """
    comfy.model_management.load_models_gpu(list(patchers), memory_required=planned_bytes)


def claim_whole(patcher: Any, working_bytes: int) -> None:
    """Ask for one model whose modules cannot be fetched piece by piece, and room to work."""
    comfy.model_management.load_models_gpu(
        [patcher], memory_required=working_bytes, force_full_load=True
    )


def upscaler_patcher(model: Any) -> Any:
    """The patcher of an UPSCALE_MODEL; older cores give none."""
    return getattr(model, "patcher", None) or manage(model.model)


def upscaling_bytes(model: Any, tile: int) -> int:
    """What the host reckons that an upscale model takes for one tile."""
    return int(tile * tile * 3 * torch.float32.itemsize * max(model.scale, 1) * UPSCALE_FACTOR)


def upscale_tiled(model: Any, pictures: Tensor, tile: int) -> Tensor:
    """Pictures (n, 3, H, W) enlarged by `model.scale`, in blended tiles; on the CPU."""
    return comfy.utils.tiled_scale(
        pictures,
        lambda part: model(part.float()),
        tile_x=tile,
        tile_y=tile,
        overlap=TILE_OVERLAP,
        upscale_amount=model.scale,
        output_device="cpu",
    )


def encoder_beside_models(clip: Any) -> Any:
    """`clip`, or the same text encoder on the CPU where loading it would push models off the card.

    As the host's own Select CLIP Device does it.
    """
    patcher = getattr(clip, "patcher", None)
    if patcher is None or patcher.load_device.type == "cpu":
        return clip
    missing = patcher.model_size() - patcher.loaded_size()
    if missing <= comfy.model_management.get_free_memory(patcher.load_device):
        return clip
    beside = clip.clone(disable_dynamic=True) if patcher.is_dynamic() else clip.clone()
    beside.patcher.load_device = beside.patcher.offload_device = torch.device("cpu")
    return beside


def module_tree(model: Any) -> nn.Module:
    """The diffusion model inside a MODEL, as modules with the official Wan names, or a refusal."""
    tree = model.model.diffusion_model
    named = all(hasattr(tree, name) for name in WAN_MODULES)
    if not named or not hasattr(tree.blocks[0], "cross_attn"):
        raise BadInput(
            f"The model is a {type(tree).__name__}, which is not of the Wan family; connect Load "
            "Demo Model or a Wan 2.1 text-to-video model to `model`."
        )
    return tree


def compute_place(model: Any) -> tuple[torch.device, torch.dtype]:
    """Where a MODEL computes and in which dtype, wherever its weights are kept."""
    return model.load_device, model.model.get_dtype_inference()


def cast(parameter: Tensor, device: torch.device) -> Tensor:
    """A bare parameter in float32 on `device`; modules fetch their own weights when called."""
    return comfy.model_management.cast_to(parameter, dtype=torch.float32, device=device)


def weights_and_patches(model: Any) -> dict[str, list[Any]]:
    """For each tensor of the diffusion model: its unpatched value, then the patches (LoRA) on
    it.

    As the host's `get_key_patches`, but from the parameters themselves: the quantised layers of
    ComfyUI-GGUF add entries to `state_dict` that no module has.
    """
    found: dict[str, list[Any]] = {}
    for name, weight in model.model.named_parameters():
        if name.startswith("diffusion_model."):
            kept = model.backup.get(name)
            unpatched = weight if kept is None else kept.weight
            found[name] = [unpatched, *model.patches.get(name, ())]
    return found


def layer_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """The layers of a Wan MODEL that have a weight, by official names, with its shape."""
    weights, end = module_tree(model).named_parameters(), ".weight"
    return {n.removesuffix(end): tuple(w.shape) for n, w in weights if n.endswith(end)}


def with_lora(model: Any, parts: Mapping[tuple[str, str], Tensor], strength: float) -> Any:
    """A clone of a MODEL with a LoRA: tensors by layer (official name) and the host's own word."""
    lora = {f"diffusion_model.{layer}.{role}": tensor for (layer, role), tensor in parts.items()}
    return comfy.sd.load_lora_for_models(model, None, lora, strength, 0.0)[0]


def has_lora(model: Any) -> bool:
    """Whether a MODEL has patches that are added to its weights."""
    return any(_is_added(patch) for stack in model.patches.values() for patch in stack)


def with_lora_factor(model: Any, factor: float) -> Any:
    """A clone of a MODEL whose added patches are `factor` times as strong."""
    clone = model.clone()
    clone.patches = {
        name: [(p[0] * factor, *p[1:]) if _is_added(p) else p for p in stack]
        for name, stack in model.patches.items()
    }
    clone.patches_uuid = uuid.uuid4()
    return clone


def _is_added(patch: tuple[Any, ...]) -> bool:
    """A host's patch is (its strength, itself, the strength of what it is added to, ...)."""
    return len(patch) < 3 or patch[2] == 1.0


def session_token(model: Any) -> str:
    """Names a MODEL's patches for as long as the host keeps it."""
    return str(model.patches_uuid)


def runtime_device() -> torch.device:
    """Where the host keeps LATENT and IMAGE tensors between nodes."""
    return comfy.model_management.intermediate_device()


def usable_memory_bytes(device: torch.device) -> int:
    """What may be asked for: free main memory, or all of a card's, which the host can empty."""
    if device.type == "cpu":
        return int(comfy.model_management.get_free_memory(device))
    return int(comfy.model_management.get_total_memory(device))


def free_memory_bytes() -> int:
    """Free main memory."""
    return int(comfy.model_management.get_free_memory(torch.device("cpu")))


def compute_device() -> torch.device:
    """Where the host runs models."""
    return comfy.model_management.get_torch_device()


def core_version() -> str:
    """The host's version."""
    return str(comfyui_version.__version__)


# Folders


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file below the host's output or temp folder, and how the host names it to the browser."""

    path: Path
    subfolder: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.name


def output_file(prefix: str, suffix: str, *, temporary: bool = False) -> OutputFile:
    """The next free `prefix_00001_suffix` in the output (or temp) folder, and nowhere else."""
    folder = folder_paths.get_temp_directory() if temporary else folder_paths.get_output_directory()
    root = Path(folder).resolve()
    named = Path(prefix).name and "\0" not in prefix
    if not named or not (root / prefix).resolve().is_relative_to(root):
        raise BadInput(
            f"filename_prefix {prefix!r} is not a file name inside the output folder {root}; use a "
            "name such as longtake/clip."
        )
    try:
        parent, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, str(root))
    except OSError as error:
        raise StorageError(
            f"The output folder {root} cannot be used ({error}); choose one that can be written."
        ) from error
    return OutputFile(Path(parent) / f"{name}_{counter:05}_{suffix}", subfolder)


def temp_folder() -> Path:
    """What lies here the host may delete when it starts and ends."""
    return Path(folder_paths.get_temp_directory())


def folders() -> dict[str, Path]:
    """The host's folders that are written to, by their names."""
    found = {
        "output": folder_paths.get_output_directory(),
        "temp": folder_paths.get_temp_directory(),
    }
    for path in found.values():
        Path(path).mkdir(parents=True, exist_ok=True)  # the host makes them when it needs them
    return {name: Path(path) for name, path in found.items()}


def rollout_folder() -> Path:
    """Where finished chunks are kept, so that an interrupted run can go on."""
    return Path(folder_paths.get_output_directory()) / "longtake" / "rollouts"


def saved_files(suffix: str) -> list[str]:
    """Files that end so, as `NAME [output]`, newest first: those right in the output and input
    folders, and in all of their folder `longtake`.
    """
    found: list[tuple[float, str]] = []
    for kind, folder in _shared_folders().items():
        below = [folder, *_folders_below(folder / "longtake")]
        for path in (path for place in below for path in place.glob(f"*{suffix}")):
            name = path.relative_to(folder).as_posix()
            found.append((path.stat().st_mtime, f"{name} [{kind}]"))
    return [name for _, name in sorted(found, reverse=True)]


def saved_file(name: str) -> Path:
    """Where a file that `saved_files` names is; nothing outside those folders."""
    plain, _, kind = name.rpartition(" [")
    folder = _shared_folders().get(kind.removesuffix("]"))
    path = None if folder is None else (folder / plain).resolve()
    if folder is None or path is None or not path.is_relative_to(folder.resolve()):
        raise BadInput(f"{name!r} is not in the output or input folder; choose another file.")
    if not path.is_file():
        raise BadInput(f"{path} is not there any more; choose another file.")
    return path


def _folders_below(folder: Path) -> list[Path]:
    """A folder and those in it, but not the many files of the journal."""
    found: list[Path] = []
    for place, inner, _ in os.walk(folder):
        inner[:] = [name for name in inner if Path(place, name) != rollout_folder()]
        found.append(Path(place))
    return found


def _shared_folders() -> dict[str, Path]:
    return {
        "output": Path(folder_paths.get_output_directory()),
        "input": Path(folder_paths.get_input_directory()),
    }


# Model files


def model_files(folder: str) -> list[str]:
    """Names of the files in one of the host's model folders."""
    return list(folder_paths.get_filename_list(folder))


def model_file(folder: str, name: str) -> Path:
    """Where a file that `model_files` names is."""
    try:
        return Path(folder_paths.get_full_path_or_raise(folder, name))
    except FileNotFoundError as error:
        raise BadInput(
            f"{name!r} is not in the {folder} folder any more; choose another file."
        ) from error


def build_diffusion_model(
    read: Callable[[], dict[str, Tensor]], metadata: Mapping[str, str], dtype: torch.dtype | None
) -> Any:
    """A MODEL from weights by official names; the host may ask for them again later."""

    def build(**options: Any) -> Any:
        chosen = {} if dtype is None else {"dtype": dtype}
        model = comfy.sd.load_diffusion_model_state_dict(
            read(), model_options=chosen, metadata=dict(metadata), **options
        )
        if model is None:
            raise BadInput(
                "This ComfyUI does not know the architecture of these weights; update ComfyUI."
            )
        model.cached_patcher_init = (build, ())
        return model

    return build()


def build_vae(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> Any:
    """A VAE from the weights of a file, by the host's own detection."""
    try:
        vae = comfy.sd.VAE(sd=dict(state), dtype=dtype)
        vae.throw_exception_if_invalid()
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"The file is no VAE that this ComfyUI knows ({reason}); choose a Wan VAE."
        ) from error
    return vae


def attach(model: Any, key: str, value: object) -> None:
    """Let a MODEL carry a value; its clones carry it too."""
    model.set_attachments(key, value)


def override_attention(model: Any, wrap: Callable[[Any], Any]) -> None:
    """Put `wrap(before)` in place of a MODEL's attention override, None if it had none."""
    options = model.model_options.setdefault("transformer_options", {})
    options["optimized_attention_override"] = wrap(options.get("optimized_attention_override"))


def attached(model: Any, key: str) -> Any:
    """What `attach` put there, or None."""
    return model.attachments.get(key)
