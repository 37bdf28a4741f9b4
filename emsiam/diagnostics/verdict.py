"""Numbers to words: what has become of a representation? No labels are used. Its errors: docs/doctor.md."""

from typing import NamedTuple

from torch import Tensor

from . import collapse
from .evidence import intervals, many_images

VERDICTS = (
    *("healthy", "dimensional collapse", "complete collapse", "not converging", "diverged"),
    *("undecided", "too early to say"),
)
RULE = "found again"  # its name
BEFORE = "few directions"  # that of a verdict without a rule's name, the earlier rule of docs/numbers.md
CONSTANT = 0.1  # of the length of unit vectors, what differs between images; a definition
READ = 0.5  # of it, below which directions are those of what little differs
FEW_DIRECTIONS = 3.0  # participation ratio, of many images
ENOUGH = 0.9  # of finding an image again, also where pixels find more, as they do where views hardly differ
CHANCE = 0.6  # of finding an image again, where nothing is known that it could be compared with
YOUNG = 50  # steps
FEWEST = 32  # images


class Bounds(NamedTuple):
    """The bounds that are no definitions; experiments/doctor shows which each pair of data sets would choose."""

    directions: float = FEW_DIRECTIONS
    enough: float = ENOUGH


BOUNDS = Bounds()


class Number(NamedTuple):
    """A number of so many images, and its 95 % interval over them."""

    value: float
    low: float
    high: float


class Seen(NamedTuple):
    """What is seen of an output; see `collapse` for the numbers."""

    spread: Number  # residual_norm: std·√d, where all channels vary alike
    directions: Number  # participation ratio of very many images, `evidence.many_images`
    found: Number | None = None  # view_auc, where there are views


def seen(x: Tensor) -> Seen | None:
    """What is seen of x, [N, d] or views [n, N, d]; None where it is not finite."""
    if not x.isfinite().all():
        return None
    one, ends = x[0] if x.ndim == 3 else x, intervals(x)
    rank = Number(collapse.participation_ratio(one).item(), *ends["participation_ratio"])
    return Seen(
        Number(collapse.residual_norm(one).item(), *ends["residual_norm"]),
        Number(*(many_images(ratio, *one.shape) for ratio in rank)),
        Number(collapse.view_auc(x).item(), *ends["view_auc"]) if "view_auc" in ends else None,
    )


class Evidence(NamedTuple):
    """What a verdict looks at."""

    images: int
    z: Seen | None  # None: z or p is not finite
    p: Seen | None = None
    untrained: Seen | None = None  # z of the same network before its first step
    pixels: Seen | None = None  # of the views themselves
    steps: int | None = None  # that were trained


class Judgement(NamedTuple):
    """A verdict, and the number that decided, with its bound, and where that is from."""

    verdict: str
    reason: str  # a sentence
    number: str
    value: float
    bound: float
    source: str
    would_decide: tuple[str, ...] = ()


def judge(e: Evidence, bounds: Bounds = BOUNDS) -> Judgement:
    """The first that holds:

    z or p is not finite                               diverged
    fewer than FEWEST images                           undecided
    spread of z or p < CONSTANT                        complete collapse
    fewer than YOUNG steps                             too early to say
    found again below min(pixels, ENOUGH), and fewer than FEW_DIRECTIONS directions   dimensional collapse
    found again below min(pixels, ENOUGH)              not converging
    spread of z < READ                                 undecided
    fewer than FEW_DIRECTIONS directions               dimensional collapse
    the 95 % interval of directions, or of found again, contains its bound   undecided
    else                                               healthy

    Found again, `view_auc`, is how often the other view of an image is nearer to it than a view of another image;
    pixels: that of the views alone. Where no pixels are known the bound is that of untrained weights, at most ENOUGH,
    and where neither is, CHANCE. Spread is `residual_norm`: std·√d where all channels vary alike, and 1 also where few
    channels do; it is compared by its value, the others by their whole 95 % interval.
    """
    if e.z is None:
        return Judgement("diverged", "z or p holds values that are not finite", "finite", 0.0, 1.0, "a definition")
    if e.images < FEWEST:
        reason = f"{e.images} images are too few to say how they are spread; {FEWEST} are the least"
        return Judgement("undecided", reason, "images", e.images, FEWEST, "the rule", ("more images, better 500",))
    for name, seen in (("z", e.z), ("p", e.p)):
        if seen and seen.spread.value < CONSTANT:
            return _constant(name, seen)
    if e.steps is not None and e.steps < YOUNG:
        reason = f"after {e.steps} steps it is too early to say; {YOUNG} are the least"
        return Judgement("too early to say", reason, "steps", e.steps, YOUNG, "the rule", ("a longer run",))
    bound, source = least_found(e, bounds.enough)
    rank, few = e.z.directions, bounds.directions
    if e.z.found and e.z.found.high < bound:
        verdict = "dimensional collapse" if rank.high < few else "not converging"
        reason = (
            f"an image's other view is nearer to it than another image's in {e.z.found.value:.0%} of comparisons; "
            f"by {source} in {bound:.0%}"
        )
        return Judgement(verdict, reason, "view_auc", e.z.found.value, bound, source)
    if (spread := e.z.spread.value) < READ:
        reason = f"most of z is the same for all images, {spread:.0%} of its length differs; {_recognised(e.z)}"
        later = "a later step: is that share falling?"
        return Judgement("undecided", reason, "z_residual_norm", spread, READ, "the rule", (later, "untrained weights"))
    said = f"{rank.value:.1f} directions carry z{_beside(e)}"
    of_rank = "directions", rank.value, few, "trials on digits and shapes, LOG.md"
    if rank.high < few:
        found = f"; images are found again all the same ({e.z.found.value:.0%})" if e.z.found else ""
        return Judgement("dimensional collapse", f"{said}; fewer than {few:g} is a collapse{found}", *of_rank)
    if rank.low < few:
        reason = f"{said}, from {rank.low:.1f} to {rank.high:.1f} by these images, and {few:g} lies between"
        return Judgement("undecided", reason, *of_rank, ("more images", "untrained weights", "a later step"))
    if e.z.found and e.z.found.low < bound:
        reason = (
            f"images are found again by their other view in {e.z.found.low:.0%} to {e.z.found.high:.0%} of "
            f"comparisons, and by {source} in {bound:.0%}"
        )
        return Judgement(
            "undecided", reason, "view_auc", e.z.found.value, bound, source, ("more images", "a later step")
        )
    return Judgement("healthy", f"{said}; {_recognised(e.z)}", *of_rank)


def least_found(e: Evidence, enough: float) -> tuple[float, str]:
    """What z should find again of images, and where that is from."""
    if e.pixels and e.pixels.found:
        return min(e.pixels.found.value, enough), "the pixels of the views"
    if e.untrained and e.untrained.found:
        return min(e.untrained.found.value, enough), "the network before training"
    return CHANCE, "untrained networks of this project's tables"


def _constant(name: str, seen: Seen) -> Judgement:
    value = seen.spread.value
    other = ", whatever z looks like" if name == "p" else ""
    reason = f"{name} is the same for all images{other}: {value:.1%} of its length differs, the bound is {CONSTANT:.0%}"
    return Judgement("complete collapse", reason, f"{name}_residual_norm", value, CONSTANT, "a definition")


def _recognised(z: Seen) -> str:
    if not z.found:
        return "whether other views of an image are recognised is not known, as there is one view of each"
    return f"images are found again by their other view ({z.found.value:.0%})"


def _beside(e: Evidence) -> str:
    if not e.untrained:
        return ""
    return f"; untrained weights of this network have {e.untrained.directions.value:.0f}"
