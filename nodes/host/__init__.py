"""ComfyUI behind small functions: nothing else imports `comfy*`, `folder_paths`, `server`.

By subject: `audio_encoder`, `devices`, `interpolation`, `layers`, `loaded_weights`, `loras`,
`memory`, `metadata`, `models`, `own_layers`, `paths`, `progress`, `server`, `upscaling`.
Nodes call `host.claim(...)` without naming the module.

Everything that is used of the host, which the stand-in (`headless/hosts/stand_in`) provides too:
    comfy.cli_args            args .disable_metadata .fp32_vae .fp32_unet .force_fp32
                              .force_channels_last
    comfy.model_management    cast_to, get_free_memory(device), get_total_memory(device),
                              extra_reserved_memory,
                              get_torch_device (newer cores: get_all_torch_devices),
                              unet_offload_device,
                              interrupt_current_processing(value),
                              intermediate_device, vae_device, vae_offload_device,
                              load_models_gpu(patchers, memory_required=, force_full_load=),
                              current_loaded_models -> [.model],
                              throw_exception_if_processing_interrupted
    comfy.model_patcher       ModelPatcher(module, load_device=, offload_device=) .model
                              .load_device .is_dynamic() .loaded_size()
                              .partially_load(device, bytes, force_patch_weights)
    comfy.ops                 disable_weight_init.Linear .comfy_cast_weights .weight_function
                              .bias_function
    comfy.patcher_extension   CallbacksMP .ON_PRE_RUN .ON_CLEANUP
    comfy.sd                  load_lora_for_models(model, clip, lora, strength_model,
                              strength_clip) -> (MODEL, CLIP); VAE(sd=, dtype=, device=);
                              load_diffusion_model_state_dict(state, model_options=, metadata=)
    comfy.utils               convert_old_quants(state, prefix, metadata=) -> (state, metadata);
                              ProgressBar(total, node_id=)
                              .update_absolute(value, total);
                              tiled_scale(pictures, function, tile_x, tile_y, overlap=,
                              upscale_amount=, output_device=)
    comfyui_version           __version__
    comfy_execution.graph_utils  ExecutionBlocker(message or None)
    comfy_execution.progress  get_progress_state() (another object for every prompt)
                              .finish_progress(node_id) .prompt_id
                              .dynprompt .get_display_node_id(node_id)
                              .has_node(node_id) .get_node(node_id)
    folder_paths              get_output_directory, get_input_directory, get_temp_directory,
                              get_save_image_path(prefix, folder, width, height),
                              get_filename_list(folder),
                              get_full_path_or_raise(folder, name)
    server                    PromptServer .instance .client_id .send_sync(event, payload, sid)
                              .send_progress_text(text, node_id, sid=)
                              .routes (None: no web server) .app.middlewares
    of a CLIP                 tokenize(text), encode_from_tokens_scheduled(tokens), clone(),
                              cond_stage_model, and mostly a patcher: load_device, offload_device,
                              model_size(), loaded_size(), is_dynamic()
    of a MODEL                model.diffusion_model, model.get_dtype_inference(),
                              model.manual_cast_dtype, get_model_object(name), model.get_dtype(),
                              model.current_weight_patches_uuid, load_device,
                              offload_device, model_options, wrappers, object_patches,
                              injections, use_ejected(), patches_uuid,
                              weight_wrapper_patches -> {name: [function]}, forced_hooks,
                              patches -> {name: [(strength, patch, strength_model, ...)]}, clone(),
                              parent (the MODEL that it is a clone of, or None),
                              backup -> {name: a tuple with the unpatched weight},
                              attachments, set_attachments(key, value), cached_patcher_init,
                              callbacks -> {when: {key: [function]}},
                              remove_callbacks_with_key(when, key),
                              add_callback_with_key(when, key, callback)
    of a VIDEO                get_stream_source() -> a path or io.BytesIO; newer cores:
                              get_active_trim_window() -> (start, duration), get_duration(),
                              has_pending_frame_edits(); of those that crop (as_cropped):
                              get_dimensions(), save_to(path, crf=)
    of an AUDIO               waveform (1, channels, n), sample_rate
    of an AUDIO_ENCODER       model .feature_extractor .feature_projection .encoder, patcher,
                              load_device
    of an UPSCALE_MODEL       scale, model, called with pictures; newer cores: patcher
Node files import schema and types themselves, from `comfy_api.latest`: ComfyExtension;
InputImpl.VideoFromFile; io.{ComfyNode, Schema, NodeOutput, Hidden, FolderType, Custom, MultiType,
Int, Float, String, Combo, Boolean, ControlAfterGenerate, Model, Clip, Vae, Conditioning, Latent,
Image, Video, Audio, UpscaleModel}; ui.PreviewText.
"""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from .audio_encoder import audio_features, check_audio_encoder
from .claimed_files import claim_file, remove_empty
from .devices import DEFAULT, as_current, computing_on, device_named, device_names, same_device
from .interpolation import interpolate, interpolator
from .layers import is_plain_linear, is_plain_sequence
from .loaded_weights import loaded_dtypes
from .loras import (
    has_lora,
    is_own_function,
    layer_shapes,
    method_parts,
    patch_count,
    weights_and_patches,
    with_lora,
    with_lora_factor,
)
from .memory import (
    COMPUTE_DTYPE,
    Weights,
    cast,
    claim,
    claim_whole,
    compute_device,
    compute_place,
    encoder_beside_models,
    free_memory_bytes,
    is_loaded,
    manage,
    manage_beside,
    runtime_device,
    usable_memory_bytes,
    wants_float32_model,
    wants_float32_vae,
    weights,
    weights_version,
)
from .metadata import workflow_metadata
from .models import (
    attach,
    attention_override,
    build_diffusion_model,
    build_vae,
    callbacks_before_sampling,
    copy_vae,
    core_version,
    get_attachment,
    has_image_branch,
    is_wan,
    manage_network,
    module_tree,
    override_attention,
    session_token,
    source_file,
    under_root,
    watch_sampling,
    without_injections,
)
from .paths import (
    OutputFile,
    check_prefix,
    file_stamp,
    folders,
    model_file,
    model_files,
    output_file,
    output_files,
    result_picture,
    rollout_folder,
    saved_file,
    saved_files,
    saved_stamp,
    temp_folder,
)
from .progress import (
    Progress,
    check_interrupted,
    log,
    nothing_to_give,
    running_prompt,
    set_interrupt,
    show_status,
    show_text,
    warn,
)
from .server import (
    can_be_watched,
    emit,
    guard,
    has_page,
    has_web_server,
    messenger,
    origin,
    prompt_id,
    serve,
)
from .upscaling import (
    upscale_tiled,
    upscaler_patcher,
    upscaling_bytes,
)

__all__ = [
    "COMPUTE_DTYPE",
    "DEFAULT",
    "ModelPatcher",
    "OutputFile",
    "Progress",
    "Weights",
    "attach",
    "get_attachment",
    "build_diffusion_model",
    "build_vae",
    "callbacks_before_sampling",
    "can_be_watched",
    "cast",
    "check_audio_encoder",
    "check_interrupted",
    "check_prefix",
    "claim",
    "claim_file",
    "as_current",
    "claim_whole",
    "compute_device",
    "compute_place",
    "computing_on",
    "copy_vae",
    "core_version",
    "device_named",
    "device_names",
    "emit",
    "encoder_beside_models",
    "file_stamp",
    "folders",
    "free_memory_bytes",
    "guard",
    "has_image_branch",
    "has_lora",
    "has_page",
    "has_web_server",
    "audio_features",
    "interpolate",
    "interpolator",
    "is_loaded",
    "layer_shapes",
    "is_own_function",
    "is_plain_linear",
    "is_plain_sequence",
    "is_wan",
    "loaded_dtypes",
    "manage",
    "manage_beside",
    "manage_network",
    "messenger",
    "method_parts",
    "patch_count",
    "model_file",
    "model_files",
    "module_tree",
    "nothing_to_give",
    "origin",
    "output_file",
    "output_files",
    "attention_override",
    "override_attention",
    "prompt_id",
    "remove_empty",
    "result_picture",
    "rollout_folder",
    "running_prompt",
    "runtime_device",
    "same_device",
    "saved_file",
    "saved_files",
    "saved_stamp",
    "set_interrupt",
    "log",
    "show_status",
    "serve",
    "session_token",
    "source_file",
    "show_text",
    "temp_folder",
    "upscale_tiled",
    "upscaler_patcher",
    "upscaling_bytes",
    "under_root",
    "usable_memory_bytes",
    "wants_float32_model",
    "wants_float32_vae",
    "warn",
    "watch_sampling",
    "weights",
    "weights_and_patches",
    "weights_version",
    "with_lora",
    "with_lora_factor",
    "without_injections",
    "workflow_metadata",
]
