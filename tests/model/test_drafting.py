from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from kernels.types import PAGE_SIZE, SeatRows
from model.drafting import CHUNK, DraftModel
from model.sampler import draw
from swarm.draft import Drafter
from swarm.errors import ModelNotFound, UsageError
from swarm.sampling import SamplingParams
from tests.support.checkpoints import make_checkpoint

VOCAB = 128
LONG = 400


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("draft"), num_hidden_layers=2, max_position_embeddings=LONG)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def fresh(directory: Path, cache: Path) -> DraftModel:
    return DraftModel.load(str(directory), VOCAB, cache_dir=cache)


@pytest.fixture
def model(directory: Path, cache: Path) -> DraftModel:
    return DraftModel.load(str(directory), VOCAB, cache_dir=cache)


def tokens(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=count)


def alone(fresh: DraftModel, history: list[int], count: int) -> tuple[int, ...]:
    """The guesses of the same model that has computed nothing before, by plain decoding: token after token, no KV."""
    span_model, known = fresh._model, list(history)
    pages = tuple(range(-(-(len(history) + count) // PAGE_SIZE)))
    for _ in range(count):
        x = span_model.run(span_model.span, span_model.embed(known), [SeatRows(pages, 0, len(known))])
        known.append(draw(span_model.logits(x[-1:])[0], SamplingParams(), 0, (), 0).token_id)
    return tuple(known[len(history) :])


def test_it_guesses_its_own_greedy_answer(model: DraftModel, fresh: DraftModel):
    model.append(tokens(CHUNK + 7))
    assert model.propose(5) == alone(fresh, tokens(CHUNK + 7), 5)
    assert model.propose(5) == alone(fresh, tokens(CHUNK + 7), 5)  # a question changes nothing


def test_nothing_is_guessed_of_nothing(model: DraftModel):
    assert model.propose(3) == ()
    model.append([1])
    assert model.propose(0) == () and len(model.propose(1)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_accepted_rejected_or_taken_back_the_guesses_are_the_history_s(
    model: DraftModel, fresh: DraftModel, seed: int
):
    chance = random.Random(seed)
    history = tokens(20, seed)
    model.append(history)
    for _ in range(12):
        move = chance.choice(["accept", "reject", "append", "rollback", "prepare", "again"])
        guesses = model.propose(chance.randrange(1, 5))
        assert guesses == alone(fresh, history, len(guesses))
        more: list[int] = []
        if move == "accept":
            more = [*guesses, chance.randrange(VOCAB)]
        elif move == "reject":
            more = [*guesses[: len(guesses) // 2], (guesses[len(guesses) // 2] + 1) % VOCAB]
        elif move == "append":
            more = tokens(chance.randrange(40), seed + 99)
        elif move == "rollback":
            del history[chance.randrange(len(history)) + 1 :]
            model.rollback(len(history))
        elif move == "again":
            model.rollback(0)
            model.append(history)
        else:
            model.prepare()
        model.append(more)
        history += more
        assert len(model) == len(history)


class Counting:
    """Counts rows of a SpanModel."""

    def __init__(self, model: DraftModel, monkeypatch: pytest.MonkeyPatch):
        self.rows = 0
        run = model._model.run

        def counted(span: object, x: torch.Tensor, *rest: object) -> torch.Tensor:
            self.rows += len(x)
            return run(span, x, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(model._model, "run", counted)

    def take(self) -> int:
        rows, self.rows = self.rows, 0
        return rows


def test_what_was_computed_is_not_computed_again(model: DraftModel, monkeypatch: pytest.MonkeyPatch):
    count = Counting(model, monkeypatch)
    model.append(tokens(50))
    model.prepare()
    assert count.take() == 49
    guesses = model.propose(4)
    assert count.take() == 1 + 3
    model.append([*guesses, 5])  # all right; the last of them was never fed
    model.propose(1)
    assert count.take() == 2
    model.append([(model.propose(3)[0] + 1) % VOCAB])  # all wrong
    count.take()
    model.propose(2)
    assert count.take() == 2
    history = [*tokens(50), *guesses]
    model.rollback(0)
    model.append([*history, 9, 9])  # the next turn of a conversation
    model.propose(1)
    assert count.take() == 2


def test_past_its_positions_it_is_silent(model: DraftModel, fresh: DraftModel):
    history = tokens(LONG - 2)
    model.append(history)
    assert model.propose(9) == alone(fresh, history, 3) and model.capacity == LONG
    model.append([1, 2])
    assert len(model.propose(9)) == 1
    model.append(tokens(40))
    model.prepare()
    assert model.propose(9) == ()
    model.rollback(30)
    assert model.propose(2) == alone(fresh, history[:30], 2)


def test_memory_for_fewer_tokens_is_enough_for_fewer_tokens(directory: Path, cache: Path):
    small = DraftModel.load(str(directory), VOCAB, max_tokens=64, cache_dir=cache)
    small.append(tokens(63))
    assert small.capacity == 64 and len(small.propose(9)) == 2


def test_another_vocabulary_is_refused_before_weights_are_read(
    directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    def read(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("model.drafting.SpanModel.load", read)
    with pytest.raises(UsageError, match=r"has 128 token ids, the model it is to guess at has 32000"):
        DraftModel.load(str(directory), 32000, cache_dir=cache)


def test_a_checkpoint_that_is_not_there_is_a_model_error(tmp_path: Path):
    with pytest.raises(ModelNotFound):
        DraftModel.load(str(tmp_path / "nothing"), VOCAB)


def test_a_drafter_with_a_model_guesses_what_no_lookup_could(model: DraftModel, fresh: DraftModel):
    history = tokens(30)
    drafter = Drafter(history, 4, model)
    answer = alone(fresh, history, 40)
    steps = done = 0
    while done < len(answer):
        guesses = drafter.propose(len(answer) - done - 1)
        assert guesses == answer[done : done + len(guesses)]
        drafter.append(answer[done : done + len(guesses) + 1])
        drafter.accepted(len(guesses), len(guesses))
        done += len(guesses) + 1
        steps += 1
    assert steps <= 20
