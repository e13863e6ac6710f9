"""What a user hears whose machine has no Triton, no CUDA or no such GPU; none is needed to test that."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from kernels.cuda import open_device
from swarm.errors import UsageError


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has all it takes, and one GPU."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    for name, value in (
        ("is_available", True), ("device_count", 1), ("current_device", 0),
        ("get_device_capability", (9, 0)), ("get_device_name", "Fake GPU"),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)


def test_without_triton_the_user_hears_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'shoal\[cuda\]'"):
        open_device()


@pytest.mark.usefixtures("gpu")
def test_a_torch_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UsageError, match=f"a torch with CUDA and this is {torch.__version__.split('+')[0]}"):
        open_device()


@pytest.mark.usefixtures("gpu")
def test_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no GPU"):
        open_device()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["cuda:1", "cpu", "gpu", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(name: str):
    with pytest.raises(UsageError, match=f"--device is '{name}', expected"):
        open_device(name)


@pytest.mark.usefixtures("gpu")
def test_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    with pytest.raises(UsageError, match=r"capability 7\.5, expected 8\.0 or newer"):
        open_device()
