"""What usually makes a representation look like this, and what to try? Most likely first, each with its source."""

from typing import NamedTuple

from ..diagnostics.verdict import Evidence, Judgement

SIMSIAM = "Chen & He 2021 (SimSiam)"
BYOL = "Grill et al. 2020 (BYOL)"


class Cause(NamedTuple):
    """What may be behind it."""

    cause: str
    to_try: str
    source: str


NO_STOP = Cause(
    "a gradient reaches the target",
    "detach the target: loss(p, z.detach())",
    f"{SIMSIAM}, §4.1 and Fig. 2: std 0, accuracy 0.1",
)
NO_PREDICTOR = Cause(
    "there is no predictor, or it stands on both sides",
    "put a predictor on the trained side alone, with the output of the projector as its target",
    f"{SIMSIAM}, §4.2, Table 1: 0.1; Zhang et al. 2022 (2203.16262): averages and symmetric predictors collapse",
)
HIGH_LR = Cause(
    "the learning rate is too high for this data or optimiser",
    "a tenth of it, with warm-up; LARS's and SGD's rates are not Adam's",
    "github.com/lucidrains/byol-pytorch issue 44; github.com/taoyang1122/pytorch-SimSiam issue 6",
)
SLOW_PREDICTOR = Cause(
    "the predictor learns too slowly to follow",
    "a higher learning rate of the predictor, and no decay of it",
    f"{BYOL}, §5; {SIMSIAM}, Table 1; github.com/Tian0426/CL-HAR issue 4",
)
AUGMENTATION = Cause(
    "views differ too little, or in what does not matter",
    "stronger crops and colours; the loss goes to −1 by itself where views are nearly the same",
    "github.com/facebookresearch/simsiam issue 29; github.com/PatrickHua/SimSiam issue 6",
)
SMALL_MODEL = Cause(
    "the network is small for the data",
    "a wider network, or fewer data at first",
    "Li, Efros & Pathak 2022 (2209.15007); github.com/PatrickHua/SimSiam issue 50",
)
AVERAGE = Cause(
    "the target is an average over time or views, and nothing else keeps the rank",
    "a predictor; an average in its place delays the loss of rank and does not stop it",
    f"RESULTS.md, moving_average, on digits; {BYOL}, Table 5b: 0.2 without predictor",
)
DECAY = Cause(
    "weight decay or a target rate too strong",
    "less weight decay, a slower target, another learning rate",
    "Tian et al. 2021 (2102.06810); github.com/facebookresearch/vjepa2 issue 74",
)
RUNNING = Cause(
    "BN statistics are those of before training, or of other data",
    "look in train mode, or re-estimate the statistics on some batches",
    "this project's untrained networks have std·√d of p 0.003 in eval mode",
)
OTHER_IMAGES = Cause(
    "the two views are not of one image",
    "the pairing in the loader; both views of an image have one id",
    "docs/battery.md, permuted",
)
FIXED_PREDICTOR = Cause(
    "the predictor is not trained",
    "give its parameters to the optimiser",
    f"{SIMSIAM}, Table 1: the loss stays high",
)
SHORT = Cause("training has not come far", "train on, and look again", "docs/doctor.md")
NOT_FINITE = Cause(
    "the loss or the weights are not finite",
    "a lower learning rate, fp32 in the loss; look at the last finite checkpoint",
    HIGH_LR.source,
)


def causes(e: Evidence, j: Judgement) -> tuple[Cause, ...]:
    """What usually gives such a judgement; none where it is healthy or not decided."""
    if j.verdict == "diverged":
        return (NOT_FINITE,)
    if j.verdict == "complete collapse":
        return (NO_PREDICTOR, NO_STOP, SLOW_PREDICTOR) if j.number == "p_residual_norm" else (NO_STOP, RUNNING, HIGH_LR)
    if j.verdict == "dimensional collapse":
        lost = j.number == "view_auc"
        return (NO_STOP, NO_PREDICTOR, HIGH_LR) if lost else (NO_PREDICTOR, AVERAGE, DECAY, SMALL_MODEL)
    if j.verdict == "not converging":
        behind = e.p is not None and e.p.spread.value < e.z.spread.value / 2 if e.z else False
        return (NO_PREDICTOR, SHORT) if behind else (SHORT, OTHER_IMAGES, FIXED_PREDICTOR, AUGMENTATION)
    return ()
