"""The doctor's page in a real browser, from a file, without a network; and its pictures."""

import re

import numpy as np
import pytest
import torch

import emsiam
from emsiam import diagnose
from emsiam.doctor import pictures

pytestmark = pytest.mark.usefixtures("no_pictures")
SMALL = {"epochs": 2, "batch_size": 200, "dim": 32, "hidden_dim": 32, "threads": 1, "quiet": True}


@pytest.fixture(scope="module")
def file(tmp_path_factory, no_pictures):
    folder = tmp_path_factory.mktemp("page")
    run = emsiam.fit(emsiam.Config(**SMALL, out=str(folder / "run")))
    assert diagnose.main([str(run.path), "--html", str(folder / "page.html")]) == 11
    return folder / "page.html"


def test_a_browser_shows_it_without_an_error(browser, file):
    browser.get_log("browser")
    browser.get(file.as_uri())
    assert browser.find_element("css selector", "h1").text == "too early to say"
    assert "after 14 steps" in browser.find_element("css selector", "p").text
    sizes = browser.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth])")
    assert sizes == [[True, pictures.SIDE]] * pictures.QUERIES * (1 + pictures.NEIGHBOURS)
    shown = browser.execute_script(
        "const b = document.querySelector('svg').getBoundingClientRect(); return [b.width, b.height]"
    )
    assert min(shown) > 200
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.get_log("browser") == []


def test_it_stands_alone_and_nothing_in_it_runs(file):
    text = file.read_text()
    assert "<script" not in text
    links = re.findall(r'(?:src|href|xlink:href)="([^"]{1,60})', text)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert "url(http" not in text


def test_what_a_name_holds_is_text_and_not_html(tmp_path):
    z = torch.randn(2, 300, 16)
    np.savez(tmp_path / "<b>a.npz", z=z.numpy())
    found = emsiam.examine(tmp_path / "<b>a.npz")
    assert "<b>a" not in found.html()
    assert "&lt;b&gt;a.npz" in found.html()
    assert "&lt;b&gt;a.npz" in found._repr_html_()


def test_neighbours_are_the_nearest():
    z = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    near = pictures.neighbours(torch.stack([z, z]))
    x = z.double() / z.double().norm(dim=1, keepdim=True)
    x = x - x.mean(0)
    x = x / x.norm(dim=1, keepdim=True)
    for query, *others in near.tolist():
        order = (x @ x[query]).argsort(descending=True).tolist()
        assert others == [i for i in order if i != query][: pictures.NEIGHBOURS]


@pytest.mark.parametrize("shape", [(2, 300, 16), (300, 16), (40, 1), (2, 3, 5)])
def test_any_array_has_a_page_and_a_picture(shape):
    found = emsiam.examine(torch.randn(shape))
    assert "<h1>" in found.html()
    assert len(found.plot().axes) == 2


def test_a_constant_and_a_nan_have_pages_too():
    for z in (torch.ones(2, 50, 8), torch.full((2, 50, 8), torch.nan)):
        assert "<h1>" in emsiam.examine(z).html()
