from __future__ import annotations

from benchmarks.kit.operands import nbytes, operand, random_linear
from benchmarks.kit.shapes import LLAMA_1B, SMALL
from kernels import panels, reference


def test_the_bytes_of_a_step_are_those_that_the_packed_matrices_have():
    heads = random_linear(SMALL.vocab, SMALL.hidden)
    packed = [panels.pack(random_linear(*size)) for size in SMALL.matrices.values()]
    blocks = SMALL.blocks * sum(map(nbytes, packed))
    assert SMALL.step_bytes(0) == blocks + nbytes(panels.pack(heads))
    assert nbytes(operand(reference, heads)) == nbytes(panels.pack(heads))


def test_the_keys_and_values_of_the_context_are_read_too():
    a_token = LLAMA_1B.blocks * 2 * 4 * 64 * 2  # Blocks, K and V, heads, channels, bytes
    assert LLAMA_1B.step_bytes(101) - LLAMA_1B.step_bytes(100) == a_token


def test_the_shape_is_tinyllamas():
    assert 1.09e9 < LLAMA_1B.weights < 1.11e9
