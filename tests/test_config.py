"""Options: what is wrong is refused in one line, what is open is resolved, what is not read is left out."""

import dataclasses

import pytest

from emsiam.config import Config, ConfigError, load_images, parse, preset, resolve
from emsiam.data.sets import DATASETS, HANDWRITTEN
from emsiam.eta import SOLVERS
from emsiam.methods import METHODS
from emsiam.recipes import LIMITS, PAPER, Recipe
from emsiam.training.resume import resumed, same_arguments


def resolved(*flags):
    return resolve(parse([*map(str, flags), "--device", "cpu"])[0], 1437, (1, 8, 8))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--k 0", "--k 0: allowed is a whole number from 1 to 1000000, or epoch"),
        ("--k -3", "--k -3: allowed is a whole number from 1 to 1000000, or epoch"),
        ("--k 2.5", "--k 2.5: allowed is a whole number from 1 to 1000000, or epoch"),
        ("--m 1.5", "--m 1.5: allowed is a number ≥ 0 and ≤ 1"),
        ("--m -0.1", "--m -0.1: allowed is a number ≥ 0 and ≤ 1"),
        ("--m nan", "--m nan: allowed is a number ≥ 0 and ≤ 1"),
        ("--n 0", "--n 0: allowed is a whole number from 1"),
        ("--lr 0", "--lr 0: allowed is a number > 0 and ≤ 1e+06"),
        ("--lr inf", "--lr inf: allowed is a number > 0 and ≤ 1e+06"),
        ("--epochs 0", "--epochs 0: allowed is a whole number from 1"),
        ("--pred-dim 0", "--pred-dim 0: allowed is a whole number from 1 to 65536"),
        (
            "--mode onestp",
            "--mode onestp: allowed is onestep, multistep, ema_eta, expectation, byol, simclr, moco, swav",
        ),
        ("--dataset digit", "--dataset digit: allowed is digits, shapes, mnist5k, mnist, "),
        (
            "--preset simsiam-cifar",
            "--preset simsiam-cifar: allowed is simsiam-cifar10, simsiam-imagenet (did you mean simsiam-cifar10?)",
        ),
        (
            "--augment blurr=1",
            "--augment blurr=1: allowed is scale, ratio, degrees, flip",
        ),
        ("--augment blur=2", "--augment blur=2: allowed is a number from 0 to 1"),
        ("--augment scale=0.5", "--augment scale=0.5: allowed is LOW:HIGH, both from 0.001 to 1"),
        ("--augment scale=0.9:0.5", "--augment scale=0.9:0.5: allowed is"),
        ("--augment redraw=1.5", "--augment redraw=1.5: allowed is a whole number from 0 to 1000000"),
        ("--augment noise=nan", "--augment noise=nan: allowed is"),
        ("--augment blur", "--augment blur: allowed is"),
        ("--foo 1", "--foo: no such option"),
        ("--lrr 1", "--lrr: no such option (did you mean --lr?)"),
        ("--k", "--k: expected one argument"),
    ],
)
def test_wrong_values(flags, message):
    with pytest.raises(ConfigError) as error:
        parse(flags.split())
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--batch-size 1438", "--batch-size 1438: allowed is 2 to 1437, the training images of digits"),
        ("--batch-size 1", "--batch-size 1: allowed is 2 to 1437"),
        ("--knn-k 1438", "--knn-k 1438: allowed is at most 1437"),
        ("--epochs 5 --warmup-epochs 6", "--warmup-epochs 6: allowed is at most --epochs 5"),
        ("--mode ema_eta --no-stop-grad", "--no-stop-grad with --mode ema_eta: a gradient passes only through"),
        ("--mode multistep --no-stop-grad", "--no-stop-grad with --mode multistep"),
        ("--mode simclr --k 3", "--mode simclr --k 3: this mode has no stop-gradient, and"),
        ("--mode vicreg --eta moving_average", "--mode vicreg --eta moving_average: this mode has no stop-gradient"),
        ("--eta expectation --no-stop-grad", "--no-stop-grad with --mode onestep --eta expectation: a gradient"),
        ("--predictor none --no-fix-pred-lr", "--no-fix-pred-lr: --predictor none is not trained"),
        ("--bn none --output-affine", "--output-affine: --bn none has no BN on the projector's output"),
        ("--predictor none --bn all", "--bn all: --predictor none has no output BN"),
        ("--stem cifar", "--stem cifar: --arch tiny has no stem to choose"),
        ("--eta movin_average", "--eta movin_average: allowed is"),
        ("--eta nowhere.py:f", "--eta nowhere.py:f: there is no file nowhere.py"),
    ],
)
def test_options_that_do_not_go_together(flags, message):
    with pytest.raises(ConfigError) as error:
        resolved(*flags.split())
    assert str(error.value).startswith(message)


def test_a_device_that_is_not_there():
    import torch

    if torch.cuda.is_available():
        assert resolve(Config(device="cuda"), 1437, (1, 8, 8))[0].device == "cuda"
    else:
        with pytest.raises(ConfigError, match="--device cuda: this machine has no CUDA"):
            resolve(Config(device="cuda"), 1437, (1, 8, 8))


@pytest.mark.parametrize(
    ("flags", "left_out"),
    [("--mode onestep --k 10", "k"), ("--mode multistep --m 0.5", "m"), ("--mode ema_eta --n 3", "n")],
)
def test_another_mode_s_hyperparameter_is_named_and_left_out(flags, left_out):
    config, notes = resolved(*flags.split())
    assert left_out not in config.to_dict()
    (note,) = notes
    assert flags.split()[2] in note


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--mode onestep", {"predictor": "mlp", "fix_pred_lr": True, "pred_dim": 32}),
        ("--mode multistep", {"k": 10, "predictor": "mlp"}),
        ("--mode multistep --k epoch", {"k": 11}),
        ("--mode multistep --k epoch --batch-size 64", {"k": 22}),
        ("--mode ema_eta", {"k": 1, "m": 0.8, "predictor": "none"}),
        ("--mode ema_eta --k 10", {"k": 10}),
        ("--mode expectation", {"k": 1, "n": 4, "predictor": "mlp"}),
        ("--mode onestep --eta expectation --n 2", {"n": 2, "predictor": "mlp"}),
        ("--arch resnet18", {"stem": "cifar"}),
    ],
)
def test_open_choices_are_made(flags, expected):
    config, notes = resolved(*flags.split())
    assert notes == []
    assert config.to_dict().items() >= expected.items()
    assert config.device == "cpu"
    assert config.precision in ("fp32", "bf16")


def test_resolving_again_changes_nothing():
    for mode in METHODS:
        config, _ = resolved("--mode", mode)
        assert resolve(Config(**config.to_dict()), 1437, (1, 8, 8)) == (config, [])


def test_the_command_line_has_every_option():
    for f in dataclasses.fields(Config):
        flag = "--" + f.name.replace("_", "-")
        assert f.metadata["help"]
        if f.metadata["rule"].allowed == "true or false":
            assert getattr(parse([flag])[0], f.name) is True
    assert parse(["--no-stop-grad"])[0].stop_grad is False


def test_python_and_the_command_line_agree():
    assert parse(["--m", "0.5", "--k", "3", "--mode", "ema_eta"])[0] == Config(mode="ema_eta", m=0.5, k=3)
    with pytest.raises(ConfigError, match=r"--k 2\.5"):
        Config(k=2.5)
    with pytest.raises(ConfigError, match="--stop-grad no"):
        Config(stop_grad="no")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 1


def test_the_cifar_preset_is_the_paper_s():
    """Settings of paper: Appendix D, and §4 for what it does not say."""
    config, notes = resolve(preset(Config(preset="simsiam-cifar10", device="cpu")), 50_000, (3, 32, 32))
    paper = {
        "dataset": "cifar10",
        "arch": "resnet18",
        "stem": "cifar",
        "proj_layers": 2,
        "dim": 2048,
        "hidden_dim": 2048,
        "pred_dim": 512,
        "lr": 0.03,
        "wd": 5e-4,
        "momentum": 0.9,
        "batch_size": 512,
        "epochs": 800,
        "schedule": "cosine",
        "warmup_epochs": 0,
        "similarity": "cosine",
        "symmetry": "sym",
        "bn": "default",
    }
    assert config.to_dict().items() >= paper.items()
    assert notes == []


def test_the_imagenet_preset_is_the_paper_s():
    """Settings of paper: §4 "Baseline settings", and Table 1's constant lr of h, used from §4.3 on."""
    config, notes = resolve(preset(Config(preset="simsiam-imagenet", device="cpu")), 1_281_167, (3, 224, 224))
    paper = {
        "dataset": "folder",
        "image_size": 224,
        "arch": "resnet50",
        "stem": "imagenet",
        "proj_layers": 3,
        "dim": 2048,
        "hidden_dim": 2048,
        "pred_dim": 512,
        "predictor": "mlp",
        "fix_pred_lr": True,
        "output_affine": True,
        "lr": 0.05,
        "wd": 1e-4,
        "momentum": 0.9,
        "batch_size": 512,
        "epochs": 100,
        "schedule": "cosine",
        "warmup_epochs": 0,
        "similarity": "cosine",
        "symmetry": "sym",
        "bn": "default",
    }
    assert config.to_dict().items() >= paper.items()
    assert notes == []
    t = {"scale": (0.2, 1), "ratio": (3 / 4, 4 / 3), "flip": 0.5, "jitter": 0.8, "shuffle": True, "brightness": 0.4}
    t |= {"contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grayscale": 0.2, "blur": 0.5, "sigma": (0.1, 2)}
    assert Recipe(**t) == PAPER  # what `folder` uses above 32×32
    other = preset(Config(preset="simsiam-imagenet", epochs=200, batch_size=256, arch="resnet18"))
    assert (other.epochs, other.batch_size, other.arch, other.lr) == (200, 256, "resnet18", 0.05)


def test_flags_override_the_preset_s_network():
    config, _ = resolve(preset(Config(preset="simsiam-imagenet", arch="vit_b_16")), 10_000, (3, 224, 224))
    assert (config.arch, config.stem) == ("vit_b_16", None)


def test_knn_compares_with_labelled_images_only():
    with pytest.raises(ConfigError, match="--knn-k 600: allowed is at most 500, what kNN compares with"):
        resolve(preset(Config(knn_k=600)), 1437, (1, 8, 8), num_labelled=500)


def test_what_a_data_set_cannot_do_is_refused_and_what_it_does_not_read_is_noted():
    with pytest.raises(ConfigError, match="--augment redraw=5: only generated images"):
        load_images(Config(augment="redraw=5"))
    config, _, notes = load_images(Config(augment="hue=0.1", num_images=3000, workers=2, download=True))
    assert notes == [
        *(f"--{given} is not used by --dataset digits" for given in ("download", "num-images 3000", "workers 2")),
        "--augment hue=0.1 is not used by grey images",
    ]
    assert (config.num_images, config.workers, config.download) == (None, None, False)


def test_defaults_give_way_in_order():
    """Defaults < the data set's < the preset's < flags."""
    assert preset(Config()).epochs == 120
    assert preset(Config(dataset="mnist")).epochs == 10
    assert preset(Config(dataset="mnist")).lr == 0.1
    assert preset(Config(preset="simsiam-cifar10")).epochs == 800
    assert preset(Config(preset="simsiam-cifar10", epochs=3, dataset="cifar100")).epochs == 3
    assert preset(Config(preset="simsiam-cifar10", epochs=3, dataset="cifar100")).dataset == "cifar100"


def test_strengths_of_T_are_written_one_by_one():
    written = parse(["--augment", "blur=0,scale=0.3:1,shuffle=1"])[0]
    assert written.augment == {"blur": 0.0, "scale": [0.3, 1.0], "shuffle": True}
    assert written == Config(augment=written.augment) == Config(augment={"blur": 0, "scale": (0.3, 1), "shuffle": True})
    assert set(LIMITS) == set(Recipe._fields)
    for recipe in (PAPER, HANDWRITTEN):
        assert Config(augment=recipe._asdict()).augment.keys() == recipe._asdict().keys()


def test_names_are_rows_of_plain_tables():
    assert all(method.solve in SOLVERS.values() for method in METHODS.values())
    assert set(DATASETS) >= {  # users rely on these
        *("digits", "shapes", "mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar100", "stl10", "folder", "given")
    }


def test_a_short_training_of_many_images_is_looked_at_in_every_epoch():
    for epochs in (1, 2):
        assert resolve(preset(Config(epochs=epochs, batch_size=8)), 60_000, (1, 28, 28))[0].diagnose_every == 1


def test_a_queue_that_was_asked_for_is_that_long():
    assert resolve(preset(Config(mode="moco")), 1437, (1, 8, 8))[0].queue == 256
    assert resolve(preset(Config(mode="moco", queue=65536)), 1437, (1, 8, 8))[0].queue == 65536


def test_leaving_out_labels_is_for_folders():
    config, data, notes = load_images(Config(labels=False))
    assert notes == ["--no-labels is not used by --dataset digits"]
    assert config.labels is None
    assert data.num_classes == 10


def test_arguments_of_a_run_that_goes_on_are_the_same_however_they_are_written():
    saved = Config(eta="mixed", eta_args={"part": 0.25})
    assert same_arguments(Config(eta_args="part=2.5e-1"), saved)
    assert not same_arguments(Config(eta_args="part=0.5"), saved)
    with pytest.raises(ConfigError, match=r"^--overwrite: a run begins anew, and with --resume it goes on"):
        resumed(Config(resume=True, overwrite=True, out="anywhere"), None)
