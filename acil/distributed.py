"""The processes that torchrun started for one run, and what passes between them: exact copies and integer sums."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from acil.errors import RankLostError
from acil.head import ExactHead

# The first rank may train a backbone for days before it has something to say. torchrun ends those who wait for a
# dead rank.
PATIENCE = timedelta(days=30)
# Between ranks that all work on their shares.
TIMEOUT = timedelta(minutes=30)
# Rows of the autocorrelation that are summed at a time: what lies below their diagonal block is not sent.
SUMMED_ROWS = 1_024

TORCHRUN_VARIABLES = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "RANK", "MASTER_ADDR", "MASTER_PORT")

T = TypeVar("T")


class Ranks:
    """The processes of one run: each extracts and learns its share of every phase, and the moments are added up.

    Avalanche cuts data into shares of its own wherever a process group exists; base training must therefore be over
    before ``connect``. Until then the ranks talk through torchrun's store (``from_first``).

    Args:
        rank: number of this process; the first one, 0, does what cannot be shared.
        size: how many processes there are.
        local_rank: number of this process on its machine.
        local_size: how many of them its machine runs.
        machine: number of the machine.
        store: torchrun's key-value store.
    """

    def __init__(self, rank: int, size: int, local_rank: int, local_size: int, machine: int, store: Store) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.local_size = local_size
        self.machine = machine
        self._store = store
        self._messages = 0
        self._threads = torch.get_num_threads()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that does what cannot be shared."""
        return self.rank == 0

    @classmethod
    def of_torchrun(cls) -> Ranks | None:
        """The ranks that torchrun started; None where it did not, or started only one.

        Every rank of a machine with GPUs gets one of its own as "cuda".

        Raises:
            ValueError: only some of torchrun's variables are set.
            RankLostError: torchrun's store does not answer.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return None
        missing = [name for name in TORCHRUN_VARIABLES if name not in os.environ]
        if missing:
            raise ValueError(f"WORLD_SIZE is set, but not {', '.join(missing)}; start the ranks with torchrun")
        with _gives_up_lost_ranks():
            store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        local_rank, local_size, machine = (int(os.environ[name]) for name in TORCHRUN_VARIABLES[:3])
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank % torch.cuda.device_count())
        return cls(rank, size, local_rank, local_size, machine, store)

    def from_first(self, value: T | None = None) -> T:
        """The first rank's value, on every rank; whoever waits for it uses no processor.

        Args:
            value: something small that can be pickled; only the first rank's counts.
        """
        self._messages += 1
        key = f"acil/message/{self._messages}"
        if self.is_first:
            self._tell(key, pickle.dumps(value).hex())
            return value  # type: ignore[return-value]
        return pickle.loads(bytes.fromhex(self._awaited(key)))  # type: ignore[no-any-return]

    @contextmanager
    def first_of_machine_first(self) -> Iterator[None]:
        """Lets one rank of each machine do something, such as filling a cache, before the others do it."""
        key = f"acil/machine/{self.machine}"
        if self.local_rank:
            self._awaited(key)
        yield
        if not self.local_rank:
            self._tell(key, "done")

    def connect(self, timeout: timedelta = TIMEOUT) -> None:
        """Open the connections that the following methods use, once all ranks have come here.

        Args:
            timeout: how long a rank waits in any of these methods for the others, before it gives them up.
        """
        self._threads = self.from_first(self._threads)
        with _gives_up_lost_ranks():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                timeout=timeout,
                store=PrefixStore("acil/group", self._store),
                rank=self.rank,
                world_size=self.size,
            )

    def leave(self) -> None:
        """Close the connections."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def all_processors(self) -> AbstractContextManager[None]:
        """For work of the first rank alone: as many threads as a process of its own has."""
        return _threads(self._threads)

    def sharing_processors(self) -> AbstractContextManager[None]:
        """For work of all ranks at once: the threads of one process, divided among the ranks of a machine."""
        return _threads(max(1, self._threads // self.local_size))

    def share(self, count: int) -> range:
        """Which of ``count`` items belong to this rank: every ``size``-th."""
        return range(self.rank, count, self.size)

    def copy_first(self, *modules: nn.Module) -> None:
        """Give every rank's modules the state of the first rank's."""
        for module in modules:
            state = {name: tensor.cpu() for name, tensor in module.state_dict().items()} if self.is_first else None
            message = [state]
            with _gives_up_lost_ranks():
                dist.broadcast_object_list(message, src=0)
            if not self.is_first:
                module.load_state_dict(message[0] or {})

    def gather(self, columns: Sequence[Tensor]) -> list[Tensor]:
        """All rows in their original order, on every rank's CPU, bit for bit.

        Args:
            columns: tensors (m, ...) of this rank's share, with rows that belong together at equal places; none
                where the share is empty.
        """
        shares = self._of_all([column.cpu() for column in columns])
        return [self._interleaved([share[place] for share in shares if share]) for place in range(len(shares[0]))]

    def add_up(self, head: ExactHead) -> None:
        """Make each rank's head hold what all of them have learned: sums of integers, whatever their order."""
        moments, quantizer = head.moments, head.quantizer
        device = moments.classes.device
        classes = torch.unique(torch.cat(self._of_all(moments.classes.cpu()))).to(device)
        places = torch.searchsorted(classes, moments.classes)
        cross_correlation = moments.cross_correlation.new_zeros(len(classes), moments.dim)
        cross_correlation.index_add_(0, places, moments.cross_correlation)
        counts = moments.counts.new_zeros(len(classes)).index_add_(0, places, moments.counts)
        for tensor in (cross_correlation, counts, quantizer.clipped, quantizer.quantized):
            _add_up(tensor)
        for start in range(0, moments.dim, SUMMED_ROWS):
            block = moments.autocorrelation[start : start + SUMMED_ROWS, start:]
            sums = block.contiguous()
            _add_up(sums)
            block.copy_(sums)
        moments.load_state_dict(
            {
                "autocorrelation": moments.autocorrelation,
                "cross_correlation": cross_correlation,
                "counts": counts,
                "classes": classes,
            }
        )

    def _interleaved(self, parts: list[Tensor]) -> Tensor:
        rows = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
        for rank, part in enumerate(parts):
            rows[rank :: self.size] = part
        return rows

    def _of_all(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        with _gives_up_lost_ranks():
            dist.all_gather_object(values, value)
        return values

    def _tell(self, key: str, value: str) -> None:
        with _gives_up_lost_ranks():
            self._store.set(key, value)

    def _awaited(self, key: str) -> str:
        with _gives_up_lost_ranks():
            self._store.wait([key], PATIENCE)
            return self._store.get(key).decode()


def _add_up(tensor: Tensor) -> None:
    with _gives_up_lost_ranks():
        dist.all_reduce(tensor)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _gives_up_lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RankLostError("another rank ended, or did not answer in time") from error
