"""A training run: its learning-rate curve, Muon, and lossless stopping and resuming."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from longtake.errors import BadInput
from longtake.tests.support.tiny_model import randn
from longtake.training.muon import Muon, orthogonalise
from longtake.training.run import Curve, Descent, RecentLosses, TrainingRun, matrix_descent


def make_run(file: Path, seed: int = 0, widths: tuple[int, int] = (5, 3)) -> TrainingRun:
    """Return a run of a linear layer with 100 steps, of which the last 40 decay."""
    torch.manual_seed(seed)
    model = nn.Linear(*widths)
    descent = matrix_descent(list(model.parameters()), Curve(100), muon=0.02, adamw=0.01)
    average = {key: value.clone() for key, value in model.state_dict().items()}
    return TrainingRun(file, model, descent, average)


def descend(run: TrainingRun, steps: int) -> None:
    """Take steps towards zero outputs."""
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        run.descend(run.model(x).square().mean())


def test_the_curve_warms_up_stays_and_decays_to_zero() -> None:
    shares = [Curve(100, warmup=10, decay_share=0.4).at(step) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9:61] == [1.0] * 52
    assert shares[80] == pytest.approx(0.5)
    assert shares[100] == 0.0


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 9), (2, 12, 5)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    g = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(g))
    assert values.min() > 0.3 and values.max() < 1.3
    one_by_one = torch.cat([orthogonalise(g[i : i + 1]) for i in range(len(g))])
    torch.testing.assert_close(orthogonalise(g), one_by_one)


def test_orthogonalising_keeps_the_singular_vectors() -> None:
    g = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(g)
    core = u.mT @ orthogonalise(g) @ v.mT
    diagonal = torch.diag_embed(core.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(core, diagonal, atol=1e-4, rtol=0)


def test_muon_fits_a_rotation() -> None:
    target, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    weight = nn.Parameter(torch.zeros(6, 6))
    muon = Muon([weight], 0.05, decay=0.0)
    for step in range(60):
        muon.param_groups[0]["lr"] = 0.05 * (1 - step / 60)
        weight.grad = (weight - target).detach()
        muon.step()
    assert (weight - target).abs().max() < 0.1


@pytest.mark.parametrize("shape", [(8, 2), (2, 8), (4, 2, 3)])
def test_muon_takes_longer_steps_on_tall_matrices_and_lets_weights_decay(
    shape: tuple[int, ...],
) -> None:
    """Two steps against Jordan's equations: a length of sqrt(max(1, rows / columns))."""
    start, gradients = randn(*shape, seed=1), [randn(*shape, seed=2), randn(*shape, seed=3)]
    weight, lr, decay, beta = nn.Parameter(start.clone()), 0.05, 0.1, 0.9
    muon = Muon([weight], lr, momentum=beta, decay=decay)
    expected, momentum, rows = start, torch.zeros(shape), shape[0]
    for gradient in gradients:
        weight.grad = gradient.clone()
        muon.step()
        momentum = beta * momentum + gradient
        update = orthogonalise((gradient + beta * momentum).reshape(1, rows, -1))[0].view(shape)
        length = max(1.0, rows / (start.numel() / rows)) ** 0.5
        expected = expected * (1 - lr * decay) - lr * length * update
    torch.testing.assert_close(weight.detach(), expected)


def test_muon_skips_parameters_without_a_gradient() -> None:
    idle, used = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.eye(2)
    Muon([idle, used], 0.1).step()
    assert torch.equal(idle, torch.ones(2, 2))
    assert not torch.equal(used, torch.ones(2, 2))


def test_clipping_bounds_all_gradients_together() -> None:
    weights = [nn.Parameter(torch.zeros(3)) for _ in range(2)]
    sgd = torch.optim.SGD(weights, 1.0)
    descent = Descent([sgd], Curve(10, warmup=1), clipped=weights)
    descent.step(torch.stack([100 * w.sum() for w in weights]).sum(), 0)
    assert torch.cat([w.detach() for w in weights]).norm() == pytest.approx(1.0, abs=1e-4)


def test_resuming_restores_weights_optimisers_average_and_step(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run.pt")
    descend(run, 4)
    run.save()
    again = make_run(tmp_path / "run.pt", seed=1)
    again.resume(random.Random(0), 0)
    assert again.done == 4
    descend(run, 3)
    descend(again, 3)
    assert_same(run.model.state_dict(), again.model.state_dict())
    assert_same(run.averaged, again.averaged)


def test_resuming_in_the_decay_keeps_the_peak_rates(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run.pt")
    descend(run, 90)
    run.save()
    again = make_run(tmp_path / "run.pt")
    again.resume(random.Random(0), 0)
    assert again.descent.peaks == [0.02, 0.01]
    descend(run, 1)
    descend(again, 1)
    assert_same(run.model.state_dict(), again.model.state_dict())


def test_resuming_reseeds_by_seed_and_step(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run.pt")
    descend(run, 3)
    run.save()
    rng = random.Random(5)
    make_run(tmp_path / "run.pt").resume(rng, 5)
    assert rng.random() == random.Random(8).random()
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(8)))


def test_without_a_file_a_run_starts_and_nothing_is_reseeded(tmp_path: Path) -> None:
    run, rng = make_run(tmp_path / "none.pt"), random.Random(5)
    state = torch.get_rng_state()
    run.resume(rng, 5)
    assert run.done == 0
    assert rng.random() == random.Random(5).random()
    assert torch.equal(state, torch.get_rng_state())


def test_a_state_of_another_shape_is_rejected_in_one_sentence(tmp_path: Path) -> None:
    make_run(tmp_path / "run.pt").save()
    with pytest.raises(BadInput, match=r"run\.pt belongs to a model of another shape"):
        make_run(tmp_path / "run.pt", widths=(5, 4)).resume(random.Random(0), 0)


def test_saving_leaves_only_the_state(tmp_path: Path) -> None:
    make_run(tmp_path / "run.pt").save()
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize(("done", "due"), [(1, False), (20, True), (99, False), (100, True)])
def test_reports_are_due_regularly_and_at_the_end(tmp_path: Path, done: int, due: bool) -> None:
    run = make_run(tmp_path / "run.pt")
    run.done = done
    assert run.is_due(20) is due


def test_the_log_shows_a_running_mean_of_each_task() -> None:
    recent = RecentLosses()
    for task, loss in (("wide", 1.0), ("narrow", 0.5), ("wide", 2.0)):
        recent.add(task, torch.tensor(loss, requires_grad=True))
    assert str(recent) == "wide 1.0300 narrow 0.5000"


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Check that keys and bits are equal."""
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
