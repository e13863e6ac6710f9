"""A Span on a device: the host's tensors go in, the host's tensors come out, and nothing in between notices."""

from __future__ import annotations

from kernels import reference
from kernels.types import SeatRows
from model.config import read_config
from model.source import open_source
from model.span_model import SpanModel
from swarm.span import Span
from tests.support import tiny
from tests.support.triton_device import device_or_skip, same_bits

DEVICE = device_or_skip()

from kernels.cuda import Cuda  # noqa: E402


def test_a_span_on_a_device_gives_the_hosts_bits():
    directory, outputs = tiny.directory(), []
    for kernels in (reference, Cuda(DEVICE)):
        source, config = open_source(str(directory)), read_config(directory)
        model = SpanModel.load(source, config, Span(0, 4), "c8", 4, kernels=kernels)
        x = model.embed([3, 5, 7])
        y = model.run(Span(0, 4), x, [SeatRows((2,), 0, 2), SeatRows((1,), 0, 1)], [True, False])
        outputs.append((x, y, model.logits(y)))
    assert all(
        same_bits(found, expected) and found.device.type == "cpu" for expected, found in zip(*outputs, strict=True)
    )
