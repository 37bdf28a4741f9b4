"""python -m emsiam.evaluate: how good are the features of a run, or of anybody's checkpoint?"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from . import names
from .config import IMAGE_SIZE, STEM_PADDINGS, Parser, add_images, add_network, command
from .config.rules import PATH, Rule, one_of, real, whole
from .errors import BadImage, ConfigError, check_folder, flag, given_flag, nearest, speaks, tell
from .files import write_json

# Parameters of tasks: which values they take, and what they mean. Who reads one, and its default, is at the task.
PARAMETERS = {
    "protocol": (
        one_of(names.PROTOCOLS),
        "exact (L-BFGS on features), ridge (closed form), or the paper's lars or sgd",
    ),
    "epochs": (whole(1), "of lars and sgd, other than 90"),
    "knn_k": (whole(1), "neighbours"),
    "knn_t": (real(0, above=True), "temperature"),
    "ways": (whole(2), "classes"),
    "shots": (whole(1), "images of each"),
    "seed": (whole(0, 2**32 - 1), "of what is drawn"),
}


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    try:
        given = parser().parse_args(arguments)
        check_folder("json", given.json)
        from .processor import best
        from .ranks import check_told, together

        with together(best()):
            check_told(vars(given))
            result = evaluate(**{name: value for name, value in vars(given).items() if name != "json"})
        if given.json and speaks():
            write_json(Path(given.json), result)
    except (ConfigError, BadImage, OSError, ValueError) as error:
        tell("emsiam.evaluate", error)
        return 2
    if speaks():
        print(report(result))
    return 0


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m emsiam.evaluate", description=__doc__)
    tasks = "; ".join(f"{name}: {task['does']}" for name, task in names.TASKS.items())
    p.add_argument("task", choices=names.TASKS, help=tasks)
    p.add_argument("what", metavar="RUN|CHECKPOINT", help="a run's directory, or a file")
    add_network(p)
    p.add_argument(
        "--features",
        choices=names.FEATURES,
        help="layer whose output is evaluated; of others' networks the backbone alone. Default: backbone.",
    )
    add_images(p, "--eval-dataset", "images to evaluate on")
    for name, (rule, meaning) in PARAMETERS.items():
        default = next(iter(readers(name).values()))
        help = f"{', '.join(readers(name))}: {meaning}" + ("" if default is None else f" ({default})")
        p.add_argument(flag(name), type=rule.of_argument, help=help)
    p.add_argument("--json", type=PATH.of_argument, metavar="FILE", help="write the result there")
    return p


def readers(name: str) -> dict[str, Any]:
    """The tasks that read a parameter, and its default."""
    return {task: about["reads"][name] for task, about in names.TASKS.items() if name in about["reads"]}


def evaluate(
    task: str,
    what: str,
    *,
    arch: str | None = None,
    weights: str | None = None,
    stem_padding: int | None = None,
    eval_dataset: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
    image_size: int | None = None,
    features: str | None = None,
    **parameters: Any,
) -> dict[str, Any]:
    """The result of a task as a dictionary; options and parameters as on the command line: `knn_k=5`.

    what: a run's directory, or a checkpoint, anybody's. Raises ConfigError, BadImage, ValueError.
    """
    if task not in names.TASKS:
        raise ConfigError(f"{task}: allowed is {', '.join(names.TASKS)}{nearest(task, names.TASKS)}")
    chosen = {name: value for name, value in parameters.items() if value is not None}
    for name, value in chosen.items():
        if name not in PARAMETERS:
            raise ConfigError(f"{flag(name)}: no such option{nearest(name, PARAMETERS)}")
        chosen[name] = _valid(name, value, PARAMETERS[name][0])
        elsewhere = readers(name)
        if task not in elsewhere and name != "seed" and chosen[name] not in elsewhere.values():
            raise ConfigError(
                f"{given_flag(name, chosen[name])}: is not used by {task}, only by {', '.join(elsewhere)}"
            )
    protocol = chosen.get("protocol", names.PROTOCOLS[0])
    if chosen.get("epochs") and protocol not in names.EPOCHS:
        raise ConfigError(f"--epochs {chosen['epochs']}: is not used by --protocol {protocol}")
    layer = "backbone" if features is None else _valid("features", features, one_of(names.FEATURES))
    from .evaluation import backbones, tasks
    from .evaluation.features import WhichImages

    which = backbones.WhichNetwork(
        arch, weights, None if stem_padding is None else _valid("stem_padding", stem_padding, whole(*STEM_PADDINGS))
    )
    asked = WhichImages(
        dataset=None if eval_dataset is None else _valid("eval_dataset", eval_dataset, one_of(names.DATASETS)),
        data_dir=data_dir,
        download=download,
        image_size=None if image_size is None else _valid("image_size", image_size, IMAGE_SIZE),
        option="--eval-dataset",
    )
    read = {name: value for name, value in chosen.items() if task in readers(name)}
    return tasks.evaluate(task, what, which, asked, layer, **read)


def _valid(name: str, value: Any, rule: Rule) -> Any:
    try:
        return rule.parse(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise ConfigError(f"{flag(name)}: {value} is not {rule.allowed}") from None


def report(result: dict[str, Any]) -> str:
    """A result in a few lines."""
    e = result["encoder"]
    lines = [
        f"{result['task']} of {e['arch']} ({e['kind']}) on {result['dataset']}, {result['test_images']:,} test images"
    ]
    scores = {"acc1": "top-1", "acc1_best": "best over epochs", "acc5": "top-5", "roc_auc": "ROC-AUC"}
    shown = [f"{said} {result[name]:.3f}" for name, said in scores.items() if math.isfinite(result.get(name, math.nan))]
    if "half_interval" in result:
        shown[0] += f" ± {result['half_interval']:.3f}"
    lines.append("  " + "   ".join(shown))
    if "per_class" in result and len(result["per_class"]) <= 20:
        lines.append("  per class " + " ".join(f"{x:.2f}" for x in result["per_class"]))
    return "\n".join([*lines, f"  {result['settings']}", f"  {result['features']}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
