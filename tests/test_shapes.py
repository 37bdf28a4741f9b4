"""Generated images: functions of (seed, id), whose content T keeps and whose E_T is a finite mean."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

import emsiam
from emsiam import data, recipes
from emsiam.data import shapes, views
from emsiam.data.shapes import CONTENTS, Shapes
from emsiam.eta import SOLVERS

pytestmark = pytest.mark.usefixtures("plain_runs")

IDS = torch.arange(64)


def test_an_image_is_a_function_of_seed_and_id():
    images = Shapes(1000)[IDS]
    assert torch.equal(Shapes(10**6)[IDS], images)  # whatever the size
    assert torch.equal(Shapes(1000)[IDS.flip(0)], images.flip(0))  # and the batch
    assert torch.equal(torch.cat([Shapes(1000)[part] for part in IDS.split(7)]), images)
    assert len({image.numpy().tobytes() for image in images}) == 64
    for other in (Shapes(1000, seed=1)[IDS], Shapes(1000, test=True)[IDS], Shapes(1000)[IDS + 64]):
        assert not (other == images).flatten(1).all(1).any()


def splitmix64(key, counter):
    """As published, in Python's own integers: state, then output."""
    mask = 2**64 - 1
    z = (key + counter * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_random_numbers_are_splitmix64():
    key = int(np.random.SeedSequence([3, 1]).generate_state(1, np.uint64)[0])
    ours = shapes._uniform(3, 1, torch.tensor([0, 1, 10**7]), 5)
    for row, counter in zip(ours, (0, 1, 10**7), strict=True):
        assert row.tolist() == [(splitmix64(key, counter * 64 + i) >> 40) / 2**24 for i in range(5)]


def test_random_numbers_are_uniform_and_uncorrelated():
    u = shapes._uniform(0, shapes.IMAGES, torch.arange(20_000), shapes.NUISANCE + 1).numpy()
    p = [scipy.stats.kstest(column, "uniform").pvalue for column in u.T]
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3
    both = np.hstack([u, np.roll(u, 1, 0)])  # with the next image's too
    correlation = np.corrcoef(both.T) - np.eye(2 * u.shape[1])
    assert np.abs(correlation).max() < 5 / np.sqrt(len(u))


def test_every_content_is_as_likely():
    counts = Shapes(48_000).labels(torch.arange(48_000)).bincount(minlength=len(CONTENTS))
    assert len(counts) == len(CONTENTS) == 48
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_each_factor_of_content_shows():
    """Under the same nuisance two contents that differ in one factor give different pictures."""
    nuisance = shapes._uniform(0, shapes.STATES, torch.arange(8), shapes.NUISANCE)
    pictures = {c: shapes.draw(torch.full((8,), i), nuisance).float() for i, c in enumerate(CONTENTS)}
    for a, b in itertools.combinations(CONTENTS, 2):
        if sum(x != y for x, y in zip(a, b, strict=True)) == 1:
            assert (pictures[a] - pictures[b]).abs().flatten(1).mean(1).median() > 1, (a, b)


@pytest.mark.parametrize(("first", "last"), [(0, 2), (2, 3), (3, 4), (4, 11), (11, 16), (16, 22)])
def test_each_factor_of_nuisance_shows(first, last):
    """Position, scale, rotation, background, lighting, occlusion: another value of one, another picture."""
    nuisance = shapes._uniform(0, shapes.STATES, torch.arange(32), shapes.NUISANCE)
    other = nuisance.clone()
    other[:, first:last] = nuisance[:, first:last].roll(1, 0)
    labels = torch.arange(32)
    change = (shapes.draw(labels, nuisance).float() - shapes.draw(labels, other).float()).abs().flatten(1).mean(1)
    assert change.median() > 1


def test_edges_are_smooth():
    """Anti-aliased: moved by a hundredth of a pixel no pixel jumps."""
    nuisance = shapes._uniform(0, shapes.STATES, torch.arange(48), shapes.NUISANCE)
    moved = nuisance.clone()
    moved[:, 0] += 0.01 / 32
    change = shapes.draw(IDS[:48], nuisance).int() - shapes.draw(IDS[:48], moved).int()
    assert change.abs().max() <= 25


def test_t_shows_the_content_under_equally_likely_states():
    images = data.sets.shapes(num_images=2000)
    images = images._replace(recipe=recipes.Recipe(redraw=8))
    ids, n = torch.tensor([3, 1, 4]), 400
    seen = images.ask(ids, images.sample(ids, n, torch.Generator().manual_seed(0)), n, torch.float32)()
    for i, x in zip(ids, seen.unbind(1), strict=True):
        states = images.normalise(images.images.shown(i.repeat(8), torch.arange(8)))
        which = (x[:, None] == states).flatten(2).all(2)  # [n, 8]
        assert which.sum(1).eq(1).all()
        assert scipy.stats.chisquare(which.sum(0)).pvalue > 1e-3


def test_the_ideal_eta_is_a_finite_mean_of_the_content_alone(plain):
    """E_T[F(T(x))] by enumeration: what `expectation` tends to, and the same for two images of one content."""
    images = data.sets.shapes(num_images=2000)._replace(recipe=recipes.Recipe(redraw=16))
    labels = images.labels
    ids = torch.stack(
        [torch.tensor(0), (labels[1:] == labels[0]).nonzero()[0, 0] + 1, (labels != labels[0]).int().argmax()]
    )
    F = plain(3 * 32 * 32).F

    def representation(i):
        with torch.no_grad():
            return F(images.normalise(images.images.shown(i.repeat(16), torch.arange(16))).double())

    exact = torch.stack([representation(i).mean(0) for i in ids])
    assert torch.equal(exact[0], exact[1])
    assert (exact[0] - exact[2]).norm() > 0.01 * exact[0].norm()
    rng, errors = torch.Generator().manual_seed(0), {}
    for n in (16, 400):

        def draw(n):
            return images.ask(ids, images.sample(ids, n, rng), n, torch.float64)()

        batch = data.batches.Batch(0, ids, draw(2), (0, 1), (1, 0), draw(2), draw, 2000, lambda x: x)

        def F_t(views):
            with torch.no_grad():
                return torch.stack([F(x) for x in views])

        eta = torch.stack([SOLVERS["expectation"]({}, F_t, batch, n=n)[0][0] for _ in range(12)])
        errors[n] = (eta - exact).square().mean().sqrt().item()
    assert 3.8 < errors[16] / errors[400] < 6.5  # 1/√n


def test_the_ordinary_t_works_on_it_too():
    images = data.sets.shapes(num_images=2000)
    images = images._replace(recipe=data.sets.CIFAR)
    draw = images.sample(IDS, 2, torch.Generator().manual_seed(0))
    got = images.ask(IDS, draw, 2, torch.float32)()
    expected = images.normalise(views.apply(images.images[IDS].repeat(2, 1, 1, 1), draw))
    assert torch.equal(got.flatten(0, 1), expected)


def test_statistics_are_those_of_the_pixels():
    images = data.sets.shapes(num_images=2000)
    x = images.normalise(images.images[torch.arange(2000)])
    assert x.mean((0, 2, 3)).abs().max() < 1e-4
    assert (x.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_it_trains_and_says_how_many_images():
    parts = emsiam.prepare(emsiam.Config(dataset="shapes", num_images=2000, batch_size=16, dim=8, hidden_dim=8))
    assert next(parts.alternation()).loss.isfinite()
    assert (parts.config.num_images, parts.steps_per_epoch) == (2000, 125)
    assert parts.config.augment["redraw"] == 1024


@pytest.mark.slow
def test_random_features_are_clearly_below_trained_ones_and_those_below_the_best(tmp_path):
    """kNN on the backbone, eight epochs, five seeds: room on both sides."""
    rows = []
    for seed in range(5):
        options = {"epochs": 8, "eval_every": 8, "quiet": True, "out": str(tmp_path / str(seed))}
        config = emsiam.Config(dataset="shapes", seed=seed, **options)
        s = emsiam.fit(config).summary
        rows.append((s["knn_acc1_init"], s["knn_acc1"], s["z_std_ratio"], s["participation_ratio"], s["verdict"]))
        print(seed, *rows[-1], f"{s['seconds']:.0f} s")
    init, trained = np.array([row[:2] for row in rows]).T
    assert trained.min() > 1.5 * init.max()
    assert trained.max() < 0.9
