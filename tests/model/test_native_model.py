"""The sample model with every native variant: logits of a prompt and of the steps after it are the reference's, bit for
bit.

That is the promise of profile c8 where it is used: real weights and activations as they come from a file, through
packing and ``SpanModel``, chosen by name as SHOAL_ISA does. The kernels' own tests take random ones of every shape.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

import model
from kernels import select
from kernels.types import SeatRows
from model.config import read_config
from model.source import open_source
from model.span_model import SpanModel
from swarm.span import Span

pytest.importorskip("shoal_native", reason="the native kernels are not installed")

SAMPLE = Path(model.__file__).parent / "sample"
PROMPT, STEPS, NUM_PAGES = 40, 4, 8
PAGES, OTHER_PAGES = (5, 1), (0, 7)


@cache
def sample(isa: str, threads: int = 1) -> SpanModel:
    kernels, config = select(environ={"SHOAL_ISA": isa}, threads=threads), read_config(SAMPLE)
    return SpanModel.load(open_source(str(SAMPLE)), config, config.span, "c8", NUM_PAGES, kernels=kernels)


def some_blocks(model: SpanModel) -> tuple[Span, ...]:
    """The first two and the last, which is enough between the two Ends."""
    return Span(0, 2), Span(model.span.end - 1, model.span.end)


def generate(model: SpanModel, chunk: int) -> list[torch.Tensor]:
    """The prompt's logits in Chunks, then greedy steps; a stranger's Seat in every Batch of a step."""

    def run(ids: list[int], seats: list[SeatRows]) -> torch.Tensor:
        x = model.embed(ids)
        for span in some_blocks(model):
            x = model.run(span, x, seats)
        return model.logits(x)

    ids = torch.randint(model.vocab_size, (PROMPT,), generator=torch.Generator().manual_seed(0)).tolist()
    parts = [
        run(ids[at : at + chunk], [SeatRows(PAGES, at, min(chunk, PROMPT - at))]) for at in range(0, PROMPT, chunk)
    ]
    found = [torch.cat(parts)]
    for step in range(STEPS):
        token = int(found[-1][-1].argmax())
        both = [SeatRows(OTHER_PAGES, step, 1), SeatRows(PAGES, PROMPT + step, 1)]
        found.append(run([ids[step], token], both))
    return found


@cache
def expected() -> list[torch.Tensor]:
    return generate(sample("reference"), PROMPT)


def variants() -> list[str]:
    from kernels import native

    return list(native.available())


@pytest.mark.parametrize(("chunk", "threads"), [(PROMPT, 1), (7, 2)])
@pytest.mark.parametrize("isa", variants())
def test_logits_of_a_prompt_and_of_steps_are_the_references(isa: str, chunk: int, threads: int):
    found = generate(sample(isa, threads), chunk)
    assert sample(isa, threads).arithmetic == isa
    assert len(found) == len(expected()) == STEPS + 1
    for step, (y, twin) in enumerate(zip(found, expected(), strict=True)):
        assert y.shape == twin.shape and y.isfinite().all()
        assert torch.equal(y.contiguous().view(torch.int32), twin.contiguous().view(torch.int32)), f"step {step}"


@pytest.mark.parametrize("isa", variants())
def test_keys_and_values_are_the_references(isa: str):
    """Wherever a Session goes on, it finds the Pages that it would have found anywhere else."""
    expected()
    generate(sample(isa), PROMPT)
    ours, theirs = sample(isa), sample("reference")
    for block in (block for span in some_blocks(ours) for block in span):
        for found, twin in ((ours.kv.k(block), theirs.kv.k(block)), (ours.kv.v(block), theirs.kv.v(block))):
            assert torch.equal(found.view(torch.int16), twin.view(torch.int16)), f"block {block}"
