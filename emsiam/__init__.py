"""SimSiam as expectation-maximisation: the paper's equations, each with the function that computes it.

    eq.        what                                                function
    (1)        D(p, η) = −⟨p/‖p‖, η/‖η‖⟩                           objective.cosine
    (2)        L = ½D(p₁, z₂) + ½D(p₂, z₁)                         objective.loss
    (3) (4)    stop-gradient: η is a constant of the θ-step        alternate.alternate
    (5)        L(θ, η) = E‖F_θ(T(x)) − η_x‖²                       objective.squared_error, objective.loss
    (6)        min over θ and η, by alternation                    alternate.alternate
    (7)        θᵗ ← argmin_θ L(θ, ηᵗ⁻¹): SGD                       optim.SGD
    (8)        ηᵗ ← argmin_η L(θᵗ, η)                              a solver of emsiam.eta
    (9)        η_x ← E_T[F_θᵗ(T(x))]                               eta.fresh.expectation
    (10) (11)  η_x ← F_θᵗ(T′(x)), one draw: SimSiam                eta.fresh.other_view
    §5.2       η_x ← m·η_x + (1−m)·F_θᵗ(T′(x))                     eta.memory.moving_average

Chen & He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv 2011.10566.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .build import prepare
    from .config import Config
    from .doctor.examine import examine
    from .doctor.monitor import Monitor
    from .errors import ConfigError
    from .runs.run import Run, load_run
    from .training.run_training import fit

__version__ = "0.2.0"
__all__ = ["Config", "ConfigError", "Monitor", "Run", "examine", "fit", "load_run", "prepare"]
# How often a thread of OpenMP looks for its partners before it sleeps. libgomp's own 300,000 make a step several times
# as slow on a busy machine, where a partner may not be running: benchmarks/threads.py. Read when PyTorch is loaded.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "30000"
# Where a command is being started, `python -m emsiam.NAME` or `emsiam NAME`, and not where a program imports emsiam.
if sys.argv[:1] == ["-m"]:
    STARTED = sys.orig_argv[sys.orig_argv.index("-m") + 1].partition(".")[0]
else:
    STARTED = os.path.basename(sys.argv[0]) if sys.argv else ""
if __name__ == STARTED:
    from .ending import end_at_once

    end_at_once()  # also while the command itself is imported
HOMES = {"Config": "config", "ConfigError": "errors", "prepare": "build", "examine": "doctor.examine"}
HOMES |= {"Monitor": "doctor.monitor"}
HOMES |= {"Run": "runs.run", "load_run": "runs.run", "fit": "training.run_training"}


def __getattr__(name: str) -> Any:
    """What is asked for is loaded then, modules of the package too (`emsiam.plots`): importing emsiam costs nothing."""
    if name in HOMES:
        return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """What can be asked for: the names above, and the modules."""
    return sorted({*__all__, *(module.name for module in iter_modules(__path__)), "__doc__", "__version__"})
