"""The other systems of the paper, and what came after: against lightly, slow rewrites, limiting cases."""

import copy
import itertools
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightly.loss
import lightly.utils.scheduler
import pytest
import torch
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn
from lightly.models.utils import update_momentum

import emsiam
from emsiam import networks, objective, optim
from emsiam.alternate import Frozen, alternate, hold
from emsiam.config import ConfigError, load_images, resolve
from emsiam.data.batches import Batch
from emsiam.eta import momentum_encoder, momentum_queue, other_view, sinkhorn_codes
from emsiam.eta.clusters import sinkhorn
from emsiam.eta.encoder import shuffled
from emsiam.methods import METHODS

pytestmark = pytest.mark.mathematics

ROOT = Path(__file__).parents[1]
SYSTEMS = ("byol", "simclr", "moco", "swav", "vicreg", "barlow", "sigreg")


def batch_of(images, step=0, total=0):
    views = torch.zeros(2, images, 1)
    return Batch(step, torch.arange(images), views, (0, 1), (1, 0), views, None, images, lambda x: x, total)


def pair(images=12, dim=5, seed=0):
    """z of two views as p [2, B, d], and the targets of each from the other."""
    z = torch.randn(2, images, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z, z.flip(0)


# SimCLR


def test_nt_xent_is_lightly_s():
    z, eta = pair()
    for temperature in (0.1, 0.5):
        expected = lightly.loss.NTXentLoss(temperature)(*z)
        ours = objective.nt_xent(z, eta, batch_of(12), {}, temperature=temperature)
        assert ours.item() == pytest.approx(expected.item(), abs=1e-12)


def test_nt_xent_by_the_definition():
    """Eq. (1) of SimCLR in loops, predictions and targets apart (with h)."""
    eta, p, t = pair()[1], pair(seed=1)[0], 0.3
    total = 0.0
    for s, i in itertools.product(range(2), range(12)):
        keys = [(r, j) for r in range(2) for j in range(12) if j != i or r == s]
        sims = {key: torch.cosine_similarity(p[s, i], eta[key], 0).item() / t for key in keys}
        total += math.log(sum(map(math.exp, sims.values()))) - sims[s, i]
    assert objective.nt_xent(p, eta, batch_of(12), {}, temperature=t).item() == pytest.approx(total / 24, abs=1e-12)


def test_nt_xent_in_the_limits():
    images, t = 6, 0.25
    apart = torch.eye(images, dtype=torch.float64).expand(2, -1, -1)  # views agree, images are orthogonal
    one = torch.ones(2, images, 3, dtype=torch.float64)  # collapse
    negatives = 2 * images - 2
    at = partial(objective.nt_xent, batch=batch_of(images), temperature=t)
    assert at(apart, apart, _={}).item() == pytest.approx(math.log(1 + negatives * math.exp(-1 / t)))
    assert at(one, one, _={}).item() == pytest.approx(math.log(1 + negatives))
    assert at(one[:1], one[:1], _={}).item() == pytest.approx(math.log(images))  # asymmetric: targets of one view


# MoCo and BYOL


def trained(net, solve, stream, objective_=objective.loss, **options):
    optimizer = optim.SGD(net, lr=0.05, momentum=0.9, wd=5e-4, steps=100)
    return list(alternate(net, solve, objective_, optimizer, stream, **options))


def test_byol_with_tau_0_is_simsiam_to_the_bit(siamese, batches):
    ours, theirs = siamese(), siamese()
    solve = partial(momentum_encoder, tau=0.0, tau_schedule="constant")
    a = trained(ours, solve, batches(5))
    b = trained(theirs, other_view, batches(5))
    assert [s.loss.item() for s in a] == [s.loss.item() for s in b]
    assert all(torch.equal(x, y) for x, y in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_byol_with_tau_1_has_a_fixed_target(siamese, batches):
    net = siamese()
    start = copy.deepcopy(net.F)
    last = trained(net, partial(momentum_encoder, tau=1.0), batches(4))[-1]
    for name, w in start.named_parameters():
        assert torch.equal(last.state[f"encoder.{name}"], w)
        assert not torch.equal(dict(net.F.named_parameters())[name], w)


def test_the_momentum_encoder_moves_as_lightly_s(siamese, batches):
    net = siamese()
    theirs = copy.deepcopy(net.F)
    optimizer = optim.SGD(net, lr=0.05, momentum=0.9, wd=5e-4, steps=100)
    solve = partial(momentum_encoder, tau=0.9, tau_schedule="constant")
    for batch, step in zip(batches(6), alternate(net, solve, objective.loss, optimizer, batches(6)), strict=True):
        for name, w in theirs.named_parameters():  # ξ of this step: the updates before it
            assert torch.allclose(step.state[f"encoder.{name}"], w, atol=1e-14)
        with torch.no_grad():
            eta = torch.stack([theirs(x) for x in batch.others])
        assert torch.allclose(solve(dict(step.state), still(step.state, net, batch), batch)[0], eta, atol=1e-12)
        update_momentum(net.F, theirs, 0.9)


def still(state, net, batch):
    """F_θᵗ at which ξ does not move."""
    theta = {name.removeprefix("encoder."): x.clone() for name, x in state.items()}
    return Frozen(net.F, theta, batch)


def test_tau_follows_byol_s_schedule():
    class Scalar:
        theta, parameters = {"w": torch.ones(1, dtype=torch.float64)}, ("w",)

        def under(self, weights, views):
            return weights["w"].clone()

    state = {"encoder.w": torch.zeros(1, dtype=torch.float64)}
    expected = 0.0
    for step in range(20):
        tau = lightly.utils.scheduler.cosine_schedule(step, 21, 0.9, 1.0)  # which ends one step earlier
        expected = tau * expected + (1 - tau)
        eta, state = momentum_encoder(state, Scalar(), batch_of(2, step, 20), tau=0.9)
        assert eta.item() == pytest.approx(expected, abs=1e-12)


def test_the_queue_is_first_in_first_out_and_holds_no_target_of_this_step():
    class Steps:
        """A network that gives every image of step s z = (cos s, sin s, 0); the second view's third entry differs."""

        theta, parameters, at = {}, (), 0.0

        def under(self, weights, views):
            z = torch.tensor([math.cos(self.at), math.sin(self.at), 0.0]).repeat(2, 3, 1)
            z[1, :, 2] = 1.0
            return z

    F_t, state = Steps(), {}
    for step in range(6):
        F_t.at = float(step)
        _, state = momentum_queue(state, F_t, batch_of(3), queue=14)
        angles = torch.atan2(state["queue"][:, 1], state["queue"][:, 0]) % (2 * math.pi)
        earlier = [float(s) for s in range(step) for _ in range(6)][-14:]
        assert angles.tolist() == pytest.approx(earlier, abs=1e-5)
        assert torch.allclose(state["queue"].norm(dim=1), torch.ones(len(earlier)))
        assert (state["queue"][:, 2] > 0).tolist() == [bool(i % 2) for i in range(len(earlier))]  # views alternate


def test_shuffled_keys_have_the_batch_statistics_of_a_random_group(siamese, batches):
    """Passed by hand: a step's permutation in four parts, and back; another step has other groups."""
    net = siamese()
    (batch,) = batches(1)
    F_t = Frozen(net.F, hold(net.F, copy=True), batch)
    eta, state = momentum_queue({}, F_t, batch, shuffle_bn=4)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(eta)
    with torch.no_grad():
        for rows, s in itertools.product(order.chunk(4), range(2)):
            expected[s, rows] = copy.deepcopy(net.F)(batch.others[s, rows])
    assert torch.allclose(eta, expected, atol=1e-12)
    assert torch.allclose(state["last"], objective.unit(eta).transpose(0, 1).flatten(0, 1))
    another = momentum_queue({}, F_t, batch._replace(step=1), shuffle_bn=4)[0]
    whole = momentum_queue({}, F_t, batch)[0]
    assert min((eta - another).abs().max(), (eta - whole).abs().max()) > 1e-3


def test_info_nce_by_the_definition():
    z, eta = pair(4)
    queue = objective.unit(pair(7, seed=2)[0][0])
    expected = 0.0
    for s, i in itertools.product(range(2), range(4)):
        sims = [torch.cosine_similarity(z[s, i], key, 0).item() / 0.2 for key in (eta[s, i], *queue)]
        expected += (math.log(sum(map(math.exp, sims))) - sims[0]) / 8
    assert objective.info_nce(z, eta, None, {"queue": queue}).item() == pytest.approx(expected, abs=1e-12)
    empty = z.clone().requires_grad_()
    loss = objective.info_nce(empty, eta, None, {"queue": queue[:0]})
    assert loss.item() == 0
    assert torch.autograd.grad(loss, empty)[0].abs().max() == 0


# SwAV


def test_sinkhorn_is_lightly_s():
    scores = pair(10, 6)[0][0]
    for iterations in (1, 3, 10):
        ours = sinkhorn(scores, epsilon=0.3, iterations=iterations)
        assert torch.allclose(ours, lightly_sinkhorn(scores, iterations, 0.3), atol=1e-12)


def test_sinkhorn_s_marginals():
    scores = torch.tanh(pair(12, 4)[0][0])
    codes = sinkhorn(scores, epsilon=0.5, iterations=200)
    assert torch.allclose(codes.sum(1), torch.ones(12, dtype=torch.float64))
    assert torch.allclose(codes.sum(0), torch.full((4,), 3.0, dtype=torch.float64))
    ratio = codes / (scores / 0.5).exp()  # a scale for each row and column: rank one
    assert torch.linalg.matrix_rank(ratio, rtol=1e-9) == 1
    assert torch.allclose(sinkhorn(torch.zeros(12, 4), epsilon=0.05, iterations=3), torch.full((12, 4), 0.25))
    assert sinkhorn(torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]]), epsilon=0.05, iterations=3).isfinite().all()


def test_swapped_prediction_is_lightly_s():
    scores = torch.tanh(pair(10, 6)[0])
    codes, _ = sinkhorn_codes({}, lambda views: scores.flip(0), batch_of(10))
    expected = lightly.loss.SwaVLoss()(list(scores), [])
    assert objective.swapped_prediction(scores, codes).item() == pytest.approx(expected.item(), abs=1e-12)


def test_prototypes_are_cosines_with_their_full_gradient():
    layer = networks.Prototypes(5, 7).double()
    z = pair(3)[0][0]
    scores = layer(z)
    assert torch.allclose(scores, torch.cosine_similarity(z[:, None], layer.weight[None], -1))
    assert torch.allclose(layer(9 * z), scores)
    (gradient,) = torch.autograd.grad(scores.sum(), layer.weight)
    assert (gradient.abs().sum(1) > 0).all()
    assert (gradient * layer.weight).sum(1).abs().max() < 1e-12  # a length changes nothing


def test_h_stands_before_the_prototypes(siamese):
    net = siamese(dim=16)
    net.F.prototypes = networks.Prototypes(16, 7).double()
    views = torch.randn(2, 6, 1, 8, 8, dtype=torch.float64)
    z, p = net(views, (0, 1))
    e = [net.F.projector(net.F.backbone(x)) for x in views]
    for view in (0, 1):
        scores, predicted = (
            torch.cosine_similarity(x[:, None], net.F.prototypes.weight[None], -1) for x in (e[view], net.h(e[view]))
        )
        assert torch.allclose(z[view], scores)
        assert torch.allclose(p[view], predicted)
    assert torch.allclose(net.F(views[0]), z[0])


# Regularisers


def test_vicreg_is_lightly_s():
    z, eta = pair(30)
    z, eta = 0.3 * z, 0.3 * eta  # std below 1
    assert objective.vicreg(z, eta, batch_of(30), {}).item() == pytest.approx(
        lightly.loss.VICRegLoss()(*z).item(), abs=1e-10
    )


def test_vicreg_s_terms_on_constructed_covariances():
    white = torch.linalg.qr(pair(40, 5)[0][0] - pair(40, 5)[0][0].mean(0))[0]
    white = (white - white.mean(0)) * math.sqrt(39)
    at = partial(objective.vicreg, batch=batch_of(40), _={})

    def terms(z):
        off = dict.fromkeys(("invariance", "variance", "covariance"), 0.0)
        return [at(z, z, **off | {name: 1.0}).item() for name in off]

    assert terms(torch.stack([2 * white, 2 * white])) == pytest.approx([0, 0, 0], abs=1e-9)  # std 2, no covariance
    half = math.sqrt(0.25 + 1e-4)
    assert terms(torch.stack([white / 2, white / 2])) == pytest.approx([0, 1 - half, 0], abs=1e-9)
    double = torch.cat([white, white[:, :1]], 1)  # one channel twice: two entries of 1 off the diagonal, two views
    assert terms(torch.stack([double, double]))[2] == pytest.approx(2 * 2 / 6, abs=1e-9)


def test_barlow_is_lightly_s():
    z, eta = pair(30)
    expected = lightly.loss.BarlowTwinsLoss()(*z).item()
    assert objective.barlow(z, eta, batch_of(30), {}).item() == pytest.approx(expected, abs=1e-10)


def test_sigreg_is_lightly_s(monkeypatch):
    z, eta = pair(30)
    rng = torch.Generator().manual_seed(7)  # the step
    directions = objective.unit(torch.randn(64, 5, generator=rng, dtype=torch.float64)).T
    theirs = lightly.loss.LeJEPALoss(sigreg_num_vectors=64).double()
    monkeypatch.setattr(theirs.sigreg, "_generate_unit_vectors", lambda *_: directions)
    expected = theirs(local_proj=z[:1], global_proj=z)  # counts the first view twice
    again = theirs(local_proj=z[1:], global_proj=z)
    ours = objective.sigreg(z, eta, batch_of(30, step=7), {}, slices=64)
    assert ours.item() == pytest.approx((expected + again).item() / 2, abs=1e-10)


def test_sigreg_tells_a_gaussian_from_others():
    at = partial(objective.sigreg, _={}, regularity=1.0, slices=32, knots=401)
    many = torch.randn(1, 20_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = torch.zeros(1, 100, 4, dtype=torch.float64)
    t = torch.linspace(-3, 3, 10_001, dtype=torch.float64)
    at_a_point = torch.trapezoid((1 - (-t.square() / 2).exp()).square() * (-t.square() / 2).exp(), t).item()
    assert at(one, one, batch_of(100)).item() == pytest.approx(100 * at_a_point, rel=1e-4)
    chance = torch.trapezoid((1 - (-t.square()).exp()) * (-t.square() / 2).exp(), t).item()  # E of |φ − e^{−t²/2}|²·B
    assert at(many, many, batch_of(20_000)).item() == pytest.approx(chance, rel=0.3)
    assert at(3 * many, 3 * many, batch_of(20_000)).item() > 1000 * chance


# h that is set, not trained


def test_directpred_and_directcopy_follow_the_correlation():
    z = pair(50)[0][0] @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64))
    for eigen in (True, False):
        h = networks.Direct(5, eigen=eigen, rho=0.0).double()
        w = torch.linalg.lstsq(z, h(z)).solution
        c = z.T @ z / 50
        values, vectors = torch.linalg.eigh(c)
        assert torch.allclose(h.correlation, c)
        expected = values.sqrt() + 0.1 * values.sqrt().max() if eigen else values / values.max() + 0.1
        assert torch.allclose(w @ vectors, vectors * expected, atol=1e-8)
        assert not list(h.parameters())
        moved, h = h.correlation.clone(), h.eval()
        h(5 * z)
        assert torch.equal(h.correlation, moved)


# As a user meets them


def small(**options):
    base = {"epochs": 2, "batch_size": 200, "dim": 16, "hidden_dim": 16, "threads": 1, "quiet": True}
    return emsiam.Config(**base | options)


def resolved(**options):
    config, data, _ = load_images(small(**options))
    return resolve(config, len(data.images), data.shape)


def test_options_that_a_system_reads_are_its_own():
    config, notes = resolved(mode="simclr", similarity="mse", m=0.3, temperature=0.5)
    assert config.temperature == 0.5
    assert (config.similarity, config.m, config.tau) == (None, None, None)
    assert len(notes) == 2
    assert resolved(mode="moco")[0].queue == 256  # of 1,437 images
    assert resolved(mode="moco", queue=1000)[0].queue == 1000
    assert resolved(mode="swav", dim=40)[0].width == 40
    assert resolved(mode="vicreg")[0].bn == "hidden"
    assert resolved(mode="vicreg", bn="default")[0].bn == "default"
    assert resolved(mode="byol")[0].tau_schedule == "cosine"
    assert resolved(mode="simclr", stop_grad=True, k=5)[0].k == 5


@pytest.mark.parametrize(
    "options", [{"mode": "simclr", "k": 5}, {"mode": "byol", "stop_grad": False}, {"mode": "moco", "eta": "other_view"}]
)
def test_what_a_system_cannot_honour_is_refused(options):
    with pytest.raises(ConfigError):
        resolved(**options)


def test_every_system_is_a_row():
    assert METHODS.keys() >= {*SYSTEMS, "onestep", "multistep", "ema_eta", "expectation"}


def test_a_look_leaves_the_momentum_encoder_alone(siamese, batches):
    from emsiam.training.observe import cut

    net = siamese()
    state = trained(net, partial(momentum_queue, queue=64), batches(3), objective.info_nce)[-1].state
    before = {name: x.clone() for name, x in state.items()}
    (batch,) = batches(1)
    momentum_queue(
        cut(momentum_queue, state, torch.arange(8), 64), Frozen(net.F, hold(net.F, copy=False), batch), batch
    )
    assert all(torch.equal(before[name], x) for name, x in state.items())
    assert len(cut(momentum_queue, state, torch.arange(8), 64)["queue"]) == 64


def test_groups_of_batch_normalisation_are_alike_and_never_of_one_image():
    """A batch of 160 in 80 groups is looked at on 512 images: 73 groups of 7 and one of 1, if they were cut off."""
    seen = []

    def passed(_, views):
        seen.append(views.shape[1])
        return views

    views = torch.arange(512.0)[None, :, None]
    F_t = SimpleNamespace(under=passed)
    for groups in (80, 300):
        batch = Batch.of(0, torch.arange(512), views.repeat(2, 1, 1), draw=None, num_images=512)
        assert torch.equal(shuffled({}, F_t, batch, groups), batch.others)
        assert min(seen) >= 2
