from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from client.drafter import LocalDrafts
from model.drafting import DraftModel
from swarm.errors import UsageError
from tests.support.checkpoints import make_checkpoint

VOCAB = 128
HISTORY = [5, 9, 5, 9, 5, 9]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("draft"), num_hidden_layers=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def drafts(directory: Path, cache: Path) -> LocalDrafts:
    return LocalDrafts.load(str(directory), VOCAB, cache_dir=cache)


@pytest.fixture(scope="module")
def told(directory: Path, cache: Path) -> tuple[int, ...]:
    """What the model has to say about HISTORY."""
    model = DraftModel.load(str(directory), VOCAB, cache_dir=cache)
    model.append(HISTORY)
    return model.propose(2)


def test_the_first_session_has_the_model_and_the_others_look_up(drafts: LocalDrafts, told: tuple[int, ...]):
    first, second = drafts.take(HISTORY, 4), drafts.take(HISTORY, 4)
    assert drafts.computes(first) and not drafts.computes(second)
    for drafter in (first, second):
        for _ in range(40):
            drafter.pace.begin()
    assert first.propose(2) == told != second.propose(2) == (5, 9)
    drafts.give_back(second)
    assert drafts.computes(first) and not drafts.computes(drafts.take(HISTORY, 4))
    drafts.give_back(first)
    drafts.give_back(first)
    assert not drafts.computes(first) and drafts.computes(drafts.take(HISTORY, 4))


def test_what_a_session_does_after_its_end_disturbs_nobody(drafts: LocalDrafts, told: tuple[int, ...]):
    first = drafts.take([1, 2, 3], 4)
    drafts.give_back(first)
    second = drafts.take(HISTORY, 4)
    first.append([7, 7, 7])
    first.rollback(0)
    for drafter in (first, second):
        for _ in range(40):
            drafter.pace.begin()
    assert first.propose() == ()
    assert second.propose(2) == told and len(drafts._model) == len(HISTORY)
    second.append([1, 2])
    second.rollback(len(HISTORY))
    assert second.propose(2) == told and len(drafts._model) == len(HISTORY)


def test_giving_back_does_not_wait_for_what_is_being_computed(drafts: LocalDrafts, monkeypatch: pytest.MonkeyPatch):
    computing, go_on, order = threading.Event(), threading.Event(), list[str]()

    def slow(_: DraftModel, count: int) -> tuple[int, ...]:
        computing.set()
        assert go_on.wait(30)
        order.append("computed")
        return (0,) * count

    first = drafts.take(HISTORY, 4)
    for _ in range(40):
        first.pace.begin()
    monkeypatch.setattr(DraftModel, "propose", slow)
    thread = threading.Thread(target=first.propose)
    thread.start()
    assert computing.wait(30)
    drafts.give_back(first)
    order.append("given back")
    other = threading.Thread(target=lambda: order.append(str(drafts.computes(drafts.take([1], 4)))))
    other.start()
    go_on.set()
    thread.join(30)
    other.join(30)
    assert order == ["given back", "computed", "True"]


def test_a_prompt_that_cannot_be_computed_gives_the_model_back(drafts: LocalDrafts, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(DraftModel, "prepare", lambda _: [][0])
        with pytest.raises(IndexError):
            drafts.take(HISTORY, 4)
    assert drafts.computes(drafts.take(HISTORY, 4))


def test_another_vocabulary_is_refused_naming_both_sizes(directory: Path, cache: Path):
    with pytest.raises(UsageError, match=r"128 token ids.* 4096"):
        LocalDrafts.load(str(directory), 4096, cache_dir=cache)


def test_importing_it_does_not_import_torch():
    code = "import client.drafter, client.beams, client.choices, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])
