"""The border between Python and C++: whatever comes, an error that names the argument, or a result; never a crash, and
never a pointer to memory that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.panels import pack
from kernels.types import GROUP, BatchRows, BlockShape, Quantized, SeatRows
from model.parameters import BlockWeights
from tests.support.operands import Numbers
from tests.support.twins import engine, same_bits

shoal_native = pytest.importorskip("shoal_native", reason="the native kernels are not installed")

BORDER = (ValueError, TypeError)
HEADS, KV_HEADS, DIM = 4, 2, 24


def rows_of_three() -> BatchRows:
    return BatchRows.of([SeatRows((2, 0), 31, 2), SeatRows((1,), 0, 1)])


def good(function: str) -> dict[str, Any]:
    """Arguments of three rows that ``function`` takes; one name for each."""
    x, weight = torch.ones(3, 100), torch.ones(100)
    cos = torch.ones(3, DIM // 2)
    k_pages, v_pages = torch.zeros(2, 4, KV_HEADS, 32, DIM).half()
    pages = {"rows": rows_of_three(), "k_pages": k_pages, "v_pages": v_pages}
    operands: dict[str, dict[str, Any]] = {
        "quantize": {"x": x, "group": GROUP},
        "norm": {"x": x, "weight": weight, "eps": 1e-5},
        "norm_quantize": {"x": x, "weight": weight, "eps": 1e-5, "group": GROUP},
        "gated_quantize": {"gate_up": x, "group": GROUP},
        "rope": {"x": torch.ones(3, HEADS, DIM), "cos": cos, "sin": cos},
        "write_kv": {"k": torch.ones(3, KV_HEADS, DIM), "v": torch.ones(3, KV_HEADS, DIM), **pages},
        "attention": {"q": torch.ones(3, HEADS, DIM), **pages, "window": None, "softcap": None},
        "top_k": {"logits": x, "k": 7},
        "embedding_rows": {"table": pack(Numbers(0).linear(70, 100)), "token_ids": torch.tensor([0, 5, 69])},
        "block": {"x": x, "weights": weights(), "shape": shape(), **pages, "cos": cos, "sin": cos},
    }
    return operands[function]


def shape(**changes: Any) -> BlockShape:
    return BlockShape(**{"num_heads": HEADS, "num_kv_heads": KV_HEADS, "head_dim": DIM, "eps": 1e-5, **changes})


def weights(**changes: Any) -> BlockWeights:
    make = Numbers(1)
    parts = {
        "norm1": torch.ones(100),
        "qkv": pack(make.linear((HEADS + 2 * KV_HEADS) * DIM, 100)),
        "o": pack(make.linear(100, HEADS * DIM)),
        "norm2": torch.ones(100),
        "gate_up": pack(make.linear(160, 100)),
        "down": pack(make.linear(100, 80)),
        "q_norm": torch.ones(DIM),
        "k_norm": torch.ones(DIM),
    }
    return BlockWeights(**{**parts, **changes})


def sideways(tensor: Tensor) -> Tensor:
    """The same values, every second number of twice as many."""
    return torch.stack([tensor, tensor], -1)[..., 0]


WRONG: dict[str, Callable[[Tensor], Any]] = {
    "another dtype": lambda tensor: tensor.to(torch.int32 if tensor.dtype == torch.float64 else torch.float64),
    "bfloat16": lambda tensor: tensor.to(torch.bfloat16),
    "bool": lambda tensor: tensor.to(torch.bool),
    "not there": lambda tensor: tensor.to("meta"),
    "one dimension": lambda tensor: tensor.flatten() if tensor.dim() > 1 else tensor[None],
    "a number": lambda tensor: tensor.flatten()[0],
    "a dimension more": lambda tensor: tensor[None],
    "no channels": lambda tensor: tensor[..., :0],
    "a channel more": lambda tensor: torch.cat([tensor, tensor[..., :1]], -1),
    "a row more": lambda tensor: torch.cat([tensor, tensor[:1]]),
    "a row less": lambda tensor: tensor[:-1],
    "sideways": sideways,
    "one row for all": lambda tensor: tensor[:1].expand(tensor.shape),
}
# Where a width, a number of rows or of Pages is the argument's own choice.
FREE = {
    *((f, "x", w) for f in ("quantize",) for w in ("a channel more", "a row more", "a row less")),
    *((f, "x", w) for f in ("norm", "norm_quantize") for w in ("a row more", "a row less")),
    ("norm", "x", "a dimension more"),
    *(("top_k", "logits", w) for w in ("a channel more", "a row more", "a row less")),
    *(("gated_quantize", "gate_up", w) for w in ("a row more", "a row less")),
    *(("embedding_rows", "token_ids", w) for w in ("a row more", "a channel more", "a row less", "no channels")),
    *(("rope", "x", w) for w in ("sideways", "one row for all")),
    *(("attention", "q", w) for w in ("sideways", "one row for all")),
    *(("write_kv", a, w) for a in "kv" for w in ("sideways", "one row for all")),
}  # fmt: skip
FUNCTIONS = [
    "quantize",
    "norm",
    "norm_quantize",
    "gated_quantize",
    "rope",
    "write_kv",
    "attention",
    "embedding_rows",
    "top_k",
    "block",
]


NOT_ARRAYS = {"None": None, "a list": [[1.0]], "text": "text", "a number": 1.0, "an object": object()}


def wrongs() -> Iterator[tuple[str, str, str]]:
    for function in FUNCTIONS:
        for name, value in good(function).items():
            if isinstance(value, Tensor):
                yield from ((function, name, wrong) for wrong in WRONG if (function, name, wrong) not in FREE)


# A size that two arguments share is wrong in either.
PARTNERS = {
    "x": "x|weight|cos|out",
    "q": "q|k_pages",
    "k": "k|v|k_pages",
    "k_pages": "k_pages|v_pages",
    "logits": "logits|k",
}


def named(argument: str) -> str:
    return rf"\b({PARTNERS.get(argument, argument)})\b"


@pytest.mark.parametrize(("function", "argument", "wrong"), list(wrongs()))
def test_what_is_not_the_array_that_is_wanted_is_refused_by_name(function: str, argument: str, wrong: str):
    arguments = good(function)
    arguments[argument] = WRONG[wrong](arguments[argument])
    with pytest.raises(BORDER, match=named(argument)):
        getattr(engine("portable"), function)(**arguments)


@pytest.mark.parametrize(("function", "argument", "wrong"), sorted(FREE))
def test_what_is_the_arguments_own_choice_is_computed(function: str, argument: str, wrong: str):
    """Rows more or less, and layouts that the Python side makes contiguous."""
    arguments = good(function)
    arguments[argument] = WRONG[wrong](arguments[argument])
    if function in ("norm", "rope", "attention", "quantize"):
        found, expected = (getattr(k, function)(**arguments) for k in (engine("portable"), reference))
        if isinstance(found, Quantized):
            found, expected = found.scale, expected.scale
        assert same_bits(found, expected)
    else:
        getattr(engine("portable"), function)(**arguments)


def raw_arguments(function: str) -> dict[str, Any]:
    """What the extension's ``function`` takes in order, handles and outputs among it."""
    left_out = ("k",) if function == "top_k" else ("group", "shape")
    arguments = {name: value for name, value in good(function).items() if name not in left_out}
    out = {"values": torch.zeros(3, 128, dtype=torch.int8), "scale": torch.zeros(3, 2)}
    if function in ("rope", "norm"):
        out = {"out": torch.zeros_like(arguments["x"])}
    elif function == "write_kv":
        out = {}
    elif function == "attention":
        arguments["window"], arguments["softcap"], out = 0, 0.0, {"out": torch.zeros(3, HEADS * DIM)}
    elif function == "top_k":
        out = {"values": torch.zeros(3, 7), "ids": torch.zeros(3, 7, dtype=torch.int64)}
    elif function == "embedding_rows":
        table = arguments["table"]
        arguments["table"] = shoal_native.Matrix(table.data, table.bias, 70, 100)
        out = {"out": torch.zeros(3, 100)}
    elif function == "block":
        arguments["weights"] = engine("portable")._block(arguments["weights"], shape())
        order = ["x", "weights", "rows", "cos", "sin", "k_pages", "v_pages"]
        arguments, out = {name: arguments[name] for name in order}, {"out": torch.zeros(3, 100)}
    elif function == "gated_quantize":
        out = {"values": torch.zeros(3, 64, dtype=torch.int8), "scale": torch.zeros(3, 1)}
    if "rows" in arguments:
        seats = [(seat.pages, seat.position, seat.count) for seat in arguments["rows"].seats]
        arguments["rows"] = shoal_native.Rows(seats)
    return {**arguments, **out}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_not_an_array_at_all_is_refused_by_name(function: str):
    raw = shoal_native.Engine("portable", 1)
    arguments = raw_arguments(function)
    getattr(raw, function)(*arguments.values())
    unnamed: list[str] = []
    for name, value in arguments.items():
        for kind, wrong in NOT_ARRAYS.items() if isinstance(value, Tensor) else ():
            with pytest.raises(TypeError) as error:
                getattr(raw, function)(*{**arguments, name: wrong}.values())
            if not str(error.value).startswith(f"{name}: expected an array"):
                unnamed.append(f"{name} is {kind}: {error.value}")
    assert not unnamed


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    [
        ("quantize", "group", 32),
        ("quantize", "group", 0),
        ("norm_quantize", "group", 128),
        ("gated_quantize", "group", -64),
        ("gated_quantize", "gate_up", torch.ones(3, 5)),
        ("rope", "x", torch.ones(3, HEADS, 25)),
        ("attention", "q", torch.ones(3, 3, DIM)),
        ("attention", "window", -1),
        ("attention", "softcap", -1.0),
        ("attention", "softcap", float("nan")),
        ("top_k", "k", 101),
        ("top_k", "k", -1),
        ("embedding_rows", "token_ids", torch.tensor([70])),
        ("embedding_rows", "token_ids", torch.tensor([-1])),
        ("embedding_rows", "token_ids", torch.tensor([2**40])),
        ("embedding_rows", "table", Numbers(0).linear(70, 100)),
        ("block", "weights", weights(norm1=torch.ones(99))),
        ("block", "weights", weights(norm2=torch.ones(100).double())),
        ("block", "weights", weights(q_norm=torch.ones(DIM + 1))),
        ("block", "weights", weights(k_norm=[1.0])),
        ("block", "weights", weights(o=pack(Numbers(0).linear(100, 100)))),
        ("block", "weights", weights(qkv=pack(Numbers(0).linear(100, 100)))),
        ("block", "weights", weights(down=pack(Numbers(0).linear(99, 80)))),
        ("block", "weights", weights(gate_up=pack(Numbers(0).linear(80, 100)))),
        ("block", "weights", weights(o=Numbers(0).linear(100, HEADS * DIM))),
        ("block", "shape", shape(num_heads=3)),
        ("block", "shape", shape(num_heads=0)),
        ("block", "shape", shape(num_kv_heads=0)),
        ("block", "shape", shape(num_kv_heads=-2)),
        ("block", "shape", shape(head_dim=25)),
        ("block", "shape", shape(head_dim=0)),
        ("block", "shape", shape(window=-1)),
        ("block", "shape", shape(softcap=-1.0)),
    ],
)
def test_values_that_cannot_be_are_refused(function: str, argument: str, value: Any):
    inner = r"norm1|norm2|q_norm|k_norm|qkv|o|gate_up|down|heads|head_dim|window|softcap|Linear"
    with pytest.raises(BORDER, match=rf"\b({argument}|{inner})\b"):
        getattr(engine("portable"), function)(**{**good(function), argument: value})


def test_a_head_dim_of_1024_is_refused_where_there_is_no_room_for_it():
    pages, rows = torch.zeros(1, 1, 32, 1024).half(), BatchRows.of([SeatRows((0,), 0, 1)])
    with pytest.raises(ValueError, match="head_dim"):
        engine("portable").attention(torch.ones(1, 1, 1024), rows, pages, pages.clone(), None)


@pytest.mark.parametrize("function", ["write_kv", "attention", "block"])
@pytest.mark.parametrize("page", [4, 5, 2**20, 2**29, 2**31 - 1, 2**31, 2**40, 2**70, -1, -(2**40), 0.5, "0", None])
def test_a_page_that_does_not_exist_is_refused(function: str, page: Any):
    arguments = good(function)
    arguments["rows"] = rows_of_three()
    object.__setattr__(arguments["rows"].seats[0], "pages", (2, page))
    with pytest.raises(BORDER, match=r"page|seats"):
        getattr(engine("portable"), function)(**arguments)


def test_pages_that_no_row_reaches_are_not_looked_at():
    arguments = good("attention")
    rows = BatchRows.of([SeatRows((2, 0, 2**40), 31, 2), SeatRows((1, -7), 0, 1)])
    expected = engine("portable").attention(**arguments)
    assert same_bits(engine("portable").attention(**{**arguments, "rows": rows}), expected)


def test_activations_that_do_not_fit_a_matrix_are_refused():
    kernels, matrix = engine("portable"), pack(Numbers(0).linear(70, 100))
    x = reference.quantize(torch.ones(3, 100), GROUP)
    for values, scale, name in (
        (x.values[:, :64], x.scale, "values"),
        (x.values.short(), x.scale, "values"),
        (x.values[:, ::2], x.scale, "values"),
        (x.values[0], x.scale, "values"),
        (x.values, x.scale[:, :1], "scale"),
        (x.values, x.scale[:2], "scale"),
        (x.values, x.scale.double(), "scale"),
        (x.values, x.scale.t().contiguous().t(), "scale"),
    ):
        with pytest.raises(BORDER, match=rf"\b({name}|x)\b"):
            kernels.linear(Quantized(values, scale), matrix)
    with pytest.raises(BORDER, match=r"\b(weight|panels|Panels|Linear)\b"):
        kernels.linear(x, Numbers(0).linear(70, 100))


def test_outputs_are_checked_like_inputs():
    """kernels.native makes them, so they are wrong only by our own mistake; but C++ writes into them."""
    raw, x, weight = shoal_native.Engine("portable", 1), torch.ones(3, 100), torch.ones(100)
    values, scale = torch.zeros(3, 128, dtype=torch.int8), torch.zeros(3, 2)
    for wrong in (torch.zeros(3, 99), torch.zeros(2, 100), torch.zeros(3, 100).double(), torch.zeros(100, 3).t()):
        with pytest.raises(BORDER, match=r"\bout\b"):
            raw.norm(x, weight, 1e-5, wrong)
    for wrong in (values[:, :100], values[:2], values.short()):
        with pytest.raises(BORDER, match=r"\bvalues\b"):
            raw.quantize(x, wrong, scale)
    for wrong in (scale[:, :1], scale[:2], scale.double()):
        with pytest.raises(BORDER, match=r"\bscale\b"):
            raw.quantize(x, values, wrong)


def test_batches_of_no_rows_are_nothing():
    kernels, none = engine("portable", 2), BatchRows.of([])
    matrix = pack(Numbers(0).linear(70, 100))
    pages = torch.zeros(2, 0, KV_HEADS, 32, DIM).half()
    assert kernels.quantize(torch.ones(0, 100), GROUP).values.shape == (0, 128)
    assert kernels.norm(torch.ones(0, 100), torch.ones(100), 1e-5).shape == (0, 100)
    assert kernels.linear(kernels.quantize(torch.ones(0, 100), GROUP), matrix).shape == (0, 70)
    assert kernels.gated_quantize(torch.ones(0, 100), GROUP).scale.shape == (0, 1)
    assert kernels.rope(torch.ones(0, 2, 24), torch.ones(0, 12), torch.ones(0, 12)).shape == (0, 2, 24)
    assert kernels.embedding_rows(matrix, torch.zeros(0, dtype=torch.int64)).shape == (0, 100)
    assert kernels.attention(torch.ones(0, HEADS, DIM), none, *pages, None).shape == (0, HEADS * DIM)
    kernels.write_kv(torch.ones(0, KV_HEADS, DIM), torch.ones(0, KV_HEADS, DIM), none, *pages)
    empty = torch.ones(0, DIM // 2)
    assert kernels.block(torch.ones(0, 100), weights(), shape(), none, empty, empty, *pages).shape == (0, 100)
