"""comparison.html in a real browser, from a file, without a network."""

import base64
import json
import shutil

import numpy as np
import pytest
from _warm import LONG

import emsiam
from emsiam import compare, plots
from emsiam.comparison import page
from emsiam.data import contact

pytestmark = pytest.mark.usefixtures("no_pictures")

SMALL = {"epochs": 2, "batch_size": 200, "dim": 16, "hidden_dim": 16, "log_every": 3, "threads": 1, "quiet": True}
STATE = """
return {stop: state.stop, step: document.getElementById('step').textContent, playing: !!state.playing, by: state.by,
    yaw: state.yaw, hidden: DATA.runs.filter(r => r.hidden).map(r => r.name), image: state.image,
    marks: DATA.panels.filter(p => !p.moving).map(p => p.place.data.filter(t => t.mode === 'markers').map(t => t.x[0])),
    spectra: DATA.panels.find(p => p.moving).place.data.map(t => t.y[0])};
"""
PICTURE = "return document.querySelectorAll('#clouds canvas')[arguments[0]].toDataURL()"


@pytest.fixture(scope="module")
def folder(once, few_files):
    """Five runs and their comparison: three ways, one of them on other images, one of another width and length."""
    ways = [{}, {"seed": 1}, {"mode": "multistep", "k": 3}, {"predictor": "none", "dim": 24, "epochs": 3}, few_files]

    def make(folder):
        runs = [str(folder / f"run{i}") for i in range(len(ways))]
        for out, way in zip(runs, ways, strict=True):
            emsiam.fit(emsiam.Config(**SMALL | way, out=out))
        assert compare.main([*runs, "--out", str(folder)]) == 0

    return once("page", make)


@pytest.fixture(scope="module")
def runs(folder):
    return [emsiam.load_run(folder / f"run{i}") for i in range(5)]


@pytest.fixture(scope="module")
def file(folder):
    return folder / "comparison.html"


@pytest.fixture
def opened(browser, file):
    """The page as it opens, at a laptop's size."""
    return at_size(browser, file, 1280, 720)


def at_size(browser, file, width, height, scheme="light"):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(file.as_uri())
    once(browser, lambda s: all(s["marks"]) and s["spectra"])
    return browser


def once(browser, as_asked):
    """STATE, as soon as as_asked(STATE): the page draws when it comes to it."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, LONG).until(lambda b: as_asked(b.execute_script(STATE)))
    return browser.execute_script(STATE)


def drawn(browser, i, other_than):
    """The picture of a cloud, as soon as it is another one."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, LONG).until(lambda b: b.execute_script(PICTURE, i) != other_than)
    return browser.execute_script(PICTURE, i)


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def drag(browser, element, start, end):
    """The mouse from one share of an element's width to another."""
    from selenium.webdriver.common.action_chains import ActionChains

    wide = element.rect["width"] - 16
    pointer = ActionChains(browser).move_to_element_with_offset(element, (start - 0.5) * wide, 0).click_and_hold()
    pointer.move_to_element_with_offset(element, (end - 0.5) * wide, 0).release().perform()


def test_it_is_drawn_offline_and_without_an_error(opened, file):
    assert file.stat().st_size < 15 * 2**20
    asked = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [a["params"]["request"]["url"] for a in asked if a["method"] == "Network.requestWillBeSent"]
    assert urls
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls), urls
    assert [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_it_opens_at_the_end_with_groups_and_verdicts_in_words(opened, runs, folder):
    compared = json.loads((folder / "comparison.json").read_text())
    state = opened.execute_script(STATE)
    assert state["step"] == "step 21"
    assert state["marks"][0] == [run.summary["steps"] for run in runs]
    assert opened.find_element("css selector", "h1").text == "5 runs in 4 groups"
    said = [card.text for card in opened.find_elements("css selector", ".run .verdict")]
    assert said == [run.summary["verdict"] for run in runs]
    groups = {name: group["name"] for group in compared["groups"] for name in group["runs"]}
    cards = [card.text.splitlines()[:2] for card in opened.find_elements("css selector", ".run")]
    assert cards == [[f"run{i}", groups[f"run{i}"]] for i in range(5)]
    opened.find_element("css selector", "summary").click()
    reasons = [item.text for item in opened.find_elements("css selector", "details li")]
    assert [run.summary["reason"] in text for run, text in zip(runs, reasons, strict=True)] == [True] * 5


def test_the_mouse_moves_the_step_of_clouds_spectra_and_marks(opened):
    before, cloud = opened.execute_script(STATE), opened.execute_script(PICTURE, 0)
    drag(opened, opened.find_element("id", "slider"), 1.0, 0.0)
    state = once(opened, lambda s: s["step"] == "step 0")
    assert all(mark == [0] * 5 for mark in state["marks"])
    assert all(a != b for a, b in zip(state["spectra"], before["spectra"], strict=True))
    assert drawn(opened, 0, cloud) != cloud


def test_keys_move_the_step_and_space_plays(opened, runs):
    from selenium.webdriver.common.keys import Keys

    last = opened.execute_script(STATE)["stop"]
    press(opened, Keys.ARROW_LEFT)
    once(opened, lambda s: s["stop"] == last - 1)
    press(opened, Keys.HOME)
    once(opened, lambda s: s["stop"] == 0)
    press(opened, Keys.ARROW_RIGHT)
    once(opened, lambda s: s["stop"] == 1)
    opened.execute_script("document.querySelector('summary').focus()")
    press(opened, Keys.SPACE)  # opens what is focused, and does not play
    assert opened.execute_script("return document.querySelector('details').open")
    assert not opened.execute_script(STATE)["playing"]
    opened.execute_script("document.activeElement.blur()")
    press(opened, Keys.SPACE)
    assert opened.execute_script(STATE)["playing"]
    state = once(opened, lambda s: s["stop"] == last)
    once(opened, lambda s: not s["playing"])
    assert state["marks"][0] == [run.summary["steps"] for run in runs]
    opened.execute_script("const play = document.getElementById('play'); play.click(); play.click()")
    paused = once(opened, lambda s: not s["playing"])
    assert paused["stop"] == 0  # it began anew, and was stopped at once


def test_a_cloud_is_turned_by_the_mouse_and_all_with_it(opened):
    before, clouds = opened.execute_script(STATE), [opened.execute_script(PICTURE, i) for i in range(5)]
    drag(opened, opened.find_element("css selector", ".run canvas"), 0.3, 0.7)
    once(opened, lambda s: abs(s["yaw"] - before["yaw"]) > 0.2)
    assert all(drawn(opened, i, cloud) != cloud for i, cloud in enumerate(clouds))


def test_the_image_under_the_pointer_is_shown_here_and_in_runs_with_the_same_images(opened, runs):
    from selenium.webdriver.common.action_chains import ActionChains

    others = [opened.execute_script(PICTURE, i) for i in (1, 4)]
    canvas = opened.find_element("css selector", ".run canvas")
    x, y = opened.execute_script("const [x, y] = projected(DATA.runs[0])[7]; return [x, y]")
    wide = canvas.rect["width"]
    ActionChains(opened).move_to_element_with_offset(canvas, x - wide / 2, y - wide / 2).perform()
    state = once(opened, lambda s: s["image"])
    i = state["image"]["i"]
    tip = opened.find_element("id", "tip")
    assert tip.text == f"image {runs[0].probe['ids'][i]}, label {runs[0].probe['labels'][i]}"
    pixels = "document.querySelector('#tip canvas').getContext('2d').getImageData(0, 0, 60, 60).data"
    shown = opened.execute_script(f"return [...{pixels}]")
    assert len(set(shown)) > 2  # a picture, not a blank
    assert drawn(opened, 1, others[0]) != others[0]
    assert opened.execute_script(PICTURE, 4) == others[1]  # other images


def test_dots_are_coloured_by_label_or_by_image(opened):
    from selenium.webdriver.support.ui import Select

    assert [x.text for x in opened.find_elements("css selector", "#labels span")] == [str(n) for n in range(10)]
    cloud = opened.execute_script(PICTURE, 0)
    Select(opened.find_element("id", "by")).select_by_visible_text("image")
    assert drawn(opened, 0, cloud) != cloud
    assert opened.find_elements("css selector", "#labels span") == []
    one, same, *_, other = opened.execute_script("return DATA.shades.image")
    assert one == same  # the same image, the same colour
    assert one != other
    labels = opened.execute_script("return DATA.shades.label[0]")
    assert len(set(labels)) == 10


def test_a_click_on_a_name_hides_a_run(opened):
    opened.find_elements("css selector", ".run button")[1].click()
    state = once(opened, lambda s: s["hidden"])
    assert state["hidden"] == ["run1"]
    shown = opened.execute_script("return DATA.panels[0].place.data.filter(t => t.visible).map(t => t.name)")
    assert "run1" not in shown
    assert "run0" in shown
    seen = "return [...document.querySelectorAll('.run canvas')].map((x) => getComputedStyle(x).visibility)"
    assert opened.execute_script(seen) == ["visible", "hidden", *["visible"] * 3]
    opened.find_elements("css selector", ".run button")[1].click()
    once(opened, lambda s: not s["hidden"])
    assert set(opened.execute_script(seen)) == {"visible"}


AXES = "return DATA.panels.map((p) => [p.place._fullLayout.xaxis.range, p.place._fullLayout.yaxis.range])"
DOTS = """
go(arguments[0]);
return DATA.panels.filter((p) => !p.moving).map((p) =>
    p.place.data.filter((t) => t.mode === 'markers').map((t) => [t.x[0], t.y[0]]));
"""


def test_axes_stay_while_the_marks_move(opened):
    lines = opened.execute_script("return DATA.panels.map((p) => p.lines)")
    axes = opened.execute_script(AXES)
    for panel, (x, y), zero in zip(lines, axes, (True, True, False, False, False), strict=True):
        steps, values = (np.concatenate([line[n] for line in panel]) for n in "xy")
        assert x[0] < steps.min()
        assert steps.max() < x[1]
        assert panel is lines[-1] or (y[0] == 0 if zero else y[0] < values.min())
        assert panel is lines[-1] or values.max() < y[1]
    for stop in (0, 1, 7):
        opened.execute_script(DOTS, stop)
        assert opened.execute_script(AXES) == axes


def test_a_mark_is_on_its_curve_at_the_step(opened):
    """Also between two lines of metrics.jsonl; at the end of a run that is shorter."""
    steps = opened.execute_script("return DATA.steps")
    lines = opened.execute_script("return DATA.panels.filter((p) => !p.moving).map((p) => p.lines)")
    for stop in (0, 1, 4, len(steps) - 1):
        for panel, marks in zip(lines, opened.execute_script(DOTS, stop), strict=True):
            for line, (x, y) in zip(panel, marks, strict=True):
                assert x == min(max(steps[stop], line["x"][0]), line["x"][-1])
                assert y == pytest.approx(np.interp(steps[stop], line["x"], line["y"]))
    assert steps[1] == 1  # where no line is written, every 3 steps


@pytest.mark.parametrize("size", [(1280, 720), (800, 700), (844, 390)])
def test_six_clouds_with_long_names_are_large_and_side_by_side(browser, runs, tmp_path, size):
    paths = [tmp_path / name for name in ("i", "e", "digits-onestep-20261127-143201", "no predictor", "s", "m")]
    for i, path in enumerate(paths):
        shutil.copytree(runs[i % 3].path, path)
    loaded = [emsiam.load_run(path) for path in paths]
    (tmp_path / "page.html").write_text(page.page(loaded, compare.compare(loaded)))
    at_size(browser, tmp_path / "page.html", *size)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.run canvas')].map((x) => x.getBoundingClientRect())"
    )
    assert min(box["width"] for box in boxes) >= 210
    assert [box["top"] for box in boxes] == [boxes[0]["top"]] * 3 + [boxes[3]["top"]] * 3
    assert boxes[2]["right"] - boxes[0]["left"] > 0.5 * size[0]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]


def test_no_label_has_the_colour_of_a_run():
    """Nor one that looks like it to somebody who does not see red or green (Machado et al. 2009)."""
    runs = list(plots.palette(map(str, range(8))).values())
    assert len(page.LABELS) == 10
    sees = {
        "all": np.eye(3),
        "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    }
    for matrix in sees.values():
        one, two = (np.array([oklab(matrix, colour) for colour in colours]) for colours in (page.LABELS, runs))
        apart = np.linalg.norm(one[:, None] - np.concatenate([one, two])[None], axis=-1)
        assert apart[apart > 0].min() > 0.06
        assert (apart > 0).sum() == 10 * 17
    assert np.linalg.norm(oklab(np.eye(3), "#000000") - oklab(np.eye(3), "#ffffff")) == pytest.approx(1, abs=1e-3)


def oklab(matrix, colour):
    """Björn Ottosson's, in which black and white are 1 apart, of a colour as an eye sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    axes = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return axes @ np.cbrt(cones @ np.clip(matrix @ light, 0, 1))


@pytest.mark.parametrize("size", [(1280, 720), (1400, 1800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_laptop_a_tall_window_and_a_phone(browser, file, size, scheme):
    at_size(browser, file, *size, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    clouds, curves = (
        browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(x => x.getBoundingClientRect())", x
        )
        for x in (".run canvas", ".panel div.js-plotly-plot")
    )
    assert min(box["width"] for box in clouds) >= (160 if size[0] < 700 else 200)
    if size[0] > 700:  # clouds and curves in view at once, and the window is used
        assert max(box["bottom"] for box in curves) <= size[1]
        assert max(box["bottom"] for box in curves) > 0.75 * size[1]
    ink = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ink == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_cloud_keeps_the_distances_that_three_directions_hold(runs):
    data = page.gathered(runs, compare.compare(runs))
    for run, listed in zip(runs, data["runs"], strict=True):
        packed = np.frombuffer(base64.b64decode(listed["clouds"][listed["of"][-1]]), "<i2")
        shown = packed.reshape(-1, 3) / 32000
        z = run.snapshots()[max(run.snapshots())][: page.IMAGES]
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        assert np.linalg.norm(shown, axis=1).max() <= 1.001
        far, near = (np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(len(x), 1)] for x in (z, shown))
        assert np.corrcoef(far, near)[0, 1] > 0.6


def test_pictures_of_the_probe_set_are_its_images(runs):
    from PIL import Image

    sheet = np.array(Image.open(runs[0].path / "probe.png"))
    digits = emsiam.prepare(runs[0].config).images.images
    for place in (0, 17, 255):
        row, column = divmod(place, 16)
        shown = sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert np.array_equal(shown, digits[runs[0].probe["ids"][place], 0])


@pytest.mark.parametrize("shape", [(3, 40, 100), (1, 8, 8), (5, 10, 10), (3, 200, 200)])
def test_a_sheet_shows_any_image(shape):
    import io

    import torch
    from PIL import Image

    picture = Image.open(io.BytesIO(contact.contact(torch.randint(256, (20, *shape), dtype=torch.uint8))))
    scale = min(1, contact.SIDE / max(shape[1:]))
    assert picture.size == (16 * round(scale * shape[2]), 2 * round(scale * shape[1]))


def test_stops_are_some_of_the_snapshots():
    paths = [dict.fromkeys((0, 1, 5)), dict.fromkeys((0, 2, 9))]
    assert page.stops(paths) == [0, 1, 2, 5, 9]
    many = page.stops([dict.fromkeys(range(1000))])
    assert (len(many), many[0], many[-1]) == (page.STOPS, 0, 999)


def test_names_cannot_write_into_the_page(runs, tmp_path):
    paths = []
    for i, name in enumerate(("<script>alert(1)<", "b&<i>")):
        shutil.copytree(runs[i].path, tmp_path / name)
        paths.append(str(tmp_path / name))
    loaded = [emsiam.load_run(path) for path in paths]
    result = compare.compare(loaded)
    result["runs"][0]["summary"] = result["runs"][0]["summary"] | {"verdict": "<img src=x>"}
    text = page.page(loaded, result)
    assert "<script>alert(1)<" not in text
    assert "<img src=x>" not in text
    assert "b&amp;&lt;i&gt;" in text
    assert "b&<i>" not in text
