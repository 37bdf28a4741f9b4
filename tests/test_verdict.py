"""Words from numbers: each line of the rule, what it says, and arrays whose truth is how they were made."""

import pytest
import torch

from emsiam.diagnostics import collapse, evidence
from emsiam.diagnostics.verdict import VERDICTS, Evidence, Number, Seen, judge, seen

pytestmark = pytest.mark.mathematics


def number(value, width=0.02):
    return Number(value, value - width, value + width)


def of(spread=0.99, rank=8.0, found=0.9):
    return Seen(number(spread), number(rank, 0.5), None if found is None else number(found))


HEALTHY = Evidence(512, of(), of(), of(rank=25.0, found=0.6), of(found=0.7), 1000)


@pytest.mark.parametrize(
    ("change", "verdict", "number"),
    [
        ({}, "healthy", "directions"),
        ({"z": None}, "diverged", "finite"),
        ({"images": 20}, "undecided", "images"),
        ({"z": of(spread=0.05)}, "complete collapse", "z_residual_norm"),
        ({"p": of(spread=0.05)}, "complete collapse", "p_residual_norm"),
        ({"z": of(spread=0.05), "steps": 10}, "complete collapse", "z_residual_norm"),  # a definition, however early
        ({"steps": 10}, "too early to say", "steps"),
        ({"steps": None}, "healthy", "directions"),
        ({"z": of(found=0.6)}, "not converging", "view_auc"),
        ({"z": of(found=0.6, rank=1.2)}, "dimensional collapse", "view_auc"),
        ({"z": of(rank=1.2)}, "dimensional collapse", "directions"),
        ({"z": of(spread=0.3, rank=30.0)}, "undecided", "z_residual_norm"),
        ({"z": of(spread=0.3, found=0.6)}, "not converging", "view_auc"),
        ({"z": of(rank=3.1)}, "undecided", "directions"),
        ({"z": of(found=0.7)}, "undecided", "view_auc"),
        ({"z": of(found=0.95), "pixels": of(found=1.0)}, "healthy", "directions"),  # views hardly differ
        ({"z": of(found=0.65), "pixels": None}, "healthy", "directions"),  # untrained weights: 0.6
        ({"z": of(found=0.55), "pixels": None}, "not converging", "view_auc"),
        ({"z": of(found=0.5), "pixels": None, "untrained": None}, "not converging", "view_auc"),
        ({"z": of(found=None)}, "healthy", "directions"),
    ],
)
def test_the_rule(change, verdict, number):
    found = judge(HEALTHY._replace(**change))
    assert (found.verdict, found.number) == (verdict, number)
    assert found.verdict in VERDICTS
    assert found.reason
    assert found.source
    assert bool(found.would_decide) == (verdict in ("undecided", "too early to say"))


def test_the_reason_has_the_number_that_decided_and_what_it_is_compared_with():
    found = judge(HEALTHY._replace(z=of(rank=1.2)))
    assert found.reason == (
        "1.2 directions carry z; untrained weights of this network have 25; fewer than 3 is a collapse; images are "
        "found again all the same (90%)"
    )
    found = judge(HEALTHY._replace(z=of(found=0.6)))
    assert found.reason == (
        "an image's other view is nearer to it than another image's in 60% of comparisons; by the pixels of the views "
        "in 70%"
    )


@pytest.mark.parametrize("count", [64, 256, 2048])
def test_the_rank_does_not_depend_on_how_many_images_there_are(count):
    x = torch.randn(count, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pr = collapse.participation_ratio(x).item()
    assert evidence.many_images(pr, count, 64) == pytest.approx(40, rel=0.05)
    assert (evidence.many_images(0, count, 40), evidence.many_images(count, count, 40)) == (0, 40)


def gaussian(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


IMAGES = gaussian(500, 64)
MADE = {
    "images": (IMAGES + 0.3 * gaussian(2, 500, 64, seed=1), "healthy"),
    "a constant": (torch.ones(2, 500, 64), "complete collapse"),
    "zeros": (torch.zeros(2, 500, 64), "complete collapse"),
    "noise around a constant": (1 + 1e-3 * gaussian(2, 500, 64), "complete collapse"),
    "the same in half precision": ((1 + 1e-3 * gaussian(2, 500, 64)).bfloat16(), "complete collapse"),
    "15 channels of 2,048 that vary": (
        torch.nn.functional.pad(IMAGES[:, :15], (0, 2033)).expand(2, 500, 2048),
        "healthy",
    ),
    "a channel that is huge": (torch.cat([1e4 * IMAGES[:, :1], IMAGES], 1).expand(2, 500, 65), "dimensional collapse"),
    "two points": (
        (IMAGES[:, :1].sign() * torch.ones(64)).expand(2, 500, 64),
        "dimensional collapse",
    ),
    "rank 2": (IMAGES[:, :2] @ gaussian(2, 64, seed=3) + 0.01 * gaussian(2, 500, 64, seed=1), "dimensional collapse"),
    "rank 8": (IMAGES[:, :8] @ gaussian(8, 64, seed=3) + 0.01 * gaussian(2, 500, 64, seed=1), "healthy"),
    "noise": (gaussian(2, 500, 64), "not converging"),
    "lengths of all sizes": (
        (IMAGES + 0.3 * gaussian(2, 500, 64, seed=1)) * gaussian(1, 500, 1, seed=5).mul(3).exp(),
        "healthy",
    ),
}


@pytest.mark.parametrize("made", MADE)
def test_arrays_whose_truth_is_how_they_were_made(made):
    x, verdict = MADE[made]
    assert judge(Evidence(x.shape[1], seen(x))).verdict == verdict
