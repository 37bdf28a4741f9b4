"""The paper's statements, and what follows from them, as assertions."""

import copy
import itertools
import math
from functools import partial

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from emsiam import objective, optim
from emsiam.alternate import Frozen, alternate, hold
from emsiam.data import views
from emsiam.data.batches import Batch
from emsiam.eta import expectation, moving_average, other_view

pytestmark = pytest.mark.mathematics


def sgd(net, steps=100, lr=0.05, wd=5e-4, schedule="cosine"):
    return optim.SGD(net, lr=lr, momentum=0.9, wd=wd, steps=steps, schedule=schedule)


def train(net, solve, batches, *, similarity=objective.cosine, optimizer=None, **options):
    """Loss of each step; net is trained in place."""
    loop = alternate(
        net, solve, partial(objective.loss, similarity=similarity), optimizer or sgd(net), batches, **options
    )
    return [step.loss.item() for step in loop]


def same(a, b):
    """Parameters and buffers equal to the bit."""
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Algorithm 1 and the alternation


def algorithm_1(net, x1, x2):
    """The paper's pseudocode, with plain autograd and no code of the package but the network."""

    def D(p, z):
        z = z.detach()
        p = functional.normalize(p, dim=1)
        z = functional.normalize(z, dim=1)
        return -(p * z).sum(dim=1).mean()

    z1, z2 = net.F(x1), net.F(x2)
    p1, p2 = net.h(z1), net.h(z2)
    return D(p1, z2) / 2 + D(p2, z1) / 2


def test_onestep_is_algorithm_1(siamese, batches):
    ours, theirs = siamese(), siamese()
    (batch,) = batches(1)
    (loss,) = train(ours, other_view, [batch], held=False)  # leaves its gradients behind
    reference = algorithm_1(theirs, *batch.views)
    reference.backward()
    assert loss == pytest.approx(reference.item(), abs=1e-14)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-14, msg=name)


@pytest.mark.parametrize(
    ("solve", "held", "passes"), [(other_view, False, 2), (other_view, True, 4), (expectation, False, 2 + 4)]
)
def test_forward_passes_of_a_step(siamese, batches, solve, held, passes):
    """SimSiam's step has the two of Algorithm 1 and no other."""
    net, counted = siamese(), []
    net.F.backbone.register_forward_hook(lambda *_: counted.append(1))
    train(net, solve, batches(3), held=held)
    assert len(counted) == 3 * passes


@pytest.mark.parametrize("predictor", ["mlp", "none", "linear", "fixed"])
@pytest.mark.parametrize("symmetry", ["sym", "asym", "asym2x"])
def test_one_step_alternation_is_simsiam(siamese, batches, predictor, symmetry):
    """k = 1 through a frozen copy of θᵗ against the representations of the θ-step itself."""
    simsiam, alternating = siamese(predictor), siamese(predictor)
    a = train(simsiam, other_view, batches(6, symmetry=symmetry), k=1, held=False)
    b = train(alternating, other_view, batches(6, symmetry=symmetry), k=1, held=True)
    assert a == b
    assert same(simsiam, alternating)


def test_multistep_is_the_cached_algorithm(siamese, batches):
    """§5.2: in each alternation all k·B targets are computed first, then k SGD steps are taken."""
    k, steps = 7, 16  # the last alternation is cut short
    ours, net = siamese(), siamese()
    decayed = optim.SGD(ours, lr=0.05, momentum=0.9, wd=5e-4, steps=100, fix_pred_lr=False)
    losses = train(ours, other_view, batches(steps), k=k, optimizer=decayed)

    optimizer, expected, todo = (
        torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=5e-4),
        [],
        list(batches(steps)),
    )
    for block in (todo[i : i + k] for i in range(0, steps, k)):
        theta_t = copy.deepcopy(net)
        with torch.no_grad():
            cache = [torch.stack([theta_t.F(batch.views[1]), theta_t.F(batch.views[0])]) for batch in block]
        for batch, eta in zip(block, cache, strict=True):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * batch.step / 100)) / 2
            p = torch.stack([net.h(z) for z in [net.F(x) for x in batch.views]])
            loss = objective.cosine(p, eta).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
    assert losses == expected
    assert same(ours, net)


def test_k_matters(siamese, batches):
    assert train(siamese(), other_view, batches(8), k=1) != train(siamese(), other_view, batches(8), k=4)


def test_an_interrupted_alternation_goes_on_from_its_step(siamese, batches):
    whole, parts = siamese(), siamese()
    losses = train(whole, moving_average, batches(9), k=4)
    optimizer = sgd(parts)
    first = list(alternate(parts, moving_average, objective.loss, optimizer, batches(6), k=4))
    last = first[-1]
    rest = train(
        parts, moving_average, batches(9, start=6), k=4, optimizer=optimizer, state=last.state, theta=last.theta
    )
    assert [step.loss.item() for step in first] + rest == losses
    assert same(whole, parts)


# Stop-gradient


@pytest.mark.parametrize("similarity", [objective.cosine, objective.squared_error])
def test_stop_gradient_halves_the_gradient(siamese, batches, similarity):
    """§4.2 looks at the gradient alone: without h, symmetric D, symmetric loss, it is half, path by path."""
    grads = gradients_with_and_without(siamese("none"), next(iter(batches(1))), similarity)
    for with_stop, without in grads:
        torch.testing.assert_close(with_stop, without / 2, rtol=1e-12, atol=1e-15)


def test_cross_entropy_is_not_symmetric(siamese, batches):
    grads = gradients_with_and_without(siamese("none"), next(iter(batches(1))), objective.cross_entropy)
    assert any((a - b / 2).norm() > 0.05 * b.norm() for a, b in grads)


def gradients_with_and_without(net, batch, similarity):
    found = []
    for stop in (True, False):
        net.zero_grad()
        z, p = net(batch.views, batch.trained)
        objective.loss(p, (z.detach() if stop else z)[list(batch.partners)], similarity=similarity).backward()
        found.append([p.grad.clone() for p in net.parameters()])
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("similarity", [objective.cosine, objective.squared_error])
def test_stop_gradient_only_rescales_sgd(siamese, batches, similarity):
    """Without h: with stop-gradient at (2·lr, wd/2) the weights follow those without it at (lr, wd)."""
    stopped, through = siamese("none"), siamese("none")
    a = train(
        stopped, other_view, batches(12), similarity=similarity, optimizer=sgd(stopped, lr=0.02, wd=1e-3), held=False
    )
    b = train(
        through,
        other_view,
        batches(12),
        similarity=similarity,
        optimizer=sgd(through, lr=0.01, wd=2e-3),
        held=False,
        stop_grad=False,
    )
    torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=0, atol=1e-9)
    for p, q in zip(stopped.parameters(), through.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-9)


@pytest.mark.parametrize("solve", [other_view, expectation, moving_average])
@pytest.mark.parametrize("held", [True, False])
def test_no_gradient_reaches_eta_and_the_network_is_left_alone(siamese, batches, solve, held):
    net = siamese()
    (batch,) = batches(1)
    z, _ = net(batch.views, batch.trained)
    before = copy.deepcopy(net)
    F_t = Frozen(net.F, hold(net.F, copy=held), batch, None if held else z.detach())
    eta, state = solve({}, F_t, batch)
    assert eta.shape == z.shape
    assert not eta.requires_grad
    assert not any(value.requires_grad for value in state.values())
    assert same(net, before)


# Sub-problem (8): the bank


def visits(ids, z, num_images):
    """A batch whose two views of each image are the vectors z [2, B, d] themselves; F is the identity."""
    return Batch(0, ids, z, (0, 1), (1, 0), z.flip(0), None, num_images, lambda x: x)


@pytest.mark.parametrize("m", [0.0, 0.5, 0.8, 1.0])
def test_the_bank_follows_its_recursion(m):
    rng = torch.Generator().manual_seed(0)
    state, rows = {}, {}
    for _ in range(40):
        ids = torch.randperm(11, generator=rng)[:4]
        z = torch.randn(2, 4, 3, generator=rng, dtype=torch.float64)
        eta, state = moving_average(state, lambda x: x, visits(ids, z, 12), m=m)
        for b, i in enumerate(ids.tolist()):
            targets = [m * rows[i] + (1 - m) * z[other, b] if i in rows else z[other, b] for other in (1, 0)]
            torch.testing.assert_close(eta[:, b], torch.stack(targets), rtol=0, atol=1e-14)
            rows[i] = (targets[0] + targets[1]) / 2
    for i, row in rows.items():
        torch.testing.assert_close(state["rows"][i], row, rtol=0, atol=1e-12)
    assert state["visited"].tolist() == [i in rows for i in range(12)]


def test_a_row_never_visited_is_never_read():
    z = torch.randn(2, 2, 3, dtype=torch.float64)
    _, state = moving_average({}, lambda x: x, visits(torch.tensor([0, 1]), z, 5))
    state["rows"][2:] = torch.nan
    eta, state = moving_average(state, lambda x: x, visits(torch.tensor([1, 3]), z, 5))
    assert eta.isfinite().all()
    assert state["rows"][[0, 1, 3]].isfinite().all()


def test_a_bank_without_memory_is_simsiam_without_predictor(siamese, batches):
    bank, simsiam = siamese("none"), siamese("none")
    a = train(bank, partial(moving_average, m=0.0), batches(50), held=False)  # 44 steps are an epoch
    b = train(simsiam, other_view, batches(50), held=False)
    assert a == b
    assert same(bank, simsiam)


def test_the_bank_s_momentum_changes_the_result(siamese, batches):
    losses = [train(siamese("none"), partial(moving_average, m=m), batches(50)) for m in (0.0, 0.8)]
    assert losses[0][:44] == losses[1][:44]  # first visits
    assert losses[0][-1] != losses[1][-1]


# Sub-problem (8): the expectation


def finite_T(digits, size=5, images=6):
    """A T of `size` equally likely draws, applied to a few images: [size, images, 1, 8, 8] float64."""
    rng = torch.Generator().manual_seed(1)
    draws = [views.sample(digits.recipe, 1, digits.shape, rng) for _ in range(size)]
    x = digits.images[:images]
    every = [views.apply(x, draw.map(lambda field: field.expand(images, *field.shape[1:]))) for draw in draws]
    return torch.stack(every).double()


def test_the_expectation_minimises_the_objective(digits, plain):
    x = finite_T(digits)
    net = plain(64)
    with torch.no_grad():
        z = torch.stack([net.F(one) for one in x])
    best = z.mean(0)  # (9), exact: T is enumerated

    def L(eta):
        return objective.squared_error(z, eta.expand_as(z)).mean()

    eta = best.clone().requires_grad_()
    (slope,) = torch.autograd.grad(L(eta), eta)
    assert slope.abs().max() < 1e-15
    rng = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(5):
            assert L(best + size * torch.randn(best.shape, generator=rng, dtype=torch.float64)) > L(best)


@pytest.mark.parametrize("n", [1, 2])
def test_the_expected_gradient_shrinks_the_within_variance(digits, plain, n):
    """D1: no h, squared error. Over all draws of x and of n fresh views, the expected gradient with stop-gradient
    is ∇ tr Σ_w, and without it (1 + 1/n) ∇ tr Σ_w.
    """
    x = finite_T(digits, size=4)
    net = plain(64)
    parameters = list(net.parameters())
    dim = 6

    def grad(loss):
        return torch.autograd.grad(loss, parameters)

    z = torch.stack([net.F(one) for one in x])
    within = (z - z.mean(0)).square().sum(-1).mean()  # tr Σ_w over the draws, mean over images
    expected = grad(within)
    for stop, factor in ((True, 1.0), (False, 1 + 1 / n)):
        total = [torch.zeros_like(p) for p in parameters]
        tuples = list(itertools.product(range(len(x)), repeat=n + 1))
        for first, *rest in tuples:
            z = torch.stack([net.F(x[i]) for i in (first, *rest)])
            eta = z[1:].mean(0)
            loss = (
                objective.loss(z[:1], (eta.detach() if stop else eta)[None], similarity=objective.squared_error) * dim
            )
            for t, g in zip(total, grad(loss), strict=True):
                t += g / len(tuples)
        for t, e in zip(total, expected, strict=True):
            torch.testing.assert_close(t, factor * e, rtol=1e-10, atol=1e-14)


def test_the_monte_carlo_error_shrinks_as_one_over_root_n(digits, plain, batches):
    """The error of n views against that of one, over 64 batches: a slope of −1/2 on log axes."""
    net = plain(64)
    theta = hold(net.F, copy=True)
    sizes, errors = (1, 4, 16, 64), []
    (batch,) = batches(1)
    z = Frozen(net.F, theta, batch)(batch.draw(4000))
    truth = z.mean(0)
    for n in sizes:
        found = []
        for _ in range(12):
            eta, _ = expectation({}, Frozen(net.F, theta, batch), batch, n=n)
            found.append((eta[0] - truth).square().sum(-1).mean())
        errors.append(torch.stack(found).mean())
    slope = ((errors[-1] / errors[0]).log() / torch.tensor(sizes[-1] / sizes[0]).log()).item() / 2
    within = (z - truth).square().sum(-1).mean()
    assert slope == pytest.approx(-0.5, abs=0.03)
    assert errors[0].item() == pytest.approx(within.item(), rel=0.1)


def test_eta_of_the_expectation_is_shared_and_disjoint_from_the_trained_views(siamese, batches):
    net = siamese()
    (batch,) = batches(1)
    seen = []
    F_t = Frozen(net.F, hold(net.F, copy=True), batch)
    eta, _ = expectation({}, lambda x: seen.append(x) or F_t(x), batch, n=3)
    assert torch.equal(eta[0], eta[1])
    assert seen[0].shape == (3, 32, 1, 8, 8)
    for one in seen[0]:
        assert all(not torch.equal(one[b], view[b]) for view in batch.views for b in range(32))


# (7) and randomness


def test_weight_decay_is_on_every_parameter(siamese):
    net = siamese()
    groups = sgd(net).sgd.param_groups
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in net.parameters()}
    assert {g["weight_decay"] for g in groups} == {5e-4}


def test_the_predictor_s_learning_rate(siamese, batches):
    for fixed in (True, False):
        net = siamese()
        optimizer = optim.SGD(net, lr=0.1, momentum=0.9, wd=0, steps=10, fix_pred_lr=fixed)
        train(net, other_view, batches(6), optimizer=optimizer)
        encoder, predictor = (g["lr"] for g in optimizer.sgd.param_groups)
        assert encoder == pytest.approx(0.05)  # half of the cosine at step 5 of 10
        assert predictor == pytest.approx(0.1 if fixed else 0.05)


def test_the_schedule_equals_pytorch_s():
    """Linear warm-up of 5 steps, then half a cosine over the remaining 15."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], 1.0)
    warm = torch.optim.lr_scheduler.LinearLR(sgd, 1 / 5, 1.0, 4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 15)
    schedule = torch.optim.lr_scheduler.SequentialLR(sgd, [warm, cosine], [5])
    for step in range(20):
        ours = optim.lr_factor(step, steps=20, warmup=5, schedule="cosine")
        assert ours == pytest.approx(sgd.param_groups[0]["lr"], abs=1e-12)
        sgd.step()
        schedule.step()
    assert optim.lr_factor(19, steps=20, warmup=5, schedule="constant") == 1


def test_same_seed_same_trace(siamese, batches):
    a = train(siamese(), other_view, batches(5, seed=3), k=2)
    assert a == train(siamese(), other_view, batches(5, seed=3), k=2)
    assert a != train(siamese(), other_view, batches(5, seed=4), k=2)


def test_train_mode_of_theta_t_is_its_own_batch_statistics(siamese, batches):
    """The η pass normalises by the statistics of its own views, as Algorithm 1 does, not by running averages."""
    net = siamese()
    (batch,) = batches(1)
    z = Frozen(net.F, hold(net.F, copy=True), batch)(batch.views)
    fresh = copy.deepcopy(net)
    with torch.no_grad():
        assert torch.equal(z, torch.stack([fresh.F(x) for x in batch.views]))
        fresh.eval()
        assert not torch.allclose(z[0], functional_call(fresh.F, dict(fresh.F.state_dict()), (batch.views[0],)))
