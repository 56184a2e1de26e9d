"""Fork, Rewind, Continue, Save, Load and Info under the stand-in host."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from longtake.attention.delta.window import DeltaWindow
from longtake.errors import BadInput
from longtake.samplers.loop import Loop
from longtake.stream.rollout_file.file import RolloutFile
from longtake.tests.support.node_bench import Bench

TWO = "0: a red ball\n1: a blue ball"


def latents(bench: Bench, rollout: Any) -> torch.Tensor:
    return bench.collect(rollout, "latent")["samples"]


def edited(bench: Bench, action: str, rollout: Any, **inputs: Any) -> Any:
    return bench.run("LongtakeEditRollout", action=action, rollout=rollout, **inputs)[0]


def fork(bench: Bench, rollout: Any, **inputs: Any) -> Any:
    return edited(bench, "fork", rollout, **inputs)


def save_rollout(bench: Bench, rollout: Any, **inputs: Any) -> str:
    """Save a rollout; gives the name that Load Rollout lists."""
    shown = bench.shown("LongtakeSaveRollout", rollout=rollout, **inputs)
    [entry] = shown["longtake_files"]
    return f"{entry['subfolder']}/{entry['filename']} [output]"


def load(bench: Bench, name: str, **inputs: Any) -> Any:
    model, clip, _ = bench.run("LongtakeLoadDemoModel", quality="full")
    return bench.run("LongtakeLoadRollout", file=name, model=model, clip=clip, **inputs)[0]


def test_a_fork_is_the_workflow_that_says_the_same(bench: Bench) -> None:
    """A prompt from 1.3 s on is the line of a Prompt Timeline that says so."""
    source, _ = bench.rollout(text="0: a red ball", length=57.0)
    written, _ = bench.rollout(text="0: a red ball\n1.3: a blue ball", length=57.0)
    forked = fork(bench, source, at=1.3, new_prompt="a  blue\nball")
    assert forked.id == written.id and forked.spec.key(4) == written.spec.key(4)
    whole = latents(bench, source)
    assert forked.spec.stored_chunks() == 2
    assert torch.equal(latents(bench, forked)[:, :, :6], whole[:, :, :6])
    assert not torch.equal(latents(bench, forked)[:, :, 6:], whole[:, :, 6:])


def test_a_fork_with_another_seed_or_guidance_shares_its_beginning(bench: Bench) -> None:
    source, _ = bench.rollout(length=57.0)
    whole = latents(bench, source)
    for change in ({"new_seed": 9}, {"new_guidance": 4.0}):
        made = latents(bench, fork(bench, source, at=0.6, **change))
        assert torch.equal(made[:, :, :3], whole[:, :, :3])
        assert not torch.equal(made[:, :, 3:6], whole[:, :, 3:6])


def test_a_fork_names_the_unknown_words_of_its_prompt(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    source, _ = bench.rollout(length=33.0)
    fork(bench, source, at=0.6, new_prompt="a red zeppelin")
    assert "does not know 'zeppelin'" in caplog.text


def test_a_fork_can_be_longer_and_at_the_end(bench: Bench) -> None:
    source, _ = bench.rollout(length=33.0)
    longer = fork(bench, source, at=-1.0, length=3.0, new_seed=3)
    assert (source.frames, longer.frames) == (33, 57)
    assert latents(bench, longer).shape[2] == 15


def test_a_rewound_shot_is_forked_where_it_ends(bench: Bench) -> None:
    source, _ = bench.rollout(length=57.0)
    rewound = edited(bench, "rewind", source, at=1.3)
    assert rewound.frames == rewound.plan.frames == 21 and rewound.plan.chunks == 2
    assert source.plan.frames == 57 and latents(bench, rewound).shape[2] == 6
    forked = fork(bench, rewound, new_prompt="a red ball")
    assert forked.frames == 57 and forked.settings.prompts.entries[-1].start_frame == 6
    assert latents(bench, forked).shape[2] == 15


def test_a_shot_goes_on_where_it_ends(bench: Bench) -> None:
    source, _ = bench.rollout(length=33.0)
    whole = latents(bench, source)
    longer = edited(bench, "continue", source, more=1.0)
    made = latents(bench, longer)
    assert made.shape[2] == 15 and torch.equal(made[:, :, :9], whole)
    direct, _ = bench.rollout(length=57.0)
    assert longer.id == direct.id == source.id and direct.spec.stored_chunks() == 5


@pytest.mark.parametrize(("more", "frames"), [(0.01, 45), (0.75, 45), (0.8, 57), (1.6, 69)])
def test_continue_rounds_up_to_whole_chunks(bench: Bench, more: float, frames: int) -> None:
    """A chunk takes 0.75 s: a shot never goes on for less than the seconds that were set."""
    source, _ = bench.rollout(length=33.0)
    assert edited(bench, "continue", source, more=more).frames == frames


def test_the_source_is_never_changed(bench: Bench) -> None:
    source, _ = bench.rollout(length=33.0)
    before = source.settings
    fork(bench, source, at=0.6, new_seed=3, new_prompt="a ball")
    edited(bench, "rewind", source, at=0.6)
    edited(bench, "continue", source, more=1.0)
    assert source.settings is before and source.spec.cut is None and source.frames == 33


@pytest.mark.parametrize(
    ("action", "inputs", "words"),
    [
        ("fork", {"at": 99.0}, "at is 99 s and the rollout ends at 2.0625 s"),
        ("fork", {"at": -1.0}, "and the shot would end at 2.0625 s"),
        ("fork", {"at": 1.0, "length": 0.5}, "is at 1.3125 s, and the shot would end at 0.5625 s"),
        ("rewind", {"at": 99.0}, "at is 99 s and the rollout ends"),
        ("fork", {"at": 1.0, "new_prompt": "5: a ball"},
         "new_prompt has the time `5:`, but a fork has one prompt, which begins at `at`; delete"),
        ("fork", {"at": 1.0, "new_prompt": "a ball\n1:30 (over 2): a cube"},
         r"the time `1:30 \(over 2\):`"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(
    bench: Bench, action: str, inputs: dict[str, Any], words: str
) -> None:
    source, _ = bench.rollout(length=33.0)
    with pytest.raises(BadInput, match=words):
        edited(bench, action, source, **inputs)


def test_a_shot_without_an_end_must_be_rewound_first(bench: Bench) -> None:
    source, vae = bench.rollout(length=0.0)
    for action in ("fork", "rewind", "continue"):
        with pytest.raises(BadInput, match="has no end"):
            edited(bench, action, source)
    assert fork(bench, source, at=1.0, new_seed=4).frames is None
    rewound = edited(bench, "rewind", source, at=1.3)
    longer = edited(bench, "continue", rewound, more=0.5)
    assert (rewound.frames, longer.frames) == (21, 33)
    endless = bench.run("LongtakeVAEDecode", rollout=source, vae=vae)[0]
    with pytest.raises(BadInput, match="first shot has no end"):
        bench.run("LongtakeSpliceRollouts", first=endless, second=endless)


@pytest.mark.parametrize("action", ["rewind", "continue"])
def test_a_change_that_only_a_fork_makes_is_named(
    bench: Bench, caplog: pytest.LogCaptureFixture, action: str
) -> None:
    source, _ = bench.rollout(length=33.0)
    changed = edited(bench, action, source, at=1.3, more=0.5, new_prompt="a red ball", new_seed=3)
    assert changed.settings.prompts == source.settings.prompts
    for name in ("new_prompt", "new_seed"):
        assert f"{name} has no effect with `{action}`; choose `fork`." in caplog.text


def test_a_saved_shot_comes_back_and_makes_nothing_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, vae = bench.rollout(length=33.0)
    name = save_rollout(bench, source, vae=vae)
    whole = latents(bench, source)
    for chunk in (tmp_path / "longtake" / ".rollouts").iterdir():
        chunk.unlink()  # as on another machine
    loaded = load(bench, name)
    assert loaded.id == source.id and loaded.spec.stored_chunks() == loaded.chunk_count == 3

    def refuse(*_: Any) -> None:
        raise AssertionError("a chunk was made again")

    with monkeypatch.context() as patch:
        patch.setattr(type(loaded.claim), "claim", refuse)
        assert torch.equal(latents(bench, loaded), whole) and loaded.resumed_from is None
    longer = edited(bench, "continue", loaded, more=0.5)
    assert latents(bench, longer).shape[2] == 12 and longer.resumed_from == 3
    forked = fork(bench, loaded, at=1.3, new_prompt="a blue ball")
    assert torch.equal(latents(bench, forked)[:, :, :6], whole[:, :, :6])


def test_a_file_with_its_state_is_gone_on_with_at_once(
    bench: Bench, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    from longtake.nodes.runtime.session import session

    caplog.set_level(logging.INFO, "longtake")
    source, _ = bench.rollout(length=33.0)
    name = save_rollout(bench, source, with_state=True)
    assert "3 chunks" in caplog.text and "is not in the file" not in caplog.text
    session.reset()
    for file in (tmp_path / "longtake" / ".rollouts").iterdir():
        file.unlink()  # as on another machine
    longer = edited(bench, "continue", load(bench, name), more=0.5)
    [state] = (tmp_path / "longtake" / ".rollouts").glob("*.state.safetensors")
    assert longer.spec.key(2) in state.name
    restored: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        restore = Loop.restore
        patch.setattr(Loop, "restore", lambda o, s: restored.append(1) or restore(o, s))
        made = latents(bench, longer)
    assert restored and torch.equal(made, latents(bench, bench.rollout(length=45.0)[0]))
    again, _ = bench.rollout(length=33.0)
    session.reset()
    save_rollout(bench, again, with_state=True)  # all from the journal
    assert "The KV cache is not in the file" in caplog.text


def test_a_file_has_report_and_picture(bench: Bench, tmp_path: Path) -> None:
    source, vae = bench.rollout(length=33.0)
    name = save_rollout(bench, source, vae=vae).removesuffix(" [output]")
    extras = RolloutFile(tmp_path / name).extras
    assert extras.report.rollout_id == source.id and extras.thumbnail is not None
    assert Image.open(io.BytesIO(extras.thumbnail)).size == (32, 32)
    plain = save_rollout(bench, source).removesuffix(" [output]")
    assert RolloutFile(tmp_path / plain).extras.thumbnail is None


def test_a_stopped_shot_is_saved_as_far_as_it_is_and_goes_on(bench: Bench, tmp_path: Path) -> None:
    source, _ = bench.rollout(length=57.0)
    source.controls.stop()
    name = save_rollout(bench, source)
    loaded = load(bench, name)
    assert (loaded.chunk_count, loaded.frames, loaded.plan.frames) == (1, 9, 9)
    assert fork(bench, loaded).frames == 57  # as long as it was planned


def test_another_model_is_said_and_goes_on_under_its_own_name(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    source, _ = bench.rollout(length=33.0)
    name = save_rollout(bench, source)

    from longtake.nodes.runtime import resolved_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolved_model, "identity", lambda model: ("other", None))
        loaded = load(bench, name)
        assert "made with another model" in caplog.text
        assert loaded.spec.stored_chunks() == 3 and loaded.spec.chain.models.at(9) == "other"
        longer = edited(bench, "continue", loaded, more=0.5)
    plain, _ = bench.rollout(length=45.0)
    assert longer.spec.key(2) == plain.spec.key(2) and longer.spec.key(3) != plain.spec.key(3)


@pytest.mark.parametrize(
    ("there", "here"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)]
)
def test_a_machine_that_multiplies_in_another_format_is_no_other_model(
    bench: Bench, caplog: pytest.LogCaptureFixture, there: torch.dtype, here: torch.dtype
) -> None:
    from longtake.nodes.models import identity
    from longtake.nodes.rollouts import compatibility

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "product_dtype", lambda model: there)
        name = save_rollout(bench, bench.rollout(length=33.0)[0])
        for module in (identity, compatibility):
            patch.setattr(module, "product_dtype", lambda model: here)
        load(bench, name)
    names = [str(dtype).removeprefix("torch.") for dtype in (there, here)]
    assert f"this model and products in {names[0]}, and this machine multiplies in {names[1]}" in (
        caplog.text
    )


def test_files_outside_the_hosts_folders_are_refused(bench: Bench) -> None:
    for name in ("../../etc/passwd [output]", "a.rollout.safetensors", "none [output]"):
        with pytest.raises(BadInput):
            load(bench, name)


def test_saved_rollouts_are_listed_and_the_journals_files_are_not(bench: Bench) -> None:
    from longtake.nodes import host

    source, _ = bench.rollout(length=9.0)
    first = save_rollout(bench, source)
    assert host.saved_files(".rollout.safetensors") == [first]
    assert not any("rollouts/" in name for name in host.saved_files(".safetensors"))


def test_info_shows_what_there_is_and_the_tree(bench: Bench) -> None:
    source, _ = bench.rollout(length=33.0)
    told = bench.shown("LongtakeRolloutInfo", rollout=source)
    [text] = told["text"] if isinstance(told, dict) else told.as_dict()["text"]
    assert f"Rollout {source.id}" in text and "0 of 3 chunks exist" in text
    window = "recall window (window frames 21, archive frames 600, flat world, only new views)"
    assert f"Schedule 3 latent frames a chunk, solver euler, KV cache {window}" in text
    latents(bench, source)
    forked = fork(bench, source, at=1.3, new_seed=7)
    latents(bench, forked)
    told = bench.shown("LongtakeRolloutInfo", rollout=forked)
    [text] = told["text"] if isinstance(told, dict) else told.as_dict()["text"]
    lines = text.splitlines()
    assert "3 of 3 chunks exist" in text and "Seeds from 0:01.3: 7" in text
    assert lines[-2].startswith(f"- {source.id[:8]}")
    assert lines[-1] == f"  * {forked.id[:8]}  0:02.1  from 0:01.3: prompt a blue ball, seed 7"


def test_a_plan_forks_into_a_plan(bench: Bench) -> None:
    source, vae = bench.rollout(length=33.0, plan_only=True)
    forked = fork(bench, source, at=1.3, new_seed=7)
    assert forked.plan_only and forked.plan.frames == 33
    assert bench.shown("LongtakeSaveRollout", rollout=forked) is None
    bench.run("LongtakeVAEDecode", rollout=forked, vae=vae)


def test_whatever_the_kv_cache_node_gives_can_be_saved(bench: Bench) -> None:
    """A new policy or storage is named in `stream/rollout/recipe.py` too; a VAE cannot be written,
    and what needs one says so.
    """
    from longtake.nodes.memory.cache_spec import STATE
    from longtake.nodes.memory.kv_cache import KVCacheSettings
    from longtake.samplers.settings import RolloutSettings
    from longtake.stream.rollout_file.recipe import from_record, to_record

    plain, _ = bench.rollout()
    inputs = KVCacheSettings.define_schema().inputs
    for one in (one for one in inputs if hasattr(one, "options")):
        for option in (option for option in one.options if option != "re-encode"):
            [cache] = bench.run("LongtakeKVCacheSettings", **{one.id: option})
            if option == STATE:  # the model here has no layers to read one
                settings = replace(plain.settings, cache=DeltaWindow(9, 1))
            else:
                settings = bench.rollout(kv_cache=cache)[0].settings
            back: RolloutSettings = from_record(*to_record(settings))
            assert (back.cache, back.storage) == (settings.cache, settings.storage)


def test_recache_is_asked_for_at_the_sampler_and_named_in_what_is_said(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """After a restart, without a resting state; a fork of such a shot goes on the same way."""
    from longtake.nodes.runtime.session import session

    caplog.set_level(logging.INFO, "longtake")
    window = bench.run(
        "LongtakeKVCacheSettings", policy="window + sink", window_frames=4, sink_frames=0
    )[0]
    shot = {"kv_cache": window, "text": "a red ball"}
    bench.collect(bench.rollout(length=33.0, **shot)[0], "latent")
    session.reset()
    longer = {**shot, "length": 57.0}
    quick, vae = bench.rollout(resume="recache", **longer)
    [frames] = bench.run("LongtakeVAEDecode", rollout=quick, vae=vae)
    bench.collect(frames)
    assert "from the window alone, as requested" in caplog.text
    assert quick.run.state.settings.recache_frames == (9,)
    assert frames.report([]).versions["recached"] == "at latent frame 9"
    forked = edited(bench, "fork", quick, at=1.0, new_prompt="a blue ball")
    assert forked.spec.resume == "recache"
    session.reset()
    exact, _ = bench.rollout(**longer)
    bench.collect(exact, "latent")
    assert exact.resumed_from == 3 and exact.run.state.settings.recache_frames == ()


def test_recache_is_refused_where_a_window_does_not_hold_what_is_remembered(bench: Bench) -> None:
    ema = bench.run("LongtakeKVCacheSettings", policy="window + EMA sink", window_frames=6)[0]
    with pytest.raises(BadInput, match="choose exact"):
        bench.rollout(kv_cache=ema, resume="recache")
