"""Each solver is what its docstring says: its identity, against plain formulas, PyTorch's or scikit-learn's."""

import io
import itertools
import math
import sys
from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional

import emsiam
from emsiam import ConfigError, eta, networks, objective, optim
from emsiam.alternate import Frozen, alternate, hold
from emsiam.config import Config, resolve
from emsiam.config.solvers import load_solver, typed
from emsiam.data import views
from emsiam.data.batches import Batch
from emsiam.diagnostics import em
from emsiam.eta import SOLVERS
from emsiam.methods import METHODS
from emsiam.objective import unit
from emsiam.traits import SIZES, hyperparameters, of_solver, value

pytestmark = pytest.mark.mathematics
D, IMAGES = 5, 11


def identity(x):
    return x


def visit(z, ids=None, *, step=0, draw=None, labels=None, every=None):
    """A batch whose views are the vectors z [V, B, D] themselves."""
    ids = torch.arange(z.shape[1]) if ids is None else ids
    symmetry = "sym" if len(z) == 2 else "asym"
    trained, partners = ((0, 1), (1, 0)) if symmetry == "sym" else ((0,), (0,))  # one vector is its own other view
    return Batch(step, ids, z, trained, partners, z[list(partners)], draw, IMAGES, identity, 0, every, labels)


def sequence(steps, views=2, seed=0):
    """Visits of some of the images, a batch each."""
    rng = torch.Generator().manual_seed(seed)
    for step in range(steps):
        ids = torch.randperm(IMAGES, generator=rng)[:4]
        yield step, ids, torch.randn(views, 4, D, generator=rng, dtype=torch.float64)


def follow(solve, steps, views=2, F_t=identity):
    """η at each visit of each image: {image: [η of its first trained view]}, and what was seen of it."""
    state, given, seen = {}, {i: [] for i in range(IMAGES)}, {i: [] for i in range(IMAGES)}
    for step, ids, z in sequence(steps, views):
        target, state = solve(state, F_t, visit(z, ids, step=step))
        assert target.shape == z.shape
        for b, i in enumerate(ids.tolist()):
            given[i].append(target[0, b])
            seen[i].append(z[:, b])
    return given, seen


def close(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# What is remembered of earlier visits


def weighted(seen, weights):
    """Σ weights[age] z / Σ weights; today's z is the other view's, before that it is the mean of both."""
    z = [seen[-1][-1], *(x.mean(0) for x in seen[-2::-1])]
    w = torch.tensor([weights(age) for age in range(len(z))], dtype=torch.float64)
    return (w[:, None] * torch.stack(z)).sum(0) / w.sum()


@pytest.mark.parametrize(
    ("solve", "weights"),
    [
        (partial(eta.bias_corrected, m=0.7), lambda age: 0.7**age),
        (eta.running_mean, lambda age: 1.0),
        (partial(eta.window, w=3), lambda age: float(age < 3)),
        (partial(eta.window, w=1), lambda age: float(age < 1)),
    ],
)
def test_a_memory_weighs_visits_by_their_age(solve, weights):
    given, seen = follow(solve, 60)
    for i in range(IMAGES):
        for visits in range(1, len(seen[i]) + 1):
            close(given[i][visits - 1], weighted(seen[i][:visits], weights))


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("w", [1, 2, 4])
def test_past_views_recomputed_are_averaged_under_today_s_theta(w, views):
    """F_θ is a factor here; one view of each visit is kept, of two in turn."""
    state, seen = {}, {i: [] for i in range(IMAGES)}
    for step, ids, z in sequence(40, views):
        given, state = eta.recomputed(
            state, lambda x, theta=1.0 + step: theta * x, visit(z, ids, step=step), m=0.7, w=w
        )
        for b, i in enumerate(ids.tolist()):
            vectors = [z[-1, b], *seen[i][::-1][: w - 1]]
            weights = [0.7**age for age in range(len(vectors))]
            mean = sum(weight * x for weight, x in zip(weights, vectors, strict=True)) / sum(weights)
            close(given[0, b], (1.0 + step) * mean)
            seen[i].append(z.flip(0)[step % views, b] if views == 2 else z[0, b])


@pytest.mark.parametrize(("processes", "me"), [(1, 0), (2, 1), (3, 1)])
def test_directions_drawn_in_pieces_are_those_of_one_draw(monkeypatch, processes, me):
    whole = unit(torch.randn(50, D, generator=torch.Generator().manual_seed(0)))
    monkeypatch.setattr(eta.memory, "PIECE", 16)
    monkeypatch.setattr(eta.memory, "rank", lambda: me)
    batch = visit(torch.zeros(2, 4, D))._replace(num_images=50, ranks=processes)
    own = whole[me::processes]
    assert torch.equal(eta.memory.directions(batch, D)[: len(own)], own)


def test_the_bank_s_choices():
    """What stands before a first visit, whether today's view is in the target, and whether rows are of ẑ."""
    m, u = 0.8, eta.memory.directions(visit(torch.zeros(2, 4, D)), D)
    start = {"step": 10.0}

    class F_t:
        def __init__(self):
            self.theta = {"step": torch.tensor(0.0)}

        def __call__(self, x):
            return x

        def under(self, weights, x):
            assert weights == {"step": torch.tensor(0.0)}
            return x + start["step"]

    for first, target, rows_of in itertools.product(("own", "theta0", "random"), ("mixed", "bank"), ("z", "unit")):
        solve = partial(eta.moving_average, m=m, first=first, target=target, rows_of=rows_of)
        given, seen = follow(solve, 50, F_t=F_t())
        for i in range(IMAGES):
            row = None
            for visits, x in enumerate(seen[i]):
                z = unit(x) if rows_of == "unit" else x
                if row is None and first == "own":
                    mixed, known = z.flip(0), z.flip(0)
                else:
                    if row is None and first == "random":
                        known = u[i].double() * z.flip(0).norm(dim=-1, keepdim=True)
                    elif row is None:
                        known = x.flip(0) + start["step"]
                        known = unit(known) if rows_of == "unit" else known
                    else:
                        known = row.expand(2, D)
                    mixed = m * known + (1 - m) * z.flip(0)
                close(given[i][visits], (mixed if target == "mixed" else known)[0], 1e-6)  # u is in single precision
                row = mixed.mean(0)


def test_gradient_steps_are_pytorch_s():
    """One trained view: the optimiser moves a parameter for each image, made at its first visit."""
    rules = {
        partial(eta.eta_sgd, rate=0.15): lambda p: torch.optim.SGD(p, 0.15),
        partial(eta.eta_momentum, rate=0.05, beta=0.7): lambda p: torch.optim.SGD(p, 0.05, 0.7),
        partial(eta.eta_adam, rate=0.2): lambda p: torch.optim.Adam(p, 0.2, (0.9, 0.99)),
    }
    for solve, make in rules.items():
        given, seen = follow(solve, 60, views=1)
        for i in range(IMAGES):
            parameter = seen[i][0][0].clone().requires_grad_()
            optimizer = make([parameter])
            close(given[i][0], parameter.detach())
            for target, x in zip(given[i][1:], seen[i][1:], strict=True):
                optimizer.zero_grad()
                (x[0] - parameter).square().sum().backward()
                optimizer.step()
                close(target, parameter.detach())


def test_gradient_steps_of_a_rate_are_the_moving_average():
    for m in (0.5, 0.8, 1.0):
        bank, _ = follow(partial(eta.moving_average, m=m), 50)
        for solve in (partial(eta.eta_sgd, rate=(1 - m) / 2), partial(eta.eta_momentum, rate=(1 - m) / 2, beta=0.0)):
            steps, _ = follow(solve, 50)
            for i in range(IMAGES):
                close(torch.stack(steps[i]), torch.stack(bank[i]))


# Fresh views


def test_the_mean_of_the_others():
    z, more = torch.randn(2, 6, D, dtype=torch.float64), torch.randn(9, 6, D, dtype=torch.float64)
    batch = visit(z, draw=lambda n: more[:n])
    close(eta.leave_one_out({}, identity, batch, n=2)[0], z.flip(0))
    four, _ = eta.leave_one_out({}, identity, batch, n=4)
    close(four, (z.flip(0) + more[0] + more[1]) / 3)
    with pytest.raises(ValueError, match="n = 1: a view needs another one"):
        eta.leave_one_out({}, identity, batch, n=1)


def test_with_the_inner_product_the_expected_gradient_does_not_depend_on_n():
    """Over all draws of a T of three equally likely views; under the cosine, which makes η a unit vector, it does."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 4, generator=rng, dtype=torch.float64)  # three views of six images
    net = torch.nn.Linear(4, D).double()

    def gradient(n, similarity):
        total = 0
        for drawn in itertools.product(range(3), repeat=n):
            batch = visit(x[:2], draw=lambda n, drawn=drawn: x[list(drawn)])
            with torch.no_grad():
                target, _ = eta.mean_of_units({}, net, batch, n=n)
            net.zero_grad()
            objective.loss(net(x[:2]), target, similarity=similarity).backward()
            total = total + net.weight.grad / 3**n
        return total

    one, two, three = (gradient(n, objective.inner) for n in (1, 2, 3))
    close(one, two)
    close(one, three)
    assert (gradient(1, objective.cosine) - gradient(2, objective.cosine)).abs().max() > 1e-3


def test_all_of_a_finite_t():
    """η is the sum over draws by their probabilities, of shapes in three states, half of them flipped, some grey."""
    c = emsiam.Config(
        dataset="shapes", num_images=2000, batch_size=16, augment="redraw=3,flip=0.3,grayscale=0.2", precision="fp64",
        eta="every_view", dim=8, hidden_dim=8,
    )  # fmt: skip
    parts = emsiam.prepare(c)
    recipe = parts.images.recipe
    assert views.count(recipe, 3) == 12
    batch = next(parts.batches)
    F_t = Frozen(parts.network.F, hold(parts.network.F, copy=True), batch)
    given, _ = parts.solver({}, F_t, batch)
    shares, expected = [], 0
    for share, view in batch.every():
        shares.append(share)
        expected = expected + share * F_t(view[None])[0]
    assert len(shares) == 12
    assert sum(shares) == pytest.approx(1)
    assert min(shares) == pytest.approx(0.3 * 0.2 / 3)
    close(given, expected.expand(2, *expected.shape))
    drawn = batch.draw(1)[0]
    near = [(view - drawn).abs().flatten(1).amax(1) for _, view in batch.every()]
    assert (torch.stack(near).amin(0) < 1e-6).all()  # each view that is drawn is one of them
    assert next(parts.alternation()).loss.isfinite()


# Earlier encoders


def test_a_ring_of_past_weights_is_exactly_so_old():
    rng, state = torch.Generator().manual_seed(0), {}
    for step in range(12):
        batch = visit(torch.zeros(2, 4, 1), step=step, draw=lambda n: torch.zeros(n, 4, 1))
        given, state = eta.delayed(state, em.Clock(step, rng), batch, lag=5, n=1 + step % 2)
        assert (given[..., 0] == max(0, step - 5)).all()


# Through h


def test_predicted_is_h_under_the_theta_of_the_alternation(siamese, batches):
    """Three steps of one alternation: h, as F, is that of its first step, and nothing of the network moves for it."""
    net = siamese()
    first = {name: x.clone() for name, x in net.state_dict().items()}
    other = siamese()
    other.load_state_dict(first)
    seen = []

    def solve(state, F_t, batch):
        given, state = eta.predicted(state, F_t, batch)
        other.load_state_dict(first)
        with torch.no_grad():
            expected = torch.stack([other.h(other.F(x)) for x in batch.others])
        seen.append((given, expected))
        return given, state

    solve.traits = eta.predicted.traits
    steps = list(
        alternate(net, solve, objective.loss, optim.SGD(net, lr=0.05, momentum=0.9, wd=0, steps=9), batches(3), k=3)
    )
    for given, expected in seen:
        close(given, expected)
    assert set(steps[-1].theta_h) == {name.removeprefix("h.") for name in first if name.startswith("h.")}
    assert any(not torch.equal(x, first[name]) for name, x in net.state_dict().items())


def test_mixed_goes_from_simsiam_s_target_to_h_s(siamese, batches):
    net, (batch,) = siamese(), batches(1)
    F_t = Frozen(net.F, hold(net.F, copy=True), batch, None, net.h, hold(net.h, copy=True))
    ends = eta.other_view({}, F_t, batch)[0], eta.predicted({}, F_t, batch)[0]
    for part in (0.0, 0.3, 1.0):
        close(eta.mixed({}, F_t, batch, part=part)[0], (1 - part) * ends[0] + part * ends[1])
    (again,) = batches(1)  # whose draws begin anew
    n = 3
    mean = torch.stack([net.h(net.F(x)) for x in again.draw(n)]).mean(0)
    (again,) = batches(1)
    close(eta.predicted_expectation({}, F_t, again, n=n)[0], mean.detach().expand(2, *mean.shape), 1e-9)


def test_h_is_asked_for_by_a_trait(siamese, batches):
    net, (batch,) = siamese(), batches(1)
    with pytest.raises(TypeError, match=r"says so: @solver\(needs_h=True\)"):
        Frozen(net.F, hold(net.F, copy=True), batch).h(torch.zeros(1, 2, 16))


@pytest.mark.parametrize("name", [name for name, f in SOLVERS.items() if of_solver(f).only_others])
def test_who_says_only_others_asks_for_no_more(siamese, digits, batches, name):
    solve, net = partial(SOLVERS[name], **solver_options(name)), siamese()
    h, states = net.h if of_solver(SOLVERS[name]).needs_h else None, ({}, {})
    for batch in batches(3):
        batch = batch._replace(labels=digits.classes[batch.ids])
        with torch.no_grad():
            known, _ = net(batch.views, batch.trained)
        theta, theta_h = hold(net.F, copy=True), hold(net.h, copy=True)
        given = [solve(states[0], Frozen(net.F, {}, batch, known, h, theta_h), batch)]
        given.append(solve(states[1], Frozen(net.F, theta, batch, None, h, theta_h), batch))
        states = [state for _, state in given]
        close(given[0][0], given[1][0])


def test_and_is_refused_more(siamese, batches):
    """Nothing is held, and a pass would be one of the network, whose statistics would move."""
    net, (batch,) = siamese(), batches(1)
    F_t = Frozen(net.F, {}, batch, torch.zeros(2, 32, 16))
    for wrong in (lambda: F_t(batch.draw(1)), lambda: F_t.under(F_t.theta, batch.others), lambda: F_t(batch.views)):
        with pytest.raises(TypeError, match="does not say only_others=True"):
            wrong()


def test_regressed_moves_its_own_h_by_sgd_and_gives_what_it_then_says():
    z = torch.randn(2, 32, 16, dtype=torch.float64)
    state, errors = {}, []
    for step in range(40):
        before = {n: x.clone() for n, x in state.items()}
        given, state = eta.regressed(state, identity, visit(z, step=step), rate=0.5)
        errors.append(objective.cosine(given, z).mean().item())  # target of view a is h(z_b), which learns z_a
    assert errors[-1] < errors[0] - 0.1
    h = networks.build_predictor("mlp", dim=16, pred_dim=4, bn="default").double()
    h.load_state_dict({n.removeprefix("h."): x for n, x in before.items() if n.startswith("h.")})
    loss = sum(objective.cosine(h(z[b]), z[a]).mean() for a, b in ((0, 1), (1, 0))) / 2
    loss.backward()
    with torch.no_grad():
        for name, p in h.named_parameters():
            p -= 0.5 * (0.9 * before[f"velocity.{name}"] + p.grad)
        expected = torch.stack([h(z[1]), h(z[0])])
    close(given, expected)


# Linear estimates


def test_the_optimal_linear_map_is_ridge_regression_s():
    """The map from one view's z to the other's, both ways together, on a batch whose views have equal covariances."""
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(200, D, generator=rng, dtype=torch.float64) * torch.arange(1, D + 1)
    b = a + torch.randn(200, D, generator=rng, dtype=torch.float64)
    z = torch.stack([a - a.mean(0), b - b.mean(0)])
    given, _ = eta.ridge_optimal({}, identity, visit(z), ridge=0.05)
    x, y = torch.cat([z[1], z[0]]), torch.cat([z[0], z[1]])
    alpha = 0.05 * x.square().mean() * len(x)
    reference = Ridge(alpha=alpha.item(), fit_intercept=False).fit(x.numpy(), y.numpy())
    close(given[0], torch.from_numpy(reference.predict(z[1].numpy())))
    half, _ = eta.ridge_optimal({}, identity, visit(z + 7), c=0.5, ridge=0.05)
    close(half, 7 + given / 2)  # means are put back, and are not shrunk


def test_shrunk_means_are_nearer_to_the_truth_than_means():
    """Gaussian images and views, of which the posterior mean is the best guess."""
    rng = torch.Generator().manual_seed(0)
    scale = torch.tensor([2.0, 1.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    truth = 3 + scale * torch.randn(400, D, generator=rng, dtype=torch.float64)
    views = truth + torch.randn(4, 400, D, generator=rng, dtype=torch.float64)
    given, _ = eta.posterior({}, identity, visit(views[:2], draw=lambda n: views[:n]), n=4, ridge=1e-6)
    mean = views.mean(0)
    assert (given[0] - truth).square().mean() < 0.75 * (mean - truth).square().mean()
    best = 3 + (mean - 3) * scale**2 / (scale**2 + 1 / 4)  # that of who knows the covariances
    assert (given[0] - truth).square().mean() < 1.1 * (best - truth).square().mean()


def test_isoloss_moves_z_by_its_predictor_s_error():
    z = torch.randn(2, 64, D, dtype=torch.float64, requires_grad=True)
    given, state = eta.isoloss({}, lambda x: x.detach(), visit(z))
    objective.loss(z, given, similarity=objective.squared_error).backward()
    values, vectors = torch.linalg.eigh(state["correlation"])
    roots = values.sqrt()
    w = vectors @ torch.diag(roots + 0.1 * roots.max()) @ vectors.T
    close(z.grad, (2 * (z @ w - z.flip(0)) / z.numel()).detach())


# Groups of images, and controls


def test_centres_of_whole_batches_are_spherical_k_means():
    rng = torch.Generator().manual_seed(0)
    z = unit(torch.randn(1, IMAGES * 9, D, generator=rng, dtype=torch.float64))
    state, values = {}, []
    for _ in range(30):
        centres = state.get("centres")
        given, state = eta.centroids(state, identity, visit(z), clusters=6, m=0.0)
        if centres is not None:
            nearest = (z[0] @ centres.T).argmax(1)
            close(given[0], centres[nearest])
            for j in range(6):
                close(state["centres"][j], unit(z[0][nearest == j].mean(0)))
        values.append((given * z).sum(-1).mean().item())
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(values))  # both half-steps of k-means raise it
    assert values[-1] > values[0] + 0.05
    with pytest.raises(ValueError, match="100 clusters of a batch of 99 images"):
        eta.centroids({}, identity, visit(z), clusters=100)


def test_controls():
    z = torch.randn(2, 8, D, dtype=torch.float64)
    batch = visit(z, labels=torch.tensor([0, 1, 2, 0, 1, 2, 0, 4]))
    fixed, state = eta.random_targets({}, identity, batch)
    assert torch.equal(eta.random_targets(state, identity, batch)[0], fixed)
    close(fixed.norm(dim=-1), torch.ones(2, 8, dtype=torch.float64), 1e-6)
    for step in range(20):
        swapped, _ = eta.permuted({}, identity, visit(z, step=step))
        at = torch.cdist(swapped, z.flip(0)).argmin(-1)
        assert torch.equal(at[0], at[1])
        assert sorted(at[0].tolist()) == list(range(8))
        assert not (at[0] == torch.arange(8)).any()
    means, _ = eta.class_means({}, identity, batch)
    close(means[0, 3], z[1, [0, 3, 6]].mean(0))
    close(means[1, 7], z[0, 7])


# All of them


def solver_options(name):
    """Few views, few visits, few clusters."""
    few = {"clusters": 8, "n": 2, "w": 3, "lag": 3}
    return {n: x for n, x in few.items() if n in hyperparameters(SOLVERS[name])}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("k", [1, 3])
def test_any_solver_goes_with_any_k_and_goes_on_with_the_same_bits(siamese, digits, name, k):
    """Its state goes through a file, as in a checkpoint."""
    from emsiam.data.batches import batches

    finite = digits._replace(
        recipe=digits.recipe._replace(scale=(1, 1), ratio=(1, 1), degrees=0, jitter=0, noise=0, flip=0.5)
    )
    traits = of_solver(SOLVERS[name])
    data = finite if traits.needs_all_of_T else digits
    of_queue = [m for m in METHODS.values() if m.solve is SOLVERS[name]]
    minimised = of_queue[0].objective if of_queue and name in ("momentum_queue", "sinkhorn_codes") else objective.loss
    solve = partial(SOLVERS[name], **solver_options(name))

    def run(start, stop, net, sgd, **given):
        labels = data.classes if traits.needs_labels else None
        stream = batches(
            data,
            seed=0,
            batch_size=16,
            start=start,
            stop=stop,
            symmetry="sym",
            dtype=torch.float64,
            total=8,
            labels=labels,
        )
        return list(alternate(net, solve, minimised, sgd, stream, k=k, held=k > 1, **given))

    def fresh():
        net = siamese()
        return net, optim.SGD(net, lr=0.05, momentum=0.9, wd=1e-4, steps=8)

    whole, sgd = fresh()
    losses = [step.loss.item() for step in run(0, 6, whole, sgd)]
    assert all(map(math.isfinite, losses))
    part, sgd = fresh()
    half = run(0, 4, part, sgd)
    file = io.BytesIO()
    torch.save({"state": half[-1].state, "theta": half[-1].theta, "theta_h": half[-1].theta_h}, file)
    file.seek(0)
    rest = run(4, 6, part, sgd, **torch.load(file, weights_only=True))
    assert [step.loss.item() for step in half + rest] == losses
    for a, b in zip(whole.state_dict().values(), part.state_dict().values(), strict=True):
        assert torch.equal(a, b)


# A clock takes their η, and a formula says what it should read.
READ = [
    name
    for name, f in SOLVERS.items()
    for t in [of_solver(f)]
    if t.lag and t.views and t.gives == "representations" and not (t.needs_labels or t.needs_all_of_T)
]


@pytest.mark.parametrize("name", READ)
def test_lag_and_views_are_what_the_formulas_say(name):
    """Measured by representations that say which step they are of, beside noise, see `em.response`."""
    solve = SOLVERS[name]
    options = {"tau": 0.9, "tau_schedule": "constant", "queue": 8, "n": 3, "lag": 20}
    options = {n: x for n, x in options.items() if n in hyperparameters(solve)}
    measured = em.response(partial(solve, **options), steps_per_epoch=6, epochs=50)
    numbers = {"epoch": 6, **hyperparameters(solve), **options}
    assert measured.lag == pytest.approx(value(of_solver(solve).lag, numbers), rel=0.1, abs=0.1)
    assert measured.views == pytest.approx(value(of_solver(solve).views, numbers), rel=0.15)


def test_expressions_of_costs_can_be_evaluated():
    for name, solve in SOLVERS.items():
        traits = of_solver(solve)
        numbers = dict.fromkeys(SIZES, 2) | hyperparameters(solve)
        assert traits.eta, name
        for expression in (traits.forwards, traits.memory, traits.lag, traits.views):
            assert not expression or value(expression, numbers) >= 0, name
    assert math.isnan(value("", {}))


# What goes together, and what does not


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eta": "predicted", "predictor": "none"}, "--predictor none with --eta predicted: this solver asks for h"),
        ({"mode": "ema_eta", "eta": "mixed"}, "--predictor none with --eta mixed: this solver asks for h"),
        ({"mode": "swav", "eta": "predicted"}, "--eta predicted: gives no target that the objective of --mode swav"),
        (
            {"similarity": "inner"},
            "--similarity inner: is for targets that are means of unit vectors, and other_view gives",
        ),
        (
            {"eta": "every_view"},
            "--eta every_view: needs all of T, which has infinitely many draws here; --augment deg",
        ),
        ({"eta": "leave_one_out", "n": 1}, "--eta leave_one_out: n = 1: a view needs another one"),
        ({"eta": "centroids", "eta_args": "clusters=900"}, "--eta centroids: 900 clusters of a batch of 128 images"),
        ({"eta": "isoloss", "symmetry": "asym"}, "--eta isoloss: the other view of a trained one is not"),
        ({"eta": "isoloss", "symmetry": "asym2x"}, "--eta isoloss: the other view of a trained one is not"),
        ({"eta": "delayed", "eta_args": "lag=4000"}, r"--eta delayed: keeps [\d.]+ GiB; allowed is 1"),
        ({"eta": "recomputed", "eta_args": "w=9000"}, r"--eta recomputed: keeps [\d.]+ GiB; allowed is 2"),
        ({"eta": "window", "stop_grad": False}, "--no-stop-grad with --mode onestep --eta window"),
    ],
)
def test_nonsense_is_refused_with_the_reason(tmp_path, options, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        emsiam.fit(emsiam.Config(**options, epochs=1, out=str(tmp_path / "run"), quiet=True))
    assert not (tmp_path / "run").exists()


def test_what_a_solver_keeps_is_said():
    parts = emsiam.prepare(emsiam.Config(epochs=1, eta="recomputed", eta_args="w=101"))
    assert parts.notes == ["--eta recomputed keeps 35 MiB, in memory and in checkpoints"]  # 1437 · 100 · 64 floats


def test_labels_are_seen_by_those_alone_who_ask_for_them(digits):
    plain = next(emsiam.prepare(emsiam.Config(epochs=1)).batches)
    assert plain.labels is None
    asked = next(emsiam.prepare(emsiam.Config(epochs=1, eta="class_means")).batches)
    assert torch.equal(asked.labels, digits.labels[asked.ids])
    x = np.zeros((40, 8, 8), np.uint8)
    with pytest.raises(
        ConfigError, match="--eta class_means: needs labels, and the images of --dataset given have none"
    ):
        emsiam.prepare(emsiam.Config(epochs=1, batch_size=20, eta="class_means"), images=x)


def test_similarities_that_make_sense_go_with_every_solver(siamese, batches):
    for name, solve in SOLVERS.items():
        if of_solver(solve).gives != "representations":
            continue
        for similarity in ("cosine", "cross_entropy", "mse"):
            mode = "byol" if name == "momentum_queue" else "onestep"
            config = emsiam.Config(mode=mode, eta=name, similarity=similarity, epochs=1)
            assert resolve(config, 1437, (1, 8, 8))[0].similarity == similarity
    assert resolve(emsiam.Config(eta="mean_of_units", similarity="inner"), 1437, (1, 8, 8))[0].n == 4


def test_inner_is_the_cosine_of_unit_targets():
    p, target = torch.randn(2, 3, 8, D, dtype=torch.float64)
    close(objective.inner(p, unit(target)), -functional.cosine_similarity(p, target, dim=-1))
    close(objective.inner(p, 0.5 * unit(target)), -0.5 * functional.cosine_similarity(p, target, dim=-1))


# Parameters of a solver that are no options


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("first=theta0", {"first": "theta0"}),
        ({"first": "random", "target": "bank"}, {"first": "random", "target": "bank"}),
        (None, None),
        ({}, None),
    ],
)
def test_arguments_have_the_types_of_their_defaults(given, becomes):
    config = emsiam.Config(mode="ema_eta", eta_args=given)
    assert resolve(config, 1437, (1, 8, 8))[0].eta_args == becomes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "ema_eta", "eta_args": "first=mine"}, "--eta-args first=mine: allowed is own, theta0, random"),
        ({"mode": "ema_eta", "eta_args": "m=0.5"}, "--eta-args m=0.5: m is an option; give --m 0.5"),
        (
            {"mode": "ema_eta", "eta_args": "lr=0.5"},
            "--eta-args lr=0.5: lr is an option; a solver's parameter needs another",
        ),
        (
            {"mode": "ema_eta", "eta_args": "frist=own"},
            r"--eta-args frist=own: moving_average has .* \(did you mean first\?\)",
        ),
        ({"eta_args": "first=own"}, "--eta-args first=own: other_view has no parameters"),
        ({"eta": "window", "eta_args": "w=2.5"}, "--eta-args w=2.5: allowed is a whole number"),
        ({"eta": "window", "eta_args": {"w": 2.5}}, "--eta-args w=2.5: allowed is a whole number"),
        (
            {"eta": "window", "eta_args": {"w": True}},
            "--eta-args w=True: allowed is a whole number",
        ),
        ({"eta": "eta_sgd", "eta_args": "rate=x"}, "--eta-args rate=x: allowed is a number"),
        ({"eta": "eta_sgd", "eta_args": "rate=nan"}, "--eta-args rate=nan: allowed is a number"),
    ],
)
def test_wrong_arguments_are_refused_before_data_are_read(tmp_path, options, said):
    config = emsiam.Config(**options, dataset="cifar10", data_dir=str(tmp_path / "nowhere"), out=str(tmp_path / "run"))
    for train in (emsiam.fit, emsiam.prepare):
        with pytest.raises(ConfigError, match=f"^{said}"):
            train(config)


@pytest.mark.parametrize("text", ["w", "w=", "=3", "w=1,,", "1w=2"])
def test_arguments_have_names_and_values(text):
    with pytest.raises(ConfigError, match="allowed is NAME=VALUE, with commas between"):
        emsiam.Config(eta="window", eta_args=text)


LATER = """
def solve(state, F_t, batch):
    z = F_t(batch.others)
    small = len(batch.ids) < 400  # of a diagnostic
    answer = ({answer}) if batch.step >= 3 and not small else z
    return (answer[0], {"f": answer[1]}) if isinstance(answer, tuple) else (answer, state)
"""


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("z * float('nan')", 3, "--eta {eta} on digits: diverged after 6 steps"),
        ("z * float('nan')", 3, "loss or weights are not finite after step 3; no checkpoint had been saved"),
        ("z, object()", 2, "emsiam.train: the state of solve after step 5 cannot be saved, for f is a object; allowed"),
        (
            "z[:1]",
            2,
            "emsiam.train: η of solve at step 3 has the shape [1, 479, 8]; allowed is [S, B, d] = [2, 479, 8]",
        ),
    ],
)
def test_what_goes_wrong_later_names_solver_and_step(tmp_path, capsys, plain_runs, answer, status, said):
    (tmp_path / "mine.py").write_text(LATER.replace("{answer}", answer))
    eta = f"{tmp_path / 'mine.py'}:solve"
    command = [
        "--eta",
        eta,
        "--epochs",
        "2",
        "--batch-size",
        "479",
        "--dim",
        "8",
        "--hidden-dim",
        "8",
        "--threads",
        "1",
    ]
    assert emsiam.train.main([*command, "--out", str(tmp_path / "run"), "--quiet"]) == status
    printed = capsys.readouterr()
    assert said.format(eta=eta) in printed.out + printed.err


def test_all_processes_pass_theta0_where_one_of_them_has_a_first_visit():
    """A pass has synchronised batch normalisation: one process alone would wait for the others."""
    z, passes = torch.randn(2, 4, D, dtype=torch.float64), []

    class Passes:
        theta = {}  # noqa: RUF012 (it is never changed)

        def __call__(self, views):
            return views

        def under(self, weights, views):
            passes.append(weights)
            return views

    solve = partial(eta.moving_average, m=0.5, first="theta0")
    _, state = solve({}, Passes(), visit(z))
    _, state = solve(state, Passes(), visit(z))
    assert len(passes) == 1  # all have been visited

    def of_two(x):
        return torch.cat([x, torch.ones_like(x)]) if x.shape == (4, 1) else x  # the other's are all new

    solve(state, Passes(), visit(z)._replace(gather=of_two))
    assert len(passes) == 2


def test_what_a_solver_raises_names_it_and_the_step():
    def breaks(state, F_t, batch):
        if batch.step == 3:
            raise ZeroDivisionError
        return F_t(batch.others), state

    parts = emsiam.prepare(emsiam.Config(epochs=1), solver=breaks)
    with pytest.raises(ZeroDivisionError) as caught:
        list(parts.alternation())
    assert caught.value.__notes__ == ["in the solver breaks, step 3"]


def test_arguments_are_read_by_type_and_a_literal_by_its_values():
    def solve(state, F_t, batch, *, power: float | None = 1.0, order: Literal[1, 2] = 1, twice: bool = False):
        return F_t(batch.others), state

    assert typed(solve, {"power": "2", "order": "2", "twice": "1"}) == {"power": 2.0, "order": 2, "twice": True}
    with pytest.raises(ConfigError, match=r"--eta-args order=3: allowed is 1, 2$"):
        typed(solve, {"order": "3"})


def test_a_user_s_file_takes_no_other_module_s_place(tmp_path):
    (tmp_path / "queue.py").write_text("def solve(state, F_t, batch):\n    return F_t(batch.others), state\n")
    before = sys.modules.get("queue")
    assert load_solver(f"{tmp_path}/queue.py:solve").__name__ == "solve"
    assert sys.modules.get("queue") is before


def test_a_bank_without_a_precision_of_its_own_is_single(tmp_path):
    def solve(state, F_t, batch, *, bank: str = "device"):
        return F_t(batch.others), state

    resolve(Config(bank=str(tmp_path)), 1437, (1, 8, 8), solver=solve)
