"""Every family that Longtake knows, one row each: how to recognise it, how it runs, its licence.

Causal and plain Wan files hold the same tensors. What tensors cannot tell comes from the file's
metadata, from its name (`named`), or from the user. Sources are repositories on GitHub at the
commits read, with file and line where a figure is not in the configuration file itself. Models that
take a camera or a voice have a file each, and so has AnyFlow.
"""

from __future__ import annotations

from dataclasses import replace

from ..preset import DEMO, DEMO_FAST
from .anyflow import ANYFLOW
from .cameras.fun_camera import FUN_CAMERA
from .cameras.lingbot import LINGBOT_WORLD
from .cameras.matrix_game import MATRIX_GAME
from .cameras.minwm import MINWM
from .family import APACHE, NON_COMMERCIAL, SKYWORK, WAN, Family
from .presets import (
    ANY_CHUNK,
    AR_FRAMEWISE,
    BEFORE_DMD,
    FEW_STEP,
    FOUR,
    FRAMEWISE,
    ONE_OF_TWO,
    PLAIN,
    SKYREELS,
    STEP_DISTILL,
)
from .speaking import SPEAKING

STREAM_V2 = (
    "made for video to video, from 700 on; from nothing it takes a first step at 1000; its "
    "authors' own loop makes no commits, so expect other pictures here"
)

TWIN = "t2v-twin"
TWIN_NOTE = "its file holds two sets of weights: one makes the steps, the other every commit"
SGF = r"(self_?gradient_?forcing|(?<![a-z])sgf(?![a-z]))"
DISTILLED = r"step_?distill|lightx2v.*4_?step"

DEMO_KEY, FAST_DEMO_KEY = "demo", "demo-fast"

FAMILIES: tuple[Family, ...] = (
    Family(
        DEMO_KEY, "Longtake demo", "t2v", APACHE, "model/demo/card.md",
        replace(DEMO, steps=8),  # the card measures three
        takes_guidance=True,
    ),
    Family(
        FAST_DEMO_KEY, "Longtake demo, fast", "t2v", APACHE, "model/demo/card.md", DEMO_FAST,
        own_levels_only=True,
        instead="The demo's quality full can do that.",
    ),
    Family(
        "causvid", "CausVid", "t2v", NON_COMMERCIAL,
        "tianweiy/CausVid ca21150 configs/wan_causal_dmd.yaml; causvid/dmd.py: each chunk is "
        "trained at a noise level of its own",
        replace(FEW_STEP, steps=3, shift=8.0, timesteps=(1000.0, 757.0, 522.0),
                shift_timesteps=False, noisy_history=True),
        r"causvid|autoregressive_checkpoint|wan_causal_ode",
    ),
    Family(
        "rolling-forcing", "Rolling Forcing", "t2v",
        "Tencent: academic use only, no commercial or production use",
        "TencentARC/RollingForcing a1477d0 configs/rolling_forcing_dmd.yaml",
        replace(FEW_STEP, steps=5, window_frames=21, sink_frames=3, shared_window=True,
                rolling_chunks=5, timesteps=(1000.0, 800.0, 600.0, 400.0, 200.0)),
        r"rolling_?forcing",
    ),
    Family(
        "wave-forcing", "WaveForcing preview, 5 steps", "t2v", APACHE,
        "SJTU-DENG-Lab/WaveForcing 2644d7a README.md; wave_rt/denoiser/exchange/common.py:60-103",
        replace(FEW_STEP, steps=5, window_frames=24, sink_frames=3, wavefront=True,
                rolling_chunks=5, timesteps=(1000.0, 800.0, 600.0, 400.0, 200.0),
                note="made for several GPUs: 5 chunks are in work together"), r"wave_?forcing"),
    Family(
        "causal-forcing-1step", "Causal Forcing++ framewise, 1 step", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc pipeline/causal_inference.py:35-44",
        replace(FRAMEWISE, steps=1, timesteps=(1000.0,), first_timesteps=FOUR),
        r"(causal_?forcing.*)?framewise_1_?step",
    ),
    Family(
        "causal-forcing-2step", "Causal Forcing++ framewise, 2 steps", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc pipeline/causal_inference.py:35-44",
        replace(FRAMEWISE, steps=2, timesteps=(1000.0, 500.0), first_timesteps=FOUR),
        r"(causal_?forcing.*)?framewise_2_?step",
    ),
    Family(
        "one-forcing", "One-Forcing framewise, 1 step", "t2v", APACHE,
        "Aurora-edu/One-Forcing ca345b3 scripts/infer.sh, which takes the raw copy",
        replace(FRAMEWISE, steps=1, timesteps=(1000.0,), first_timesteps=FOUR),
        r"one_?forcing", copy="raw",
    ),
    Family(
        "sgf-framewise", "Self Gradient Forcing framewise", "t2v", APACHE,
        "zhuang2002/Self_Gradient_Forcing of 2026-07-24 scripts/infer_self_gradient_forcing.sh",
        replace(FRAMEWISE, sink_frames=4), rf"{SGF}.*framewise|framewise_(ar_model|.*{SGF})",
    ),
    Family(
        "sgf", "Self Gradient Forcing chunkwise", "t2v", APACHE,
        "zhuang2002/Self_Gradient_Forcing of 2026-07-24 scripts/infer_self_gradient_forcing.sh",
        replace(FEW_STEP, window_frames=9, sink_frames=3, aligned_frames=21),
        rf"{SGF}|chunkwise_ar_model",
    ),
    Family(
        "sgf-plus-framewise", "Self Gradient Forcing Plus framewise", TWIN, APACHE,
        "Zihan-Su/Self_Gradient_Forcing_Plus ec746eb scripts/infer_sgf_plus.sh",
        replace(FRAMEWISE, sink_frames=4, note=TWIN_NOTE), r"framewise",
    ),
    Family(
        "sgf-plus", "Self Gradient Forcing Plus chunkwise", TWIN, APACHE,
        "Zihan-Su/Self_Gradient_Forcing_Plus ec746eb scripts/infer_sgf_plus.sh",
        replace(FEW_STEP, window_frames=9, sink_frames=3, aligned_frames=21, note=TWIN_NOTE),
    ),
    Family(
        "causal-forcing-cd-framewise", "Causal Forcing framewise, consistency stage", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc configs/causal_cd_framewise.yaml",
        replace(FRAMEWISE, note=BEFORE_DMD), r"framewise.*causal_cd",
    ),
    Family(
        "causal-forcing-cd", "Causal Forcing chunkwise, consistency stage", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc configs/causal_cd_chunkwise.yaml",
        replace(FEW_STEP, note=BEFORE_DMD), r"causal_cd", copy="raw",
    ),
    Family(
        "causal-forcing-ode-framewise", "Causal Forcing framewise, ODE stage", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc configs/causal_ode_framewise.yaml",
        replace(FRAMEWISE, note=BEFORE_DMD), r"framewise.*causal_ode",
    ),
    Family(
        "causal-forcing-ode", "Causal Forcing chunkwise, ODE stage", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc configs/causal_ode_chunkwise.yaml",
        replace(FEW_STEP, note=BEFORE_DMD), r"(?<!wan_)causal_ode", copy="raw",
    ),
    Family(
        "causal-forcing-ar-framewise", "Causal Forcing framewise, diffusion stage", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc pipeline/causal_diffusion_inference.py", AR_FRAMEWISE,
        r"framewise.*(?<![a-z])ar_diffusion", copy="raw",
    ),
    Family(
        "causal-forcing-ar", "Causal Forcing chunkwise, diffusion stage", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc pipeline/causal_diffusion_inference.py",
        replace(AR_FRAMEWISE, chunk_frames=3, window_frames=18),
        r"(?<![a-z])ar_diffusion", copy="raw",
    ),
    Family(
        "causal-forcing-framewise", "Causal Forcing framewise", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc configs/causal_forcing_dmd_framewise.yaml", FRAMEWISE,
        r"causal_?forcing.*framewise|framewise.*causal_?forcing",
    ),
    Family(
        "causal-forcing", "Causal Forcing chunkwise", "t2v", APACHE,
        "thu-ml/Causal-Forcing 1fc7bbc configs/causal_forcing_dmd_chunkwise.yaml; README: the raw "
        "copy", FEW_STEP,
        r"causal_?forcing|chunkwise_longvideo", copy="raw",
    ),
    Family(
        "longlive2", "LongLive 2.0", "ti2v-5b", APACHE,
        "NVlabs/LongLive 7860ad9 configs/inference.yaml; pipeline/causal_diffusion_inference.py",
        replace(PLAIN, chunk_frames=8, steps=4, guidance_scale=1.0, window_frames=24, sink_frames=8,
                distant_sink=True, fps=24.0, width=1280, height=704, note=""),
        r"long_?live",
    ),
    Family(
        "longlive-infinity", "LongLive infinity", "t2v", APACHE,
        "NVlabs/LongLive branch v1.0 configs/longlive_inference_infinity.yaml",
        replace(FEW_STEP, window_frames=9, sink_frames=3), r"long_?live.*infinity",
    ),
    Family(
        "longlive", "LongLive 1.0", "t2v", APACHE,
        "NVlabs/LongLive branch v1.0 configs/longlive_inference.yaml",
        replace(FEW_STEP, window_frames=9, sink_frames=3, distant_sink=True,
                note="made to run with its own LoRA at strength 1 (models/lora.pt)"),
        r"long_?live",
    ),
    Family(
        "memflow", "MemFlow", "t2v",
        "see KlingTeam/MemFlow: its LICENSE is Apache-2.0, some files say CC-BY-NC-SA-4.0",
        "KlingTeam/MemFlow 7ed5147 configs/interactive_inference.yaml",
        replace(FEW_STEP, window_frames=9, sink_frames=3, bank_frames=3,
                note="made to run with its own LoRA at strength 1 (lora.pt), and re-cached where "
                "the prompt changes (prompt_switch)"),
        r"mem_?flow", copy="raw",
    ),
    Family(
        "krea-realtime", "Krea Realtime", "t2v", NON_COMMERCIAL,
        "krea-ai/realtime-video acf4b7b release_server.py; v2v.py get_denoising_schedule",
        replace(FEW_STEP, window_frames=3, sink_frames=0, rebuilt=True, shift_timesteps=False,
                timesteps=(1000.0, 937.5, 2500 / 3, 625.0, 0.0), steps=5,
                note="to begin its windows as its authors do, choose first_latent re-encode in KV "
                "Cache Settings (it needs the VAE)"),
        r"krea", width=5120,
    ),
    Family(
        "reward-forcing", "Reward Forcing", "t2v", APACHE,
        "JaydenLyh/Reward-Forcing configs/reward_forcing.yaml",
        replace(FEW_STEP, window_frames=6, sink_frames=3, sink_decay=0.999),
        r"reward_?forcing",
    ),
    Family(
        "streamdiffusionv2", "StreamDiffusionV2", "t2v", "see chenfengxu714/StreamDiffusionV2",
        "chenfengxu714/StreamDiffusionV2 020df41 configs/wan_causal_dmd_v2v.yaml",
        replace(FEW_STEP, chunk_frames=1, steps=3, shift=8.0, window_frames=5, sink_frames=3,
                timesteps=(1000.0, 700.0, 500.0), shift_timesteps=False, note=STREAM_V2),
        r"stream_?diffusion_?v2|wan_causal_dmd_v2v",
    ),
    Family(
        "streamdiffusionv2-14b", "StreamDiffusionV2 14B", "t2v",
        "see jerryfeng/StreamDiffusionV2: made with GoatWu/CausVid-Plus, which continues CausVid "
        "(CC-BY-NC-SA-4.0)",
        "chenfengxu714/StreamDiffusionV2 c5a0f20 configs/wan_causal_dmd_v2v_14b.yaml",
        replace(FEW_STEP, chunk_frames=1, steps=5, shift=8.0, window_frames=5, sink_frames=3,
                timesteps=(1000.0, 700.0, 500.0, 400.0, 200.0), shift_timesteps=False,
                note=STREAM_V2),
        r"stream_?diffusion_?v2.*14b|wan_causal_dmd_v2v_14b",
    ),
    Family(
        "self-forcing", "Self-Forcing", "t2v", APACHE,
        "guandeh17/Self-Forcing 33593df configs/self_forcing_dmd.yaml", FEW_STEP,
        r"self_?forcing|ode_init|(?<![a-z])sf_?wan",
    ),
    Family(
        "skyreels-df-fps", "SkyReels-V2 Diffusion Forcing 1.3B", "t2v-fps", SKYWORK,
        "SkyworkAI/SkyReels-V2 abed76f generate_video_df.py", SKYREELS, r"",
    ),
    Family(
        "skyreels-df", "SkyReels-V2 Diffusion Forcing", "t2v", SKYWORK,
        "SkyworkAI/SkyReels-V2 abed76f generate_video_df.py", SKYREELS,
        r"sky_?reels.*(df|diffusion_?forcing)",
    ),
    Family(
        "causal-ar", "Causal Wan", "t2v", "see where you got it",
        "ComfyUI comfy_extras/nodes_ar_video.py: the header says `causal_ar`",
        replace(FRAMEWISE, chunk_sizes=ANY_CHUNK),
    ),
    Family(
        "causal-wan22", "FastVideo's causal Wan 2.2 A14B", "t2v", APACHE,
        "hao-ai-lab/FastVideo 2f3d407 fastvideo/pipelines/stages/causal_denoising.py, "
        "fastvideo/configs/pipelines/wan.py",
        replace(FEW_STEP, steps=8, shift=12.0, boundary=0.875, halves=True, note=ONE_OF_TWO,
                timesteps=(1000.0, 850.0, 700.0, 550.0, 350.0, 275.0, 200.0, 125.0)),
        r"(causal|(?<![a-z])sf)_?wan_?2_?2(.*(high|low|a14b))?",
    ),
    Family(
        "wan22-a14b", "Wan 2.2 A14B text to video", "t2v", APACHE,
        "Wan-Video/Wan2.2 42bf4cf wan/configs/wan_t2v_A14B.py",
        replace(PLAIN, steps=40, shift=12.0, guidance_scale=3.5, boundary=0.875,
                note=f"{ONE_OF_TWO}; its authors guide by 4 at high and 3 at low noise"),
        r"wan_?2_?2.*(high|low|a14b)|(high|low)_noise", causal=False,
    ),
    Family(
        "stepdistill-t2v", "Wan 2.1 StepDistill text to video", "t2v", APACHE,
        "ModelTC/LightX2V f8aee98 lightx2v/models/schedulers/wan/step_distill/scheduler.py",
        STEP_DISTILL, rf"{DISTILLED}", causal=False,
    ),
    Family(
        "stepdistill-i2v", "Wan 2.1 StepDistill image to video", "i2v", APACHE,
        "ModelTC/LightX2V f8aee98 lightx2v/models/schedulers/wan/step_distill/scheduler.py",
        STEP_DISTILL, rf"{DISTILLED}", causal=False,
    ),
    Family(
        "wan21-t2v", "Wan 2.1 text to video", "t2v", WAN,
        "Wan-Video/Wan2.1 9737cba wan/configs", PLAIN, causal=False,
    ),
    Family(
        "wan21-i2v", "Wan 2.1 image to video", "i2v", WAN,
        "Wan-Video/Wan2.1 9737cba wan/configs", replace(PLAIN, steps=40, shift=3.0), causal=False,
    ),
    Family(
        "wan22-i2v-a14b", "Wan 2.2 A14B image to video", "i2v-no-clip", APACHE,
        "Wan-Video/Wan2.2 42bf4cf wan/configs/wan_i2v_A14B.py",
        replace(PLAIN, steps=40, shift=5.0, guidance_scale=3.5, boundary=0.9, note=ONE_OF_TWO),
        causal=False,
    ),
    *LINGBOT_WORLD,
    *MINWM,
    *MATRIX_GAME,
    *FUN_CAMERA,
    *SPEAKING,
    *ANYFLOW,
    Family(
        "wan22-ti2v-5b", "Wan 2.2 5B", "ti2v-5b", APACHE,
        "Wan-Video/Wan2.2 42bf4cf wan/configs/wan_ti2v_5B.py",
        replace(PLAIN, fps=24.0, width=1280, height=704), causal=False,
    ),
)  # fmt: skip

BY_KEY = {family.key: family for family in FAMILIES}


def plain_family(shape: str) -> Family:
    """The row that a model of this architecture is taken for where nothing names its family."""
    return [row for row in FAMILIES if row.shape == shape][-1]
