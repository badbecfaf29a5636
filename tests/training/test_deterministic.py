"""cuDNN is deterministic while a network trains, whatever others that train beside it do."""

import pytest
from torch.backends import cudnn

from hardtune.training.deterministic import deterministic


def flags():
    return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32


@pytest.fixture
def chosen(monkeypatch):
    """What somebody has set for the rest of their program."""
    for flag, value in (("benchmark", True), ("deterministic", False), ("allow_tf32", False)):
        monkeypatch.setattr(cudnn, flag, value)


def test_who_comes_first_and_goes_first_takes_it_from_nobody_and_the_last_puts_it_back(chosen):
    for _ in range(2):
        first, second = deterministic(), deterministic()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert flags() == (False, True, False)
        second.__exit__(None, None, None)
        assert flags() == (True, False, False)
