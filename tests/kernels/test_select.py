from __future__ import annotations

import sys

import pytest

import kernels
from kernels import Kernels, choose, reference, select
from swarm.errors import UsageError
from tests.support.panel_kernels import FakeNative, fake_native


@pytest.fixture
def native():
    with fake_native() as fake:
        yield fake


@pytest.fixture
def no_native(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "kernels.native", None)  # importing it fails
    for function in (kernels._native, kernels._warn):
        function.cache_clear()
    yield
    for function in (kernels._native, kernels._warn):
        function.cache_clear()


def test_the_best_that_runs_here_is_chosen_with_the_threads_it_may_use(native: FakeNative):
    assert select(threads=3, environ={}).layout == "panels"
    assert native.opened == [("avx2", 3)]


def test_without_a_number_of_threads_there_is_one_a_core(native: FakeNative):
    select(environ={})
    assert native.opened[0][1] >= 1


def test_a_name_or_the_environment_forces_one(native: FakeNative):
    select(environ={"SHOAL_ISA": "portable"}, threads=1)
    select("portable", threads=2, environ={"SHOAL_ISA": "avx2"})
    assert native.opened == [("portable", 1), ("portable", 2)]
    assert select(environ={"SHOAL_ISA": "reference"}) is reference
    select(environ={"SHOAL_ISA": ""}, threads=4)
    assert native.opened[2:] == [("avx2", 4)]


def test_what_cannot_run_here_is_refused_with_what_can(native: FakeNative):
    with pytest.raises(UsageError, match=r"'avx512'.*avx2, portable, reference$"):
        select(environ={"SHOAL_ISA": "avx512"})


def test_without_the_extension_the_reference_runs_and_says_so_once(no_native: None, caplog: pytest.LogCaptureFixture):
    assert select(environ={}) is reference and select(environ={}) is reference
    assert len(caplog.records) == 1 and "install a C++20 compiler" in caplog.text


def test_who_asks_for_a_native_one_hears_why_there_is_none_and_no_warning(
    no_native: None, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(UsageError, match=r"expected one of: reference; the native kernels cannot be loaded \(.+\)$"):
        select("avx2", environ={})
    assert not caplog.records


def test_threads_that_the_system_refuses_are_the_users_to_ask_fewer_of(
    native: FakeNative, monkeypatch: pytest.MonkeyPatch
):
    def refuse(name: str, threads: int) -> Kernels:
        raise RuntimeError(f"threads: the system refuses {threads} (no more)")

    monkeypatch.setattr(native, "open", refuse)
    kernels._native.cache_clear()
    with pytest.raises(UsageError, match=r"the system refuses 64 \(no more\); ask for fewer --threads"):
        select(threads=64, environ={})


def test_who_asks_for_the_reference_hears_nothing_of_the_extension(no_native: None, caplog: pytest.LogCaptureFixture):
    assert select("reference") is reference and not caplog.records


def test_the_reference_offers_what_it_promises():
    assert reference.name == "reference" and reference.layout == "rows"
    functions = [name for name, value in vars(Kernels).items() if callable(value) and not name.startswith("_")]
    assert sorted(functions) == sorted(reference.__all__)
    assert all(callable(getattr(reference, name)) for name in functions)


def test_a_choice_is_a_matter_of_what_is_there():
    assert choose(None, ()) == "reference"
    assert choose(None, ("avx512", "portable")) == "avx512"
    assert choose("reference", ("avx512",)) == "reference"
