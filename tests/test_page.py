"""comparison.html in a real browser, from a file, without a network."""

import base64
import json
import shutil

import numpy as np
import pytest
from _warm import LONG

import emsiam
from emsiam import compare
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


def test_it_opens_at_the_end_with_the_verdicts_in_words(opened, runs):
    state = opened.execute_script(STATE)
    assert state["step"] == "step 21"
    assert state["marks"][0] == [run.summary["steps"] for run in runs]
    said = [card.text for card in opened.find_elements("css selector", ".run .verdict")]
    assert said == [run.summary["verdict"] for run in runs]
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
    assert min(box["width"] for box in clouds) >= 135
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
    text = page.page(loaded, compare.compare(loaded))
    assert "<script>alert(1)<" not in text
    assert "b&amp;&lt;i&gt;" in text
    assert "b&<i>" not in text
