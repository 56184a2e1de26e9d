"""VAE Decode (Stream) on another device: the same pictures, beside the sampler, with a plan."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils import backend_registration

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import runpy, sys
runpy.run_path("tests/conftest.py")
from longtake.tests.support.nodes.two_devices import main
main(sys.argv[1:])
"""
QUICK = "default", "gpu:1", "latents", "blocked"
LONG = "default", "gpu:0", "cpu", "latents", "cancelled", "moved", "latent", "latent, gpu:1"
MAIN, SIDE = "MainThread", "longtake decode_0"
needs_devices = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices in Python",
)


@cache
def on_two_devices(*cases: str) -> dict[str, dict[str, Any]]:
    """The records of those shots, from a process with two accelerators."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *cases], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    records: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return records


@needs_devices
def test_a_second_device_gives_the_same_pictures_on_a_thread_of_its_own() -> None:
    shots = on_two_devices(*QUICK)
    there, here = shots["gpu:1"], shots["default"]
    assert there["pictures"] == here["pictures"]
    assert here["threads"] == [[MAIN], []] and here["decode_device"] is None
    assert there["threads"][0] == [MAIN] and SIDE in there["threads"][1]


@needs_devices
def test_nothing_of_the_decoder_lands_on_the_first_device() -> None:
    shots = on_two_devices(*QUICK)
    without = shots["latents"]["peaks"][0]
    assert 0 < shots["gpu:1"]["peaks"][0] <= without < shots["default"]["peaks"][0] / 10


@needs_devices
def test_the_plan_of_the_second_device_is_what_it_allocates() -> None:
    there = on_two_devices(*QUICK)["gpu:1"]
    planned = there["decode_bytes"] + there["weight_bytes"]
    assert there["peaks"][1] == pytest.approx(planned, rel=0.05)
    assert there["decode_device"] == "phantom:1"
    assert "On phantom:1: decoding 2.2 MB, VAE weights 9.7 MB." in there["plan"]
    assert there["report"]["decode_on"] == f"phantom:1, {planned} bytes planned"


@needs_devices
def test_the_sampler_does_not_wait_for_the_decoder() -> None:
    """The second chunk is decoded only after the third one is made."""
    assert on_two_devices(*QUICK)["blocked"]["made_meanwhile"] == [True] * 3


@pytest.mark.slow
@needs_devices
def test_a_cancelled_shot_resumes_to_the_same_pictures() -> None:
    shots = on_two_devices(*LONG)
    assert shots["cancelled"] == {"pictures": shots["default"]["pictures"], "resumed_from": 1}


@pytest.mark.slow
@needs_devices
def test_the_cpu_decodes_for_an_accelerator_and_the_first_device_by_its_name_is_default() -> None:
    shots = on_two_devices(*LONG)
    digests = {shots[case]["pictures"] for case in ("default", "gpu:0", "cpu")}
    assert len(digests) == 1
    assert shots["gpu:0"]["threads"] == [[MAIN], []] and shots["gpu:0"]["decode_device"] is None
    assert shots["cpu"]["peaks"][0] <= shots["latents"]["peaks"][0]
    assert shots["cpu"]["threads"] == [[MAIN], []] and shots["cpu"]["decode_device"] == "cpu"


@pytest.mark.slow
@needs_devices
def test_a_vae_that_another_node_has_moved_is_decoded_where_it_is() -> None:
    """As ComfyUI's Select VAE Device does."""
    shots = on_two_devices(*LONG)
    there = shots["moved"]
    assert there["pictures"] == shots["default"]["pictures"]
    assert there["peaks"][0] <= shots["latents"]["peaks"][0]
    assert there["decode_device"] == "phantom:1" and SIDE in there["threads"][1]


@pytest.mark.slow
@needs_devices
def test_a_latent_is_decoded_there_too() -> None:
    shots = on_two_devices(*LONG)
    there, here = shots["latent, gpu:1"], shots["latent"]
    assert there["pictures"] == here["pictures"]
    assert (here["used"], there["used"]) == ([True, False], [False, True])


@pytest.mark.slow
@needs_devices
def test_a_fork_and_a_live_edit_are_decoded_there_too() -> None:
    shots = on_two_devices("forked", "forked, gpu:1", "edited")
    assert shots["forked"]["pictures"] == shots["forked, gpu:1"]["pictures"]
    here, there = shots["edited"]["pictures"]
    assert here == there and shots["edited"]["edits"] == [True]


def test_on_a_computer_without_accelerators_the_cpu_is_the_default(bench: Bench) -> None:
    """Nothing is copied."""
    rollout, vae = bench.rollout()
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae, decode_on="cpu")
    assert frames.vae.tree is vae.first_stage_model and frames.estimate.apart is None


def test_a_device_that_is_not_here_is_one_sentence(bench: Bench) -> None:
    from longtake.nodes.frames.vae import VAEDecodeStream

    rollout, vae = bench.rollout()
    sentence = "decode_on is 'gpu:3'; choose one of default, cpu."
    assert VAEDecodeStream.validate_inputs(decode_on="gpu:3") == sentence
    assert VAEDecodeStream.validate_inputs() is True
    with pytest.raises(BadInput, match=sentence):
        bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae, decode_on="gpu:3")


@pytest.mark.usefixtures("bench")
def test_a_device_that_comes_through_a_link_is_judged_when_the_node_runs() -> None:
    from longtake.nodes.frames.vae import VAEDecodeStream

    assert VAEDecodeStream.validate_inputs(decode_on=None) is True


def test_several_devices_are_listed_as_core_nodes_list_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management as management

    from longtake.nodes import host

    cards = [torch.device("cuda", number) for number in (0, 1)]
    monkeypatch.setattr(management, "get_all_torch_devices", lambda: cards)
    assert host.device_names() == ["default", "cpu", "gpu:0", "gpu:1"]
    assert host.device_named("gpu:1") == cards[1] and host.device_named("default") is None
    monkeypatch.delattr(management, "get_all_torch_devices")  # as in older cores
    assert host.device_names() == ["default", "cpu"]


def test_a_claim_waits_while_its_device_computes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim may unload what another thread computes with."""
    import comfy.model_management as management

    from longtake.nodes import host

    steps, computes, elsewhere = list[str](), threading.Event(), threading.Event()

    def compute() -> None:
        with host.computing_on(torch.device("mps")):
            computes.set()
            elsewhere.wait(60)
            time.sleep(0.2)  # the second claim comes meanwhile
            steps.append("computed")

    monkeypatch.setattr(management, "load_models_gpu", lambda *_, **__: steps.append("loaded"))
    side = threading.Thread(target=compute)
    side.start()
    computes.wait()
    host.claim([SimpleNamespace(load_device=torch.device("cpu"), patches={})], 0)
    elsewhere.set()
    host.claim([SimpleNamespace(load_device=torch.device("mps", 0), patches={})], 0)
    side.join()
    assert steps == ["loaded", "computed", "loaded"]
