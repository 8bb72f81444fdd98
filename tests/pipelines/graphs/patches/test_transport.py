"""Tensors between two places, here two threads."""

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.graphs.patches.transport import GroupTransport, TransferError

CPU = torch.device("cpu")


def test_swaps_and_transfers_arrive_in_order(tmp_path: Path) -> None:
    found: dict[int, list[Tensor]] = {}

    def meet(place: int) -> None:
        transport = GroupTransport(tmp_path, place, CPU, 60.0)
        waits = [transport.swap(torch.full((2, 3), float(10 * place + index))) for index in range(3)]
        found[place] = [wait() for wait in waits]
        if place == 0:
            transport.send(torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T)  # in another layout
        else:
            found[place].append(transport.receive((3, 2), torch.bfloat16))

    other = threading.Thread(target=meet, args=(1,))
    other.start()
    meet(0)
    other.join(60.0)
    assert [int(value[0, 0]) for value in found[0]] == [10, 11, 12]
    assert [int(value[0, 0]) for value in found[1][:3]] == [0, 1, 2]
    assert found[1][3].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_nobody_else_is_an_error_within_the_limit(tmp_path: Path) -> None:
    with pytest.raises(TransferError):
        GroupTransport(tmp_path, 0, CPU, 0.2)


def test_no_answer_is_an_error_within_the_limit(tmp_path: Path) -> None:
    met: dict[int, GroupTransport] = {}

    def meet(place: int) -> None:
        met[place] = GroupTransport(tmp_path, place, CPU, 5.0)

    other = threading.Thread(target=meet, args=(1,))
    other.start()
    meet(0)
    other.join(60.0)
    met[0].seconds = 0.1
    with pytest.raises(TransferError):
        met[0].receive((1,), torch.float32)
