import numpy as np
import pytest
import torch

from gpu_runner.device.torch_numpy import read_source, to_array, to_tensor

X = np.linspace(-3.0, 3.0, 24).reshape(4, 6)


def ran(body: str, *arrays: np.ndarray):
    """What a reference of this body answers on tensors, as numpy."""
    module = read_source(f"import numpy as np\n\n\ndef run(x, *more):\n    return {body}\n", "<r>")
    answer = module["run"](*(to_array(torch.from_numpy(a.copy())) for a in arrays))
    return to_tensor(answer, "cpu")


def right(body: str, *arrays: np.ndarray):
    names = {"np": np, "x": arrays[0].copy(), "more": arrays[1:]}
    with np.errstate(all="ignore"):
        return eval(body, names)  # the same words, with numpy itself


@pytest.mark.parametrize(
    "body",
    [
        "x.mean(axis=-1, keepdims=True)",
        "x.max(axis=-1, keepdims=True) - x.min(axis=0)",
        "x.sum(axis=0)",
        "np.sum(x * x, axis=(0, 1), keepdims=True)",
        "np.exp(x - x.max(axis=-1, keepdims=True))",
        "np.einsum('ij,kj->ik', x, x)",
        "np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x)))",
        "np.concatenate((x[..., 3:], x[..., :3]), axis=-1)",
        "np.concat((x, x))",
        "np.minimum(np.maximum(x, -1), 2.0)",
        "x @ x.T",
        "np.sqrt(np.abs(x))",
        "np.asarray(x, dtype=np.float64) * 2",
        "x.astype(np.float64)[:, None, ::2]",
        "np.tanh(x) ** 2",
        "np.pow(x, 2)",
        "x / np.sqrt(x.shape[-1])",
        "np.clip(x, -1, 1) + np.rint(x) + np.sign(x)",
        "np.floor_divide(np.cumsum(x, axis=1), 2.0)",
        "np.argsort(x, axis=-1)",
        "np.log1p(np.abs(x)) + np.pi",
        "np.transpose(x).reshape(3, 8)",
        "np.asanyarray(x)",
        "np.stack([x, x], axis=1).squeeze()",
        "np.full((2, 2), 3.0)",
        "np.isnan(x) | (x > 0)",
    ],
)
def test_what_references_use_agrees_with_numpy(body):
    mine, wanted = ran(body, X), right(body, X)
    assert mine.dtype == torch.from_numpy(np.array(wanted)).dtype
    np.testing.assert_allclose(mine.numpy(), wanted, rtol=1e-14, atol=1e-15)


def test_special_numbers_go_the_way_of_numpy():
    special = np.array([[np.nan, 1.0], [np.inf, -np.inf], [0.0, -0.0]])
    for body in (
        "x.max(axis=-1)",
        "np.minimum(x, 0)",
        "np.exp(x)",
        "x - x",
        "np.maximum(x, x.T[0, 0])",
    ):
        np.testing.assert_array_equal(ran(body, special).numpy(), right(body, special))


def test_warnings_are_switched_off_as_numpy_writes_it():
    source = """
import numpy as np


@np.errstate(all="ignore")
def inner(x):
    return x / 0.0


def run(x):
    with np.errstate(invalid="ignore", over="ignore"):
        return inner(x)
"""
    answer = read_source(source, "<r>")["run"](to_array(torch.ones(2, dtype=torch.float64)))
    assert to_tensor(answer, "cpu").tolist() == [np.inf, np.inf]


def test_numbers_of_python_stay_such():
    source = "import numpy as np\n\n\ndef run(n):\n    return np.sqrt(n), np.maximum(n, 20)\n"
    root, most = read_source(source, "<r>")["run"](16)
    assert (root, type(root)) == (4.0, float)
    assert (most, type(most)) == (20, int)


def test_other_modules_are_imported_as_ever():
    source = (
        "import math\nfrom math import pi as p\nimport os.path\nV = math.pi == p\nW = os.path\n"
    )
    module = read_source(source, "<r>")
    assert module["V"] is True
    assert module["W"].__name__ == "posixpath"


@pytest.mark.parametrize(
    "words",
    ["import numpy as np", "import numpy", "from numpy import exp", "from numpy import exp as e"],
)
def test_every_way_to_import_numpy_is_caught(words):
    module = read_source(words, "<r>")
    (found,) = (v for n, v in module.items() if not n.startswith("__"))
    exp = getattr(found, "exp", found)
    answer = to_tensor(exp(to_array(torch.zeros(3, dtype=torch.float64))), "cpu")
    assert answer.tolist() == [1.0, 1.0, 1.0]


def test_an_import_within_a_function_is_caught():
    source = "def run(x):\n    import numpy\n    return numpy.abs(x)\n"
    answer = read_source(source, "<r>")["run"](to_array(-torch.ones(2, dtype=torch.float64)))
    assert to_tensor(answer, "cpu").tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("import numpy as np\nnp.vectorize", AttributeError, "numpy.vectorize has no counterpart"),
        ("from numpy import frexp", ImportError, "frexp"),
        ("import numpy.polynomial", ImportError, "numpy.polynomial has no counterpart"),
    ],
)
def test_what_is_missing_is_named(source, error, words):
    with pytest.raises(error, match=words):
        read_source(source, "<r>")


def test_an_array_shares_its_tensors_memory():
    values = torch.zeros(2, dtype=torch.float64)
    array = to_array(values)
    array[0] = 5.0
    assert values.tolist() == [5.0, 0.0]
    assert to_tensor(array, "cpu").data_ptr() == values.data_ptr()


def test_plain_numbers_become_tensors():
    assert to_tensor(2.5, "cpu").shape == ()


def test_the_place_of_a_reference_is_in_its_traceback():
    with pytest.raises(ZeroDivisionError) as caught:
        read_source("x = 1 / 0", "<reference of softmax>")
    assert caught.traceback[-1].frame.code.raw.co_filename == "<reference of softmax>"
