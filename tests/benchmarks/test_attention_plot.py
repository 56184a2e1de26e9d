"""The plots of the attention benches, from committed and from fresh results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from longtake.benchmarks import attention_recall
from longtake.benchmarks._attention.cases import MAIN
from longtake.benchmarks._attention.plot import (
    agreements,
    command,
    join_results,
    memory,
    panels,
    times,
)
from longtake.benchmarks._attention.recall import FULL, FULL_INT8, KINDS, SHARES

RESULTS = Path(attention_recall.__file__).parent / "results"
COMMITTED = [RESULTS / f"{name}.json" for name in ("attention-cpu", "attention-ablation-cpu")]
RECALLS = [RESULTS / f"attention-recall-{name}.json" for name in ("cpu", "tenth-cpu")]


def one(value: float) -> dict[str, float]:
    return {"median": value, "mean": value, "low": value - 1, "high": value + 1}


def speed(of: str = "") -> dict[str, Any]:
    """Return results of all cases at two histories, the longer one first, with the bench's
    labels.
    """
    labels = {f"{of}{name}, history {history}": history for name in MAIN for history in (256, 64)}
    figures = {label: one(history / 64) for label, history in labels.items()}
    taken = {f"{what}: {label}": 2**19 * (1 + (what != "KV cache")) for label in labels
             for what in ("KV cache", "in work", "in work before decoding")}  # fmt: skip
    return {"figures": {**figures, f"PSNR: {of}dense, history 64": one(9)}, "bytes": taken}


def test_time_and_memory_are_those_that_were_measured() -> None:
    found = speed()
    assert times(found).keys() == memory(found).keys() == MAIN.keys()
    assert times(found)["dense"] == [(64, 1, 0, 2), (256, 4, 3, 5)]
    assert memory(found)["all"] == [(64, 1.5, 1.5, 1.5), (256, 1.5, 1.5, 1.5)]
    assert times(found, "1.3B: ") == memory(found, "1.3B: ") == {}


def test_agreement_is_that_of_the_longest_course() -> None:
    names = [FULL, FULL_INT8, *(f"{kind}, {share:.0%}" for kind in KINDS for share in SHARES)]
    recall = {"figures": {f"40 away, 20 back, history 60: {what}{name}": one(len(what))
                          for name in names for what in ("", "MB: ")}}  # fmt: skip
    assert agreements(recall)["TempCache"] == [(4, 0, -1, 1)] * 3
    assert agreements(recall)[FULL_INT8] == [(4, 0, -1, 1)]


def test_each_model_has_panels_of_its_own_where_it_was_measured() -> None:
    recall = join_results([json.loads(path.read_text("utf-8")) for path in RECALLS])
    both = panels(join_results([speed(), speed("1.3B: ")]), recall)
    assert [panel.title[:4] for panel in both] == ["embe", "embe", "1.3B", "1.3B", "reca"]


def test_results_without_a_case_or_memory_leave_their_lines_out() -> None:
    old = {"figures": {"dense, history 64": one(1), "dense, history 2048": one(9),
                       "auto, history 64": one(1)},
           "bytes": {"KV cache: dense, history 64": 2**20}}  # fmt: skip
    recall = join_results([json.loads(path.read_text("utf-8")) for path in RECALLS])
    assert [panel.y for panel in panels(join_results([old]), recall)] == [
        "s a chunk", "agreement of what comes in",
    ]  # fmt: skip
    assert {name: [at for at, *_ in rows] for name, rows in times(old).items()} == {
        "dense": [64, 2048], "auto": [64],
    }  # fmt: skip


def test_the_committed_results_and_new_ones_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    new = tmp_path / "new.json"
    new.write_text(json.dumps(speed("1.3B: ")))
    files = [("--speed", file) for file in (*COMMITTED, new)]
    files += [("--recall", file) for file in RECALLS]
    options, out = [str(word) for pair in files for word in pair], tmp_path / "plot.png"
    ended = CliRunner().invoke(command, [*options, "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    assert out.read_bytes().startswith(b"\x89PNG")
