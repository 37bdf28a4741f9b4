"""python benchmarks/folders.py [--images N]: how fast are the views of an ImageNet-shaped folder made?

Two views of 224×224 by the paper's T, batches of 64, interleaved, medians over three stretches:

    emsiam          data.sets.folder and data.batches.batches
    torchvision v1  the transforms of SimSiam's published script, blurred with Pillow; a DataLoader
    torchvision v2  the same of v2, on Pillow's images; they become tensors last. Its own blur is slower
    lightly         its SimSiamTransform, and a DataLoader
    no T            what emsiam's host does where T runs on a GPU: files are read, decoded and cropped

The DataLoaders have w processes beside the main one; emsiam has w threads, and T on the main one. So CPU seconds per
image, over all processes, are the fairer number on few cores. The images are generated: noise of many scales, with
the size of ImageNet's files. With --images nothing is written. Linux only. Needs `pip install lightly`.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import _report
import numpy as np
import torch
from lightly.transforms import SimSiamTransform
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from emsiam import data
from emsiam.data import batches, folders, views
from emsiam.recipes import PAPER
from emsiam.training.summary import peak_rss_mb

IMAGES, IMAGENET, CLASSES = 20_000, 1_281_167, 20
SIDE, WORKERS, REPEATS = 224, (1, 2), 3
HEIGHT, WIDTH, BASES = 375, 500, 8
MEAN, STD = data.sets.IMAGENET.tolist()
JITTER = PAPER.brightness, PAPER.contrast, PAPER.saturation, PAPER.hue


def field(rng, slope):
    """Noise [2·HEIGHT, 2·WIDTH] whose amplitude falls as frequency**slope; 1 is near that of photographs."""
    height, width = 2 * HEIGHT, 2 * WIDTH
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) / frequency**slope, s=(height, width))
    return noise / noise.std()


def generate(root, images, part):
    """Every second image: a part of one of a few large ones, resized."""
    rng = np.random.default_rng(part)
    bases = []
    for _ in range(BASES):
        common = field(rng, 1.1)
        pixels = np.stack([common + 0.5 * field(rng, 1.6) for _ in range(3)], 2)
        bases.append(Image.fromarray((128 + 55 * pixels).clip(0, 255).astype(np.uint8)))
    for i in range(part, images, 2):
        base, zoom = bases[rng.integers(BASES)], rng.uniform(0.5, 1)
        height, width = int(base.height * zoom), int(base.width * zoom)
        x, y = (int(rng.integers(free + 1)) for free in (base.width - width, base.height - height))
        box = (x, y, x + width, y + height)
        photo = base.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box)
        photo.save(root / "train" / f"{i % CLASSES:02}" / f"{i:06}.jpg", quality=int(rng.integers(90, 96)))


def write_folder(root, images):
    for i in range(CLASSES):
        (root / "train" / f"{i:02}").mkdir(parents=True)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(generate, root, images), range(2)))
    files = list(root.glob("train/*/*.jpg"))
    return len(files), statistics.mean(file.stat().st_size for file in files)


class Blur:
    """The blur of SimSiam's published script."""

    def __call__(self, image):
        sigma = np.random.uniform(*PAPER.sigma)
        return image.filter(ImageFilter.GaussianBlur(radius=sigma))


class TwoViews:
    def __init__(self, *steps):
        self.view = v1.Compose(steps)

    def __call__(self, image):
        return self.view(image), self.view(image)


def recipe(kind, end, blur=None):
    """The paper's T with v1 or v2."""
    return TwoViews(
        kind.RandomResizedCrop(SIDE, PAPER.scale, PAPER.ratio),
        kind.RandomApply([kind.ColorJitter(*JITTER)], PAPER.jitter),
        kind.RandomGrayscale(PAPER.grayscale),
        kind.RandomApply([blur or Blur()], PAPER.blur),
        kind.RandomHorizontalFlip(PAPER.flip),
        *end,
        kind.Normalize(MEAN, STD),
    )


FLOATS = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
# others' T, on an image of Pillow
OTHERS = {
    "torchvision v1": recipe(v1, [v1.ToTensor()]),
    "torchvision v2": recipe(v2, FLOATS),
    "lightly": SimSiamTransform(input_size=SIDE),
}


def loader(root, transform, workers, batch):
    """Batches without end, so that no stretch has the pause between two epochs."""
    files = ImageFolder(root / "train", transform)
    sampler = RandomSampler(files, replacement=True, num_samples=10**9)
    return iter(DataLoader(files, batch, sampler=sampler, num_workers=workers))


def emsiam(images, batch):
    return batches.batches(images, seed=0, batch_size=batch, start=0, stop=10**9, symmetry="sym", dtype=torch.float32)


def without_t(images, batch):
    """Crops alone, read ahead as `batches` does."""
    rng = torch.Generator().manual_seed(0)
    asked = []
    while True:
        ids = torch.randperm(len(images.images), generator=rng)[:batch]
        asked.append((images.images.ask(ids, images.sample(ids, 2, rng), 2), ids))
        if len(asked) > batches.AHEAD:
            answer, ids = asked.pop(0)
            yield answer(ids, views.Draw())


def cpu():
    """CPU seconds so far of this process and those that it has started and not ended."""
    seconds = time.process_time()
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def settle():
    """Until what is read ahead has been read, so that it is not counted in what comes next."""
    before = -1.0
    while (now := cpu()) - before > 0.05:
        before = now
        time.sleep(0.5)


def interleave(streams, warm, steps, batch):
    """{name: (median images a second, median CPU seconds an image)}. A stretch begins with idle processes, and with as
    many untimed batches as queues hold, and one.
    """
    seen = {name: [] for name in streams}
    for _ in range(REPEATS):
        for name, stream in streams.items():
            settle()
            for _ in range(warm):
                next(stream)
            began, used = time.perf_counter(), cpu()
            for _ in range(steps):
                next(stream)
            seen[name].append((steps * batch / (time.perf_counter() - began), (cpu() - used) / (steps * batch)))
    return {name: tuple(map(statistics.median, zip(*numbers, strict=True))) for name, numbers in seen.items()}


def speed(root, workers, steps, batch):
    images = data.sets.folder(data_dir=str(root), image_size=SIDE, workers=workers)
    streams = {"emsiam": emsiam(images, batch)} | {n: loader(root, t, workers, batch) for n, t in OTHERS.items()}
    streams["no T"] = without_t(images, batch)
    numbers = interleave(streams, 2 * workers + 2, steps, batch)
    others = {name: numbers[name] for name in OTHERS}
    fastest, cheapest = max(speed for speed, _ in others.values()), min(used for _, used in others.values())
    lines = [
        f"| {name} | {speed:.1f} | {1e3 * used:.1f} | {speed / fastest:.2f} | {cheapest / used:.2f} |"
        for name, (speed, used) in numbers.items()
    ]
    head = "| | images/s | CPU ms per image | × the fastest other | × the cheapest other |\n|---|---|---|---|---|\n"
    return f"**w = {workers}**\n\n{head}" + "\n".join(lines) + "\n"


def timed(f):
    """CPU milliseconds of f, the median of three after one."""
    times = []
    for _ in range(4):
        began = time.process_time()
        f()
        times.append(1e3 * (time.process_time() - began))
    return statistics.median(times[1:])


def parts(root, batch):
    """What an image costs by part: CPU ms, from the code that each part is."""
    images = data.sets.folder(data_dir=str(root), image_size=SIDE, workers=1)
    rng = torch.Generator().manual_seed(0)
    ids = torch.arange(batch)
    draw = images.sample(ids, 2, rng)
    boxes = draw.box.view(2, batch, 4).transpose(0, 1).tolist()
    paths = images.images.paths[:batch]

    def decode():
        for path in paths:
            with folders.decoded(path):
                pass

    def crops():
        return torch.stack([folders._crops(p, b, SIDE, 0.0) for p, b in zip(paths, boxes, strict=True)])

    pixels, rest = crops().transpose(0, 1).flatten(0, 1), draw._replace(box=None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a thread that waits for another one counts as busy
    decoded, both = timed(decode), timed(crops)
    t = timed(lambda: images.normalise(views.apply(pixels, rest)))
    torch.set_num_threads(threads)
    spent = {"decode": decoded, "crop and resize": both - decoded, "T and normalise": t}
    told = ", ".join(f"{name} {ms / batch:.1f} ms ({ms / (both + t):.0%})" for name, ms in spent.items())
    return f"An image by part, CPU time on one thread: {told}."


def index(root):
    paths = [str(path) for path in root.glob("train/*/*.jpg")]
    began = time.perf_counter()
    folders.sizes(paths, folders.Broken())
    seconds = time.perf_counter() - began
    whole = seconds / len(paths) * IMAGENET
    return f"Headers of {len(paths):,} files: {seconds:.1f} s; of {IMAGENET:,} as many times longer: {whole:.0f} s."


def memory(root, part, epochs, batch):
    """In a process of its own: the peak after an epoch of a part, and after more."""
    images = data.sets.folder(data_dir=str(root), image_size=SIDE, workers=2)
    kept = folders.Files(images.images.paths[:part], images.images.tall[:part], SIDE, 2)
    stream, peaks = emsiam(images._replace(images=kept), batch), [peak_rss_mb()]
    for n in (1, epochs - 1):
        for _ in range(n * (part // batch)):
            next(stream)
        peaks.append(peak_rss_mb())
    start, first, last = peaks
    print(
        f"Peak memory, MiB: {start:.0f} before the first batch, {first:.0f} after an epoch of {part} images, "
        f"{last:.0f} after {epochs} epochs."
    )


def apart(root, given):
    sizes = [f"--{name}={getattr(given, name)}" for name in ("part", "epochs", "batch")]
    command = [sys.executable, __file__, f"--memory-of={root}", *sizes]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main(given):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        began = time.perf_counter()
        count, size = write_folder(root, given.images)
        seconds = time.perf_counter() - began
        made = f"{count:,} JPEGs of {WIDTH}×{HEIGHT}, {size / 1e3:.0f} kB each on average, made in {seconds:.0f} s; "
        made += f"their pages are in memory. {os.cpu_count()} cores."
        flat = apart(root, given)
        tables = [speed(root, workers, given.steps, given.batch) for workers in WORKERS]
        return "\n\n".join([made, *tables, f"{parts(root, given.batch)} {index(root)} {flat}"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=IMAGES, help="with fewer, nothing is written")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8, help="batches of a stretch")
    parser.add_argument("--part", type=int, default=500, help="images whose epochs show that memory is flat")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        memory(given.memory_of, given.part, given.epochs, given.batch)
    else:
        full = given == parser.parse_args([])
        text = main(given)
        _report.write("python benchmarks/folders.py", text) if full else print(text)
