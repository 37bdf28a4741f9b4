"""What somebody hands to the doctor: how it is read, and what is refused, in one line that says what to pass."""

import numpy as np
import pandas
import pytest
import torch

from emsiam.doctor.arrays import MOST, embeddings
from emsiam.doctor.files import arrays
from emsiam.errors import ConfigError

Z = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (Z, [1, 40, 8]),
        (Z.numpy(), [1, 40, 8]),
        (Z.numpy().astype(">f4"), [1, 40, 8]),
        (Z.bfloat16(), [1, 40, 8]),
        (Z.detach().numpy().astype(np.longdouble), [1, 40, 8]),
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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("z.npy ", "z: is a str; pass an array"),
        (b"1", "z: is a bytes; pass an array"),
        (pandas.DataFrame([[1.0, 2.0]]), r"z: is a DataFrame; pass its numbers, z.to_numpy\(\)"),
        (None, "z: is a NoneType; pass an array"),
        ({"z": Z}, "z: is a dict; pass an array"),
        (torch.zeros(8), r"z: has one axis, \[8\]; pass \[N, d\], one row an image"),
        (
            torch.zeros(8, 8, 2, 2),
            r"z: has 4 axes, \[8, 8, 2, 2\]; .* z.mean\(\(2, 3\)\) of feature maps .*, z.mean\(2\) of \[views",
        ),
        (torch.zeros(0, 8), r"z: is empty, \[0, 8\]"),
        ([], "z: is empty"),
        (torch.zeros(1, 8), "z: is of one image"),
        (torch.zeros(8, 8, dtype=torch.complex64), "z: is complex; pass real numbers, such as z.real"),
        (torch.zeros(8, 8, dtype=torch.bool), r"z: is a mask \(bool\)"),
        (np.array([["a", "b"], ["c", "d"]]), "z: holds text, not numbers alone"),
        (np.array([[1, None], [2, 3]], dtype=object), "z: holds object, not numbers alone"),
        ([[1.0], [1.0, 2.0]], "z: holds other things, not numbers alone"),
        (
            np.ma.masked_array(np.zeros((4, 4))),
            r"z: is a masked array; pass its whole rows, numpy.ma.compress_rows\(z\)",
        ),
        (torch.zeros(40, 2, 8), r"z: \[40, 2, 8\] may be \[N, views, d\] or \[N, tokens, d\]; pass z.swapaxes\(0, 1\)"),
        ([torch.zeros(4, 2), torch.zeros(5, 2)], r"z: its views have the shapes \[\[4, 2\], \[5, 2\]\]"),
        (torch.zeros(128, 50000), r"z: is \[128, 50000\], .*; it looks transposed: pass z.T"),
    ],
)
def test_it_is_refused(given, said):
    with pytest.raises(ConfigError, match=said) as error:
        embeddings("z", given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_of_an_npz(tmp_path, write):
    z = Z.detach().numpy()
    write(tmp_path / "a.npz", z=z, p=z + 1, labels=np.arange(40), ids=np.arange(40), fortran=np.asfortranarray(z))
    found = arrays(tmp_path / "a.npz")
    assert found.keys() == {"z", "p", "labels"}
    assert np.array_equal(found["z"], z)
    assert np.array_equal(found["p"], z + 1)
    write(tmp_path / "b.npz", whatever=np.asfortranarray(z))
    assert np.array_equal(arrays(tmp_path / "b.npz")["z"], z)


def test_a_file_of_many_gigabytes_is_not_read_whole(tmp_path):
    """A sparse one: 4 GB that nobody wrote."""
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (1_000_000, 1024))
    assert list(embeddings("z", arrays(tmp_path / "a.npy")["z"]).x.shape) == [1, MOST, 1024]


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"z": Z.detach(), "p": Z.detach() + 1}, tmp_path / "a.safetensors")
    assert torch.equal(arrays(tmp_path / "a.safetensors")["p"], Z.detach() + 1)
    save_file({"conv.weight": torch.zeros(4, 3, 3, 3), "fc.weight": torch.zeros(4, 4)}, tmp_path / "b.safetensors")
    assert arrays(tmp_path / "b.safetensors") is None  # weights


def test_a_file_that_could_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    bad = np.array([[Evil(), 1], [2, 3]], dtype=object)
    np.save(tmp_path / "a.npy", bad)
    np.savez(tmp_path / "a.npz", z=bad)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ConfigError, match=f"{name}: holds Python objects, which reading could run"):
            arrays(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors"])
def test_a_damaged_file_is_one_line(tmp_path, name):
    for content in (b"", b"PK", b"\x93NUMPY\x01\x00", b"\xff" * 100):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=f"{name}: is no .* file, or a damaged one") as error:
            arrays(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="there is no such file"):
        arrays(tmp_path / f"no-{name}")


def test_an_npz_of_other_things_says_what_is_allowed(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3), b=np.zeros((3, 3)), c=np.zeros((3, 4)))
    with pytest.raises(ConfigError, match=r"a\.npz: holds a, b, c; one of them must be called z or features"):
        arrays(tmp_path / "a.npz")
