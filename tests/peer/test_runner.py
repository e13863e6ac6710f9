from __future__ import annotations

import dataclasses
import types
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from kernels import reference
from model.sampler import draw
from peer.runner import Runner
from peer.scheduler import Work
from peer.seat import Answer
from proto.messages import Chunk, Hidden, Open, Timing, Token, Want, WireDType
from proto.tensors import from_hidden, to_hidden
from swarm.errors import BadNumbers, Fault, Internal
from swarm.sampling import SamplingParams
from swarm.span import Span
from tests.support import tiny

PROMPT = (5, 17, 99, 3, 64, 8, 8, 31, 100, 42)
OTHER = (1, 2, 3, 4, 5, 6, 7)
Drawn = tuple[int, float | None]
NAN = b"\x00\x00\xc0\x7f"


@dataclasses.dataclass(eq=False)
class Seat:
    """What the runner uses of one."""

    request: Open
    pages: tuple[int, ...]
    session: bytes = bytes(16)
    history: list[int] = dataclasses.field(default_factory=list)
    position: int = 0


def seat(span: Span = tiny.ALL, pages: tuple[int, ...] = (0, 1), **changes: object) -> Seat:
    sampling = SamplingParams(logprobs=0) if span.end == 4 else None
    request = Open("f" * 32, "c8", span, 64, len(PROMPT), sampling=sampling)
    request = dataclasses.replace(request, **changes)  # type: ignore[arg-type]
    return Seat(request, pages, history=list(request.history))


def token_chunk(one: Seat, ids: Sequence[int], want: Want = Want.TOKEN, drafts: Sequence[int] = ()) -> Work[Seat]:
    step, ids = one.position, (*ids, *drafts)
    return taken(one, Chunk(step, one.position, len(ids), want, token_ids=ids, drafts=tuple(drafts)))


def hidden_chunk(one: Seat, hidden: Hidden, want: Want) -> Work[Seat]:
    return taken(one, Chunk(one.position, one.position, hidden.rows, want, hidden=hidden))


def taken(one: Seat, chunk: Chunk) -> Work[Seat]:
    one.position = chunk.end
    return Work(one, chunk, pages=one.pages)


def run(runner: Runner, *works: Work[Seat]) -> list[Answer | Fault]:
    """Compute, and take the Tokens into the history as the books do; what behind them was drafted is rolled back."""
    answers = runner.run(works)  # type: ignore[arg-type]
    for work, answer in zip(works, answers, strict=True):
        if isinstance(answer, tuple) and answer:
            work.seat.history.extend(token.token_id for token in answer)
            work.seat.position = answer[-1].position
    return answers


def only(answer: Answer | Fault) -> Token:
    assert isinstance(answer, tuple), answer
    (token,) = answer
    return token


def generate(runner: Runner, one: Seat, prompt: Sequence[int], count: int) -> list[Drawn]:
    """Token ids in, tokens out, one peer alone."""
    answer = run(runner, token_chunk(one, prompt))[0]
    drawn: list[Drawn] = []
    while True:
        token = only(answer)
        drawn.append((token.token_id, token.logprob))
        if len(drawn) == count:
            return drawn
        answer = run(runner, token_chunk(one, [token.token_id]))[0]


@pytest.fixture(scope="module")
def alone() -> list[Drawn]:
    """What one Seat generates when nobody else is there."""
    return generate(Runner(tiny.span_model()), seat(), PROMPT, 6)


def test_each_want_gets_its_kind_of_answer_at_the_end():
    runner = Runner(tiny.span_model())
    a, b, c = seat(pages=(0,)), seat(pages=(1,)), seat(pages=(2,))
    nothing, hidden, drawn = run(
        runner,
        token_chunk(a, PROMPT, Want.NOTHING),
        token_chunk(b, PROMPT, Want.HIDDEN),
        token_chunk(c, PROMPT, Want.TOKEN),
    )
    assert nothing == ()
    assert isinstance(hidden, Chunk) and hidden.hidden is not None
    assert (hidden.step, hidden.position, hidden.count, hidden.hidden.rows, hidden.hidden.cols) == (0, 0, 10, 10, 64)
    token = only(drawn)
    assert (token.step, token.position) == (0, 10)


@pytest.mark.parametrize("want", list(Want))
def test_a_hop_before_the_end_passes_on_its_rows_and_all_that_came_with_them(want: Want):
    one, timings = seat(Span(0, 2)), (Timing(0, 0.1, 0.2),)
    chunk = Chunk(3, 0, 4, want, token_ids=(1, 2, 3, 4), drafts=(4,), timings=timings)
    (answer,) = run(Runner(tiny.span_model(Span(0, 2))), taken(one, chunk))
    assert isinstance(answer, Chunk) and answer.hidden is not None and answer.hidden.rows == 4
    assert answer == Chunk(3, 0, 4, want, hidden=answer.hidden, drafts=(4,), timings=timings)


def test_the_ends_may_be_the_clients():
    model = tiny.span_model()
    expected = only(run(Runner(model), token_chunk(seat(), PROMPT))[0])
    rows = to_hidden(model.embed(PROMPT), WireDType.F32)
    one = seat(embedded=True, sampling=None)
    (answer,) = run(Runner(tiny.span_model()), hidden_chunk(one, rows, Want.HIDDEN))
    assert isinstance(answer, Chunk) and answer.hidden is not None
    assert int(model.logits(from_hidden(answer.hidden))[-1].argmax()) == expected.token_id


def drafting(runner: Runner, one: Seat, truth: Sequence[int], wrong: Sequence[int]) -> list[int]:
    """The answer in as few passes as its own tokens allow as drafts; those at ``wrong`` are spoiled."""
    tokens: list[Token] = list(run(runner, token_chunk(one, PROMPT, drafts=guess(truth, 0, 3, wrong)))[0])  # type: ignore[arg-type]
    while len(tokens) < len(truth):
        assert [token.position for token in tokens] == list(range(10, 10 + len(tokens)))
        drafts = guess(truth, len(tokens), 3, wrong)
        answer = run(runner, token_chunk(one, [tokens[-1].token_id], drafts=drafts))[0]
        assert isinstance(answer, tuple) and 1 <= len(answer) <= len(drafts) + 1
        assert len({token.step for token in answer}) == 1
        tokens += answer
    return [token.token_id for token in tokens[: len(truth)]]


def guess(truth: Sequence[int], start: int, count: int, wrong: Sequence[int]) -> list[int]:
    return [(truth[i] + 1) % 100 if i in wrong else truth[i] for i in range(start, min(start + count, len(truth)))]


SAMPLED = SamplingParams(
    temperature=1.2, seed=5, presence_penalty=1.0, frequency_penalty=0.5, repetition_penalty=1.3, logprobs=2
)


@pytest.mark.parametrize("params", [SamplingParams(), SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("wrong", [(), (0,), (2,), (1, 4, 5), range(12)], ids=str)
def test_drafts_change_nothing_but_the_number_of_passes(params: SamplingParams, wrong: Sequence[int]):
    def fresh() -> Seat:
        return seat(sampling=params, history=PROMPT)

    truth = [token for token, _ in generate(Runner(tiny.span_model()), fresh(), PROMPT, 12)]
    assert drafting(Runner(tiny.span_model()), fresh(), truth, wrong) == truth


def test_as_many_tokens_come_as_drafts_hold_and_one_more_all_for_the_same_step():
    truth = [token for token, _ in generate(Runner(tiny.span_model()), seat(), PROMPT, 4)]
    for right in range(4):
        one = seat()
        drafts = guess(truth, 0, 3, range(right, 3))
        (answer,) = run(Runner(tiny.span_model()), token_chunk(one, PROMPT, drafts=drafts))
        assert isinstance(answer, tuple)
        assert [(token.step, token.position, token.token_id) for token in answer] == [
            (0, 10 + index, truth[index]) for index in range(right + 1)
        ]


def test_the_runner_leaves_the_history_to_the_books():
    one = seat(sampling=SAMPLED, history=PROMPT)
    Runner(tiny.span_model()).run([token_chunk(one, PROMPT, drafts=[1, 2])])  # type: ignore[list-item]
    assert one.history == list(PROMPT)


def test_drafted_and_plain_seats_share_a_batch():
    truth = generate(Runner(tiny.span_model()), seat(), PROMPT, 3)
    runner, drafted, plain = Runner(tiny.span_model()), seat(pages=(2, 3)), seat(pages=(1, 0))
    drafts = [token for token, _ in truth[:2]]
    first, second = run(runner, token_chunk(drafted, PROMPT, drafts=drafts), token_chunk(plain, PROMPT))
    assert isinstance(first, tuple)
    assert [(token.token_id, token.logprob) for token in first] == truth
    assert (only(second).token_id, only(second).logprob) == truth[0]


def test_a_seat_goes_on_in_other_pages_with_what_it_took_along(alone: list[Drawn]):
    runner, one = Runner(tiny.span_model()), seat(pages=(3, 5))
    token = only(run(runner, token_chunk(one, PROMPT))[0])
    data = bytes(runner.read_pages(one.pages))
    run(runner, token_chunk(seat(pages=(5, 3)), OTHER))  # somebody else has them meanwhile
    one.pages = (7, 2)
    runner.write_pages(one.pages, data)
    runner.copy_page(7, 4)
    one.pages = (4, 2)
    token = only(run(runner, token_chunk(one, [token.token_id]))[0])
    assert (token.token_id, token.logprob) == alone[1]


def test_chunking_does_not_change_the_answer(alone: list[Drawn]):
    runner, one = Runner(tiny.span_model()), seat()
    assert run(runner, token_chunk(one, PROMPT[:3], Want.NOTHING)) == [()]
    assert generate(runner, one, PROMPT[3:], 6) == alone


def test_strangers_in_the_batch_do_not_change_the_answer(alone: list[Drawn]):
    runner = Runner(tiny.span_model())
    mine, theirs = seat(pages=(3, 7)), seat(pages=(1, 0))
    answer, _ = run(runner, token_chunk(mine, PROMPT), token_chunk(theirs, OTHER))
    drawn: list[Drawn] = []
    while len(drawn) < 6:
        token = only(answer)
        drawn.append((token.token_id, token.logprob))
        _, answer = run(runner, token_chunk(theirs, [9, 9], Want.NOTHING), token_chunk(mine, [token.token_id]))
    assert drawn == alone


def through(runners: Sequence[Runner], seats: Sequence[Seat], prompt: Sequence[int], count: int) -> list[Drawn]:
    """As ``generate``, along a Route."""
    drawn: list[Drawn] = []
    feed: Sequence[int] = prompt
    while len(drawn) < count:
        work = token_chunk(seats[0], feed, Want.HIDDEN)
        for runner, one in zip(runners[:-1], seats[1:], strict=True):
            (answer,) = run(runner, work)
            assert isinstance(answer, Chunk) and answer.hidden is not None, answer
            work = hidden_chunk(one, answer.hidden, Want.TOKEN if one is seats[-1] else Want.HIDDEN)
        token = only(run(runners[-1], work)[0])
        drawn.append((token.token_id, token.logprob))
        feed = [token.token_id]
    return drawn


@pytest.mark.parametrize("wire", list(WireDType))
def test_a_route_through_three_peers_gives_the_tokens_of_one(wire: WireDType):
    spans = (Span(0, 1), Span(1, 3), Span(3, 4))
    runners = [Runner(tiny.span_model(span)) for span in spans]
    single = generate(Runner(tiny.span_model()), seat(wire=wire), PROMPT, 6)
    assert through(runners, [seat(span, wire=wire) for span in spans], PROMPT, 6) == single


def test_seats_that_use_different_parts_of_the_span_share_a_batch_and_get_the_bits_of_being_alone():
    spans = (tiny.ALL, Span(1, 3), Span(2, 4), Span(1, 2))
    source = run(Runner(tiny.span_model()), token_chunk(seat(Span(0, 1)), PROMPT, Want.HIDDEN))[0]
    assert isinstance(source, Chunk) and source.hidden is not None

    def work(index: int) -> Work[Seat]:
        one = seat(spans[index], pages=(index,), wire=WireDType.F32)
        if spans[index].start == 0:
            return token_chunk(one, PROMPT, Want.HIDDEN)
        return hidden_chunk(one, source.hidden, Want.HIDDEN)  # type: ignore[arg-type]

    together = run(Runner(tiny.span_model()), *(work(index) for index in range(4)))
    apart = [run(Runner(tiny.span_model()), work(index))[0] for index in range(4)]
    assert together == apart
    assert len({answer.hidden.data for answer in apart if isinstance(answer, Chunk) and answer.hidden}) == 4


def test_a_bf16_session_does_not_round_its_neighbour(alone: list[Drawn]):
    runner = Runner(tiny.span_model())
    mine, coarse = seat(pages=(0, 1)), seat(pages=(2, 3), wire=WireDType.BF16)
    first, _ = run(runner, token_chunk(mine, PROMPT), token_chunk(coarse, PROMPT))
    assert (only(first).token_id, only(first).logprob) == alone[0]


def test_a_bf16_session_has_its_own_bits(alone: list[Drawn]):
    assert generate(Runner(tiny.span_model()), seat(wire=WireDType.BF16), PROMPT, 6) != alone


def test_nan_faults_its_own_seat_only_and_its_pages_are_safe_for_the_next_tenant():
    span = Span(2, 4)
    good = Hidden(WireDType.F32, 1, 64, b"\x00\x00\x80\x3f" * 64)
    bad = Hidden(WireDType.F32, 1, 64, NAN + b"\x00\x00\x80\x3f" * 63)
    expected = run(Runner(tiny.span_model(span)), hidden_chunk(seat(span), good, Want.TOKEN))
    runner = Runner(tiny.span_model(span))
    answers = run(
        runner,
        hidden_chunk(seat(span, pages=(0,)), good, Want.TOKEN),
        hidden_chunk(seat(span, pages=(1,)), bad, Want.TOKEN),
    )
    assert answers[0] == expected[0]
    assert isinstance(answers[1], BadNumbers)
    assert run(runner, hidden_chunk(seat(span, pages=(1,)), good, Want.TOKEN)) == expected


class Failing:
    """A model whose Blocks turn every row that holds a 7 into NaN."""

    top_k = staticmethod(reference.top_k)
    config = types.SimpleNamespace(num_blocks=4)

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(token_ids, dtype=torch.float32).view(-1, 1).repeat(1, 64)

    def run(self, span: Span, x: torch.Tensor, seats: object, rounded: object) -> torch.Tensor:
        return torch.where(x == 7, torch.nan, x)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("want", list(Want))
def test_numbers_that_go_bad_on_the_way_fault_their_seat_whatever_it_wants(want: Want):
    runner = Runner(Failing())  # type: ignore[arg-type]
    good, bad = run(runner, token_chunk(seat(), [1, 2], want), token_chunk(seat(), [1, 7], want))
    assert not isinstance(good, Fault)
    assert isinstance(bad, BadNumbers)


def test_sampling_is_keyed_by_seed_and_position():
    params = SamplingParams(temperature=1.5, seed=7)
    first = generate(Runner(tiny.span_model()), seat(sampling=params), PROMPT, 6)
    again = generate(Runner(tiny.span_model()), seat(sampling=params), PROMPT, 6)
    other = generate(Runner(tiny.span_model()), seat(sampling=SamplingParams(temperature=1.5, seed=8)), PROMPT, 6)
    assert first == again != other


def test_penalties_see_what_was_sampled_here():
    params = SamplingParams(presence_penalty=2.0, frequency_penalty=2.0, repetition_penalty=50.0)
    ids = [token for token, _ in generate(Runner(tiny.span_model()), seat(sampling=params, history=PROMPT), PROMPT, 12)]
    assert len(set(ids)) == len(ids), "nothing is said twice under such penalties"
    assert not set(ids) & set(PROMPT)


def test_logprobs_come_on_demand():
    (plain,) = run(Runner(tiny.span_model()), token_chunk(seat(sampling=SamplingParams()), PROMPT))
    (asked,) = run(Runner(tiny.span_model()), token_chunk(seat(sampling=SamplingParams(logprobs=3)), PROMPT))
    plain, asked = only(plain), only(asked)
    assert (plain.logprob, plain.top) == (None, ())
    assert len(asked.top) == 3 and asked.top[0] == (asked.token_id, asked.logprob)
    assert asked.token_id == plain.token_id


def test_a_seat_whose_drawing_fails_leaves_its_neighbours_alone(monkeypatch: pytest.MonkeyPatch):
    def clumsy(logits: torch.Tensor, params: SamplingParams, *rest: Any) -> Any:
        if params.seed == 13:
            raise IndexError("index out of range")
        return draw(logits, params, *rest)

    monkeypatch.setattr("model.sampler.draw", clumsy)
    good, unlucky = seat(pages=(0,)), seat(pages=(1,), sampling=SamplingParams(seed=13))
    answers = run(Runner(tiny.span_model()), token_chunk(good, PROMPT), token_chunk(unlucky, PROMPT))
    assert only(answers[0])
    assert isinstance(answers[1], Internal) and "IndexError" in str(answers[1])


def test_a_penalty_that_makes_numbers_infinite_faults_its_own_seat_only():
    class Loud(Failing):
        def logits(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, 3e38)

    params = SamplingParams(repetition_penalty=0.01)
    answers = run(
        Runner(Loud()),  # type: ignore[arg-type]
        token_chunk(seat(), [1, 2]),
        token_chunk(seat(sampling=params, history=(1, 2)), [1, 2]),
    )
    assert only(answers[0])
    assert isinstance(answers[1], BadNumbers)
