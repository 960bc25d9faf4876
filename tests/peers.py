"""Processes of a run as threads: the few calls of accelerate that the engine makes between them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

PATIENCE = 10  # seconds that one waits for the others


class Peer:
    """What accelerate is to one of several processes."""

    device = torch.device("cpu")

    def __init__(self, rank, size, barrier, board):
        self.process_index, self.num_processes = rank, size
        self.is_main_process = rank == 0
        self._barrier, self._board = barrier, board
        self.logged = []

    def gather(self, value):
        self._board[self.process_index] = value.detach().clone()
        self._barrier.wait(PATIENCE)
        everything = torch.stack([v.view(()) for v in self._board])
        self._barrier.wait(PATIENCE)
        return everything

    def reduce(self, value, how):
        everything = self.gather(value)
        return everything.sum() if how == "sum" else everything.mean()

    def wait_for_everyone(self):
        self._barrier.wait(PATIENCE)

    def log(self, values, step):
        self.logged.append((step, values))


def alone():
    """A run of one process."""
    return Peer(0, 1, threading.Barrier(1), [None])


def run_together(size, work):
    """Call work(peer) for each of `size` peers at once; the results or exceptions in order."""
    barrier, board = threading.Barrier(size), [None] * size

    def call(rank):
        try:
            return work(Peer(rank, size, barrier, board))
        except Exception as error:  # others that still wait for it give up by themselves
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(call, range(size)))
