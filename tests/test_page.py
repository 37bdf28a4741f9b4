"""comparison.html in a real browser, from a file, without a network."""

import json
import shutil

import numpy as np
import pytest
from _warm import LONG

import emsiam
from emsiam import compare
from emsiam.comparison import page

pytestmark = pytest.mark.usefixtures("no_pictures")

SMALL = {"epochs": 2, "batch_size": 200, "dim": 16, "hidden_dim": 16, "log_every": 3, "threads": 1, "quiet": True}
GRAPH = "document.querySelector('.js-plotly-plot')"
DRAWN = f"const g = {GRAPH}; return !!(g && g.querySelector('.gl-container canvas') && g.calcdata);"
STATE = f"""
const read = x => Array.from(x.bdata ? x._inputArray || [] : x);
return {GRAPH}.data.map(t => ({{name: t.name, type: t.type, mode: t.mode, visible: t.visible, x: read(t.x),
    y: read(t.y), z: t.z ? read(t.z) : null, shade: t.z ? read(t.marker.color) : null}}));
"""


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


@pytest.fixture(scope="module")
def opened(browser, file):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(file.as_uri())
    WebDriverWait(browser, LONG).until(lambda b: b.execute_script(DRAWN))
    return browser


def once_it_is(browser, as_asked):
    """STATE, as soon as as_asked(STATE): the page draws when it comes to it."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, LONG).until(lambda b: as_asked(b.execute_script(STATE)))
    return browser.execute_script(STATE)


def marks(state):
    """{run: the step at which its marks on the curves are}"""
    return {t["name"]: t["x"][0] for t in state if (t["type"], t["mode"]) == ("scatter", "markers")}


def slide(browser, share, runs):
    """Press the mouse on the slider's rail, at its beginning or end: what the label says then, and STATE."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    rail = browser.find_element(By.CSS_SELECTOR, ".slider-rail-touch-rect")
    ActionChains(browser).move_to_element_with_offset(
        rail, (share - 0.5) * (rail.rect["width"] - 12), 0
    ).click().perform()
    there = {run.path.name: run.summary["steps"] * share for run in runs}
    state = once_it_is(browser, lambda state: marks(state) == there)
    return browser.find_element(By.CSS_SELECTOR, ".slider-label").text, state


def test_it_is_drawn_offline_and_without_an_error(opened, file):
    assert file.stat().st_size < 15 * 2**20
    asked = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [a["params"]["request"]["url"] for a in asked if a["method"] == "Network.requestWillBeSent"]
    assert urls
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls), urls
    assert [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_slider_moves_clouds_spectra_and_marks_of_all_runs(opened, runs):
    first, before = slide(opened, 0.0, runs)
    canvas = opened.find_element("css selector", ".gl-container canvas")
    seen = canvas.screenshot_as_png
    last, after = slide(opened, 1.0, runs)
    assert (first, last) == ("step 0", "step 21")
    once_it_is(opened, lambda _: canvas.screenshot_as_png != seen)
    moved = [a["x"] != b["x"] or a["y"] != b["y"] for a, b in zip(before, after, strict=True)]
    kinds = [(t["type"], t["mode"]) for t in before]
    for kind, count in ((("scatter3d", "markers"), 5), (("scatter", "markers"), 5 * 4), (("scatter", None), 5)):
        chosen = [m for m, k in zip(moved, kinds, strict=True) if k == kind]
        assert len(chosen) == count
        assert all(chosen)
    lines = [m for m, k in zip(moved, kinds, strict=True) if k == ("scatter", "lines")]
    assert len(lines) == 5 * 4
    assert not any(lines)
    assert marks(after) == {run.path.name: run.summary["steps"] for run in runs}


def test_a_cloud_keeps_the_distances_that_three_directions_hold(opened, runs):
    clouds = [t for t in slide(opened, 1.0, runs)[1] if t["type"] == "scatter3d"]
    assert [len(c["x"]) for c in clouds] == [page.IMAGES] * 4 + [160]
    for cloud, run in zip(clouds, runs, strict=True):
        shown = np.array([cloud["x"], cloud["y"], cloud["z"]]).T
        z = run.snapshots()[max(run.snapshots())][: page.IMAGES]
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        far, near = (np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(len(x), 1)] for x in (z, shown))
        assert np.corrcoef(far, near)[0, 1] > 0.6


def shade(state):
    return [np.array(t["shade"]) for t in state if t["type"] == "scatter3d"]


def test_dots_are_coloured_by_label_or_by_image(opened, runs):
    from selenium.webdriver.common.by import By

    buttons = opened.find_elements(By.CSS_SELECTOR, ".updatemenu-button")
    assert [b.text for b in buttons] == ["colour by label", "colour by image"]
    labels = pytest.approx(np.array(runs[0].probe["labels"][: page.IMAGES]) / 9)
    shades = {}
    for button in buttons:
        button.click()
        by_label = button.text == "colour by label"
        state = once_it_is(opened, lambda state, by_label=by_label: (shade(state)[0] == labels) == by_label)
        shades[button.text] = shade(state)
    one, same, *_, other = shades["colour by image"]
    assert np.array_equal(one, same)  # the same image, the same colour
    assert not np.array_equal(one, other)  # other images


def test_a_click_in_the_legend_hides_all_of_a_run(opened):
    from selenium.webdriver.common.by import By

    opened.find_elements(By.CSS_SELECTOR, ".legendtoggle")[1].click()
    state = once_it_is(opened, lambda state: any(t["visible"] == "legendonly" for t in state))
    hidden = {t["name"] for t in state if t["visible"] == "legendonly"}
    shown = {t["name"] for t in state if t["visible"] != "legendonly"}
    assert hidden == {"run1"}
    assert "run1" not in shown


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
    assert text.count("<i>") == page.page(runs[:2], compare.compare(runs[:2])).count("<i>")
