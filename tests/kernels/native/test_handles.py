"""What Python makes once and C++ keeps: engines, Seats, matrices; and those mistakes that once ended the process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from kernels import reference
from kernels.panels import pack
from tests.support.operands import Numbers
from tests.support.twins import same_bits

shoal_native = pytest.importorskip("shoal_native", reason="the native kernels are not installed")

BORDER = (ValueError, TypeError)


@pytest.mark.parametrize(
    "seat",
    [
        ((0,), -1, 1),
        ((0,), 0, 0),
        ((0,), 0, -1),
        ((0,), 0, 33),
        ((0,), 32, 1),
        ((), 0, 1),
        ((0,), 2**31, 1),
        ((0,), 0, 2**31),
        ((0,), 2**70, 1),
        ((0,), 0.5, 1),
        ((0,), None, 1),
        ([0], 0, 1),
        (None, 0, 1),
        7,
        None,
        "abc",
    ],
)
def test_seats_that_cannot_be_are_refused(seat: Any):
    with pytest.raises(BORDER, match="seats"):
        shoal_native.Rows([seat])


def test_panels_that_do_not_fit_are_refused():
    make = shoal_native.Matrix
    data = pack(Numbers(0).linear(64, 64)).data
    make(data, None, 64, 64)
    for out, width in ((65, 64), (64, 65), (0, 64), (64, 0), (-1, 64), (2**40, 64), (64, 2**40)):
        with pytest.raises(BORDER, match=r"\b(data|matrix)\b"):
            make(data, None, out, width)
    for wrong in (None, data.view(torch.int8), data[0], data[..., :-1], torch.stack([data, data], -1)[..., 0], "text"):
        with pytest.raises(BORDER, match=r"\bdata\b"):
            make(wrong, None, 64, 64)
    for wrong in (torch.ones(63), torch.ones(64).double(), torch.ones(128)[::2], 3):
        with pytest.raises(BORDER, match=r"\bbias\b"):
            make(data, wrong, 64, 64)


@pytest.mark.parametrize("count", [0, -1, 1025, 10**6, 2**31, 2**40, None, "2", 1.5])
def test_a_number_of_threads_that_cannot_be_is_refused(count: Any):
    from kernels import native

    with pytest.raises(BORDER, match="threads"):
        native.open("portable", count)


def test_a_variant_that_does_not_exist_is_refused_with_those_that_do():
    from kernels import native

    assert "portable" in native.available()
    for name in ("", "sse9", "reference", "PORTABLE"):
        with pytest.raises(ValueError, match="portable"):
            native.open(name, 1)


def in_another_process(code: str) -> subprocess.CompletedProcess[str]:
    """What may end in a crash. Without torch where it can be: importing it takes longer than all the rest."""
    setting = """
import mmap, resource, tempfile
import numpy as np
import shoal_native as native
raw = native.Engine("portable", 2)
def refused(name, function, *arguments):
    try:
        function(*arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        assert name in str(error), error
    else:
        raise SystemExit(f"accepted; expected a refusal that names {name}")
"""
    return subprocess.run([sys.executable, "-c", setting + code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "code",
    [
        """
import torch  # numpy's strides of nothing are others
pages = torch.zeros(2, 1, 1, 32, 64).half()
rows = native.Rows([((0,), 0, 1)])
refused("q", raw.attention, torch.ones(1, 0, 64), rows, *pages, 0, 0.0, torch.zeros(1, 0))
""",
        """
for seat in (((), 2**63 - 1, 1), ((0,), 5, 2**63 - 3), ((0,), 2**62, 2**62), ((0,), 0), ((0,),), (), ((0,), 0, 1, 2)):
    refused("seats", native.Rows, [seat])
""",
        """
out = np.zeros((2, 64), np.float32)
out.flags.writeable = False
refused("out", raw.norm, np.ones((2, 64), np.float32), np.ones(64, np.float32), 1e-5, out)
assert not out.any()
""",
        """
with tempfile.TemporaryFile() as file:
    file.write(bytes(4096))
    file.flush()
    memory = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
    pages = np.frombuffer(memory, np.float16).reshape(1, 1, 32, 64)
    kv = np.ones((1, 1, 64), np.float32)
    refused("k_pages", raw.write_kv, kv, kv, native.Rows([((0,), 0, 1)]), pages, pages.copy())
    refused("v_pages", raw.write_kv, kv, kv, native.Rows([((0,), 0, 1)]), pages.copy(), pages)
""",
        """
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # a thread's stack is 8 MiB of addresses
refused("", native.Engine, "portable", 1000)
raw.norm(np.ones((99, 64), np.float32), np.ones(64, np.float32), 1e-5, np.ones((99, 64), np.float32))
""",
    ],
    ids=["no heads", "seats that overflow", "an output to be read only", "pages to be read only", "no more threads"],
)
def test_what_once_crashed_is_refused(code: str):
    ended = in_another_process(code)
    assert ended.returncode == 0, f"exit status {ended.returncode}: {ended.stdout} {ended.stderr}"


def test_read_only_inputs_are_read():
    """A matrix's panels are a mapped file; numpy says so, torch does not know."""
    raw, out = shoal_native.Engine("portable", 1), torch.zeros(2, 64)
    x = np.ones((2, 64), np.float32)
    x.flags.writeable = False
    raw.norm(x, torch.ones(64), 1e-5, out)
    assert same_bits(out, reference.norm(torch.ones(2, 64), torch.ones(64), 1e-5))
