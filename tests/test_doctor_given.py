"""What somebody hands to the doctor: how it is read, and what is refused, in one line that says what to pass."""

import numpy as np
import pandas
import pytest
import torch

from emsiam.doctor.arrays import MOST, embeddings
from emsiam.errors import ConfigError

Z = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (Z, [1, 40, 8]),
        (Z.numpy(), [1, 40, 8]),
        (Z.numpy().astype(">f4"), [1, 40, 8]),
        (Z.bfloat16(), [1, 40, 8]),
        (Z.requires_grad_(), [1, 40, 8]),
        (Z.detach().numpy().tolist(), [1, 40, 8]),
        (torch.stack([Z, Z]), [2, 40, 8]),
        ([Z, Z], [2, 40, 8]),
        ((Z.detach().numpy(), Z.detach().numpy()), [2, 40, 8]),
        (torch.zeros(40, 5, 8), [1, 40, 8]),  # tokens
        (Z.detach().to_sparse(), [1, 40, 8]),
        (torch.arange(12).reshape(6, 2), [1, 6, 2]),
        (np.zeros((40, 4000)), [1, 40, 4000]),  # few images of a wide network
    ],
)
def test_it_is_read(given, shape):
    found = embeddings("z", given)
    assert list(found.x.shape) == shape
    assert found.x.is_floating_point()
    assert not found.x.requires_grad


def test_how_three_axes_are_read_is_said_and_can_be_chosen():
    x = torch.randn(20, 30, 8)
    assert "[20, 30, 8] is read as [N, tokens, d]" in embeddings("z", x).said[0]
    assert torch.allclose(embeddings("z", x).x[0], x.mean(1))
    assert torch.equal(embeddings("z", x, "views").x, x)
    assert "[2, 30, 8] is read as [views, N, d]" in embeddings("z", x[:2]).said[0]
    assert torch.allclose(embeddings("z", x[:2], "tokens").x[0], x[:2].mean(1))
    with pytest.raises(ConfigError, match="layout: is 'image'; allowed is 'views' or 'tokens'"):
        embeddings("z", x, "image")


def test_of_many_images_some_are_looked_at():
    x = torch.arange(3 * MOST, dtype=torch.float64)[:, None].expand(-1, 2)
    found = embeddings("z", x)
    assert found.x.shape[1] == MOST
    assert torch.equal(found.x[0, :, 0], found.rows.double())
    assert f"{MOST:,} of {3 * MOST:,} images" in found.said[0]
    assert torch.equal(embeddings("z", x).rows, found.rows)


class Table(pandas.DataFrame):
    pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("z.npy ", "z: is a str; pass an array"),
        (b"1", "z: is a bytes; pass an array"),
        (pandas.DataFrame([[1.0, 2.0]]), r"z: is a DataFrame; pass its numbers, z.to_numpy\(\)"),
        (None, "z: is a NoneType; pass an array"),
        ({"z": Z}, "z: is a dict; pass an array"),
        (torch.zeros(8), r"z: has one axis, \[8\]; pass \[N, d\], one row an image"),
        (torch.zeros(8, 8, 2, 2), r"z: has 4 axes, \[8, 8, 2, 2\]; .* Of feature maps .* z.mean\(\(2, 3\)\)"),
        (torch.zeros(0, 8), r"z: is empty, \[0, 8\]"),
        ([], "z: is empty"),
        (torch.zeros(1, 8), "z: is of one image"),
        (torch.zeros(8, 8, dtype=torch.complex64), "z: is complex; pass real numbers, such as z.real"),
        (torch.zeros(8, 8, dtype=torch.bool), r"z: is a mask \(bool\)"),
        (np.array([["a", "b"], ["c", "d"]]), "z: is of <U1, not of numbers alone"),
        (np.array([[1, None]], dtype=object), "z: is of object, not of numbers alone"),
        ([[1.0], [1.0, 2.0]], "z: is a list, not of numbers alone"),
        (np.ma.masked_array(np.zeros((4, 4))), "z: is of float64, not of numbers alone"),
        ([torch.zeros(4, 2), torch.zeros(5, 2)], r"z: its views have the shapes \[\[4, 2\], \[5, 2\]\]"),
        (torch.zeros(128, 50000), r"50,000 channels of 128 images look transposed; pass z.T"),
    ],
)
def test_it_is_refused(given, said):
    with pytest.raises(ConfigError, match=said) as error:
        embeddings("z", given)
    assert "\n" not in str(error.value)
