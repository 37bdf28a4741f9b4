"""T against torchvision, on the same parameters; draws as values."""

import functools
import itertools

import pytest
import scipy.stats
import torch
from torchvision import transforms
from torchvision.transforms.v2 import functional as tv

from emsiam import data, recipes
from emsiam.data import pixels, views

pytestmark = pytest.mark.mathematics


def still(n, shape, **fields):
    """A draw that changes nothing, but for the given fields."""
    nothing = views.sample(recipes.Recipe(), n, shape, torch.Generator().manual_seed(0))
    return nothing._replace(**{"box": torch.tensor([[0.0, 0, 1, 1]]).expand(n, 4)} | fields)


@pytest.fixture
def images():
    return torch.rand(4, 3, 20, 28, generator=torch.Generator().manual_seed(0))


def test_a_recipe_without_strength_is_the_identity(images):
    square = images[..., :20]
    draw = views.sample(recipes.Recipe(), 4, (3, 20, 20), torch.Generator().manual_seed(0))
    torch.testing.assert_close(views.apply(square, draw), square, rtol=0, atol=1e-6)


def test_bytes_are_scaled_to_one():
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    torch.testing.assert_close(views.apply(x, still(1, (1, 16, 16))), x / 255, rtol=0, atol=1e-6)


@pytest.mark.parametrize("box", [(0, 0, 20, 28), (3, 5, 12, 20), (10, 0, 9, 7), (19, 27, 1, 1)])
def test_a_crop_equals_torchvision_s(images, box):
    top, left, height, width = box
    expected = tv.resized_crop(images, top, left, height, width, [20, 28], antialias=False)
    fractions = torch.tensor([[top / 20, left / 28, height / 20, width / 28]]).expand(4, 4)
    out = views.apply(images, still(4, (3, 20, 28), box=fractions))
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("degrees", [-15.0, 7.0, 90.0])
def test_a_rotation_equals_torchvision_s(degrees):
    """Inside the disc that no corner enters: outside the image torchvision fills, here the border is repeated."""
    x = torch.rand(1, 1, 31, 31, generator=torch.Generator().manual_seed(0))
    expected = tv.rotate(x, degrees, interpolation=tv.InterpolationMode.BILINEAR)
    out = views.apply(x, still(1, (1, 31, 31), angle=torch.tensor([degrees])))
    r = torch.arange(31) - 15.0
    disc = (r[:, None].square() + r.square()).sqrt() < 14
    torch.testing.assert_close(out[0, 0][disc], expected[0, 0][disc], rtol=0, atol=1e-4)


COLOUR = [
    (pixels.brighten, tv.adjust_brightness, [0.0, 0.6, 1.4]),
    (pixels.contrast, tv.adjust_contrast, [0.0, 0.6, 1.4]),
    (pixels.saturate, tv.adjust_saturation, [0.0, 0.6, 1.4]),
    (pixels.shift_hue, tv.adjust_hue, [-0.5, -0.1, 0.0, 0.1, 0.3]),
]


@pytest.mark.parametrize(("ours", "theirs", "values"), COLOUR, ids=lambda f: getattr(f, "__name__", ""))
def test_colours_equal_torchvision_s(images, ours, theirs, values):
    grey, primary = torch.full((1, 3, 20, 28), 0.4), torch.eye(3).view(3, 3, 1, 1).expand(3, 3, 20, 28)
    for x in (images, grey, primary, torch.zeros(1, 3, 20, 28)):
        for value in values:
            out = ours(x, torch.full((len(x), 1, 1, 1), value))
            torch.testing.assert_close(out, theirs(x, value), rtol=0, atol=2e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_jitter_s_order_is_each_image_s_own(channels):
    x = torch.rand(8, channels, 12, 12, generator=torch.Generator().manual_seed(0))
    recipe = recipes.PAPER._replace(scale=(1, 1), ratio=(1, 1), flip=0, grayscale=0, blur=0, jitter=0.7)
    draw = views.sample(recipe, 8, (channels, 12, 12), torch.Generator().manual_seed(1))
    assert len({tuple(order) for order in draw.order.tolist()}) > 1
    out = views.apply(x, draw)
    functions = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for i in range(8):
        expected = x[i : i + 1]
        for which in draw.order[i].tolist():
            expected = functions[which](expected, draw.jitter[i, which].item())
        torch.testing.assert_close(out[i : i + 1], expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("size", [32, 96, 224])
def test_blur_equals_torchvision_s(size):
    x = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 0.0, 1.7])
    out = views.apply(x, still(3, (3, size, size), sigma=sigma))
    kernel = 2 * max(1, round(0.05 * size)) + 1
    for i, s in enumerate(sigma.tolist()):
        expected = tv.gaussian_blur(x[i], [kernel, kernel], [s, s]) if s else x[i]
        torch.testing.assert_close(out[i], expected, rtol=0, atol=3e-5)


def test_flip_and_grayscale_equal_torchvision_s(images):
    yes = torch.tensor([True, False, True, False])
    torch.testing.assert_close(
        views.apply(images, still(4, (3, 20, 28), flip=yes)),
        torch.where(yes[:, None, None, None], tv.horizontal_flip(images), images),
        rtol=0,
        atol=2e-5,
    )
    torch.testing.assert_close(
        views.apply(images, still(4, (3, 20, 28), grayscale=yes)),
        torch.where(yes[:, None, None, None], tv.rgb_to_grayscale(images, 3), images),
        rtol=0,
        atol=3e-4,  # the weights of luma sum to 0.9999 there
    )


def test_draws_are_distributed_as_torchvision_s():
    """Two-sample Kolmogorov-Smirnov tests against torchvision's own samplers, on an image so large that its rounding
    of boxes to pixels does not show.
    """
    n = 4000
    torch.manual_seed(0)
    image = torch.empty(1).expand(3, 5000, 5000)
    boxes = torch.tensor([transforms.RandomResizedCrop.get_params(image, [0.2, 1], [3 / 4, 4 / 3]) for _ in range(n)])
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    ranges = jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    theirs = [transforms.ColorJitter.get_params(*ranges) for _ in range(n)]
    draw = views.sample(recipes.PAPER._replace(jitter=1), n, (3, 2, 2), torch.Generator().manual_seed(0))
    for ours, reference in [
        *zip(draw.box.T * 5000, boxes.double().T, strict=True),
        *((draw.jitter[:, i], torch.tensor([t[i + 1] for t in theirs])) for i in range(4)),
    ]:
        assert scipy.stats.ks_2samp(ours.numpy(), reference.numpy()).pvalue > 1e-3
    orders = [tuple(order) for order in draw.order.tolist()]
    assert scipy.stats.chisquare([orders.count(o) for o in itertools.permutations(range(4))]).pvalue > 1e-3
    paper = views.sample(recipes.PAPER, n, (3, 2, 2), torch.Generator().manual_seed(0))
    for share, p in (
        ((paper.jitter != torch.tensor([1.0, 1, 1, 0])).any(1), 0.8),
        (paper.flip, 0.5),
        (paper.grayscale, 0.2),
        (paper.sigma > 0, 0.5),
    ):
        assert scipy.stats.binomtest(int(share.sum()), n, p).pvalue > 1e-3


def test_each_image_has_its_own_draw_and_a_draw_is_replayed(digits):
    draw = views.sample(digits.recipe, 6, digits.shape, torch.Generator().manual_seed(0))
    x = digits.images[:1].expand(6, -1, -1, -1)
    out = views.apply(x, draw)
    assert torch.equal(out, views.apply(x, draw))
    assert len({tuple(view.flatten().tolist()) for view in out}) == 6
    for i in range(6):
        torch.testing.assert_close(
            out[i], views.apply(x[:1], draw.map(lambda f, i=i: f[i : i + 1]))[0], rtol=0, atol=1e-6
        )


def test_draws_stay_within_the_recipe():
    recipe = recipes.Recipe((0.3, 0.8), (0.75, 4 / 3), degrees=15, brightness=0.4, contrast=0.3, noise=0.05)
    draw = views.sample(recipe, 20_000, (1, 8, 8), torch.Generator().manual_seed(0))
    top, left, height, width = draw.box.T
    assert ((top >= 0) & (top + height <= 1 + 1e-6) & (left >= 0) & (left + width <= 1 + 1e-6)).all()
    area, ratio = height * width, width / height
    assert (area.min() >= 0.3 - 1e-6) & (area.max() <= 0.8 + 1e-6)
    assert (ratio.min() >= 0.75 - 1e-5) & (ratio.max() <= 4 / 3 + 1e-5)
    assert ratio.log().mean().abs() < 0.005  # log-uniform
    brightness, contrast = draw.jitter.T
    for field, low, high in ((draw.angle, -15, 15), (brightness, 0.6, 1.4), (contrast, 0.7, 1.3)):
        assert low <= field.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < field.max() <= high
    assert draw.noise.std().item() == pytest.approx(0.05, rel=0.01)


def test_where_no_crop_fits_the_largest_centred_one_is_taken():
    recipe = recipes.Recipe(scale=(1.0, 1.0), ratio=(2.0, 2.0))
    draw = views.sample(recipe, 3, (1, 10, 10), torch.Generator().manual_seed(0))
    height, width = draw.box[:, 2], draw.box[:, 3]
    torch.testing.assert_close(width, torch.ones(3))
    torch.testing.assert_close(height, torch.full((3,), 0.5))
    torch.testing.assert_close(draw.box[:, 0], torch.full((3,), 0.25))


# batches


def test_digits_are_scikit_learn_s():
    from sklearn.datasets import load_digits

    digits = data.sets.digits()
    x, y = load_digits(return_X_y=True)
    assert len(digits.images) == 1437
    assert len(digits.test_images) == 360
    everything = torch.cat([digits.images, digits.test_images]).flatten(1).double() * 16 / 255
    labels = torch.cat([digits.labels, digits.test_labels])
    ours = sorted((*row, label) for row, label in zip(everything.round().int().tolist(), labels.tolist(), strict=True))
    assert ours == sorted((*row, label) for row, label in zip(x.astype(int).tolist(), y.tolist(), strict=True))
    share = labels.bincount() / len(labels)
    assert (digits.test_labels.bincount() / 360 - share).abs().max() < 0.01  # stratified


def test_an_epoch_visits_images_once_in_a_new_order(batches):
    steps = [batch.ids for batch in batches(88)]  # two epochs of 44
    first, second = torch.cat(steps[:44]), torch.cat(steps[44:])
    assert len(first.unique()) == len(second.unique()) == 44 * 32
    assert not torch.equal(first, second)


@pytest.mark.parametrize("symmetry", ["sym", "asym", "asym2x"])
def test_a_batch_follows_from_seed_and_step(batches, symmetry):
    whole = list(batches(6, symmetry=symmetry))
    late = next(iter(batches(6, start=5, symmetry=symmetry)))
    assert torch.equal(whole[5].views, late.views)
    assert torch.equal(whole[5].draw(2), late.draw(2))
    assert not torch.equal(whole[4].views, late.views)
    assert torch.equal(late.others, late.views[list(late.partners)])
    assert not torch.equal(late.draw(1), late.draw(1))  # further views each time


def test_symmetry_decides_views_not_images(batches):
    """Runs that differ in symmetrisation are paired: same images, and the first two views are the same."""
    sym, asym, asym2x = (next(iter(batches(1, symmetry=s))) for s in ("sym", "asym", "asym2x"))
    assert torch.equal(sym.ids, asym2x.ids)
    assert torch.equal(sym.views, asym.views)
    assert len(asym2x.views) == 4
    assert set(asym2x.trained).isdisjoint(asym2x.partners)


def test_the_probe_is_the_same_for_every_run(digits):
    a, b = data.probe_set.probe(digits, 1, torch.float32), data.probe_set.probe(digits, 8, torch.float32)
    assert a.shape == (1, 512, 1, 8, 8)
    assert torch.equal(data.probe_set.probe(digits, 8, torch.float32), b)


RECIPES = {
    "paper": recipes.PAPER,
    "all blurred": recipes.PAPER._replace(blur=1.0, jitter=0.5),
    "as listed": recipes.PAPER._replace(shuffle=False, degrees=10),
    "in any order": recipes.PAPER._replace(shuffle=True, scale=(1.0, 1.0), ratio=(1.0, 1.0)),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_t_of_all_images_is_t_of_those_concerned_to_the_bit(name, channels):
    """As on a GPU, beside as on a CPU."""
    rng = torch.Generator().manual_seed(0)
    for n, side in ((1, 33), (7, 33), (64, 33), (5, 141)):  # the last has a long kernel, see `pixels.blur`
        images = torch.randint(256, (n, channels, side, side), dtype=torch.uint8, generator=rng)
        draw = views.sample(RECIPES[name], n, (channels, side, side), rng)
        assert torch.equal(views.apply(images, draw, static=True), views.apply(images, draw, static=False))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_t_of_all_images_compiles_whole(name, channels):
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (8, channels, 33, 33), dtype=torch.uint8, generator=rng)
    draw = views.sample(RECIPES[name], 8, (channels, 33, 33), rng)
    torch.compiler.reset()
    compiled = torch.compile(functools.partial(views.apply, static=True), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images, draw), views.apply(images, draw))
