"""Bad data that a training meets on its way: files that are left out and counted, and losses that are no numbers."""

import math
import os
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, List, Tuple

import torch
from fairseq.logging import metrics
from torch import Tensor

from distill_user_dir.data.dataset import DistillationDataset
from distill_user_dir.files import write_lines

NEW = "left_out"  # in what a batch logs: the files that have turned out bad since the batch before


class BadFiles:
    """The utterances of all splits that were left out, over all workers and each once."""

    def __init__(self, max_share: float, datasets: Dict[str, DistillationDataset]):
        self.max_share, self.datasets = max_share, datasets
        self.known = 0

    def found(self) -> int:
        return sum(int(dataset.bad.sum()) for dataset in self.datasets.values())

    def note(self, log: Dict[str, Any]) -> Dict[str, Any]:
        """A batch's log, with what this worker has found."""
        return {**log, NEW: self.found() - self.known} if self.max_share > 0 else log

    def count(self, logging_outputs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Logs `left_out`, the number so far; ValueError where it is above the share. Returns what the criterion has
        logged. All workers call it with the same sum of logs, and so with the same outcome."""
        if self.max_share <= 0:
            return logging_outputs
        if sum(int(log.get(NEW, 0)) for log in logging_outputs) > 0:
            self.share()
            self.known = self.found()
            total = sum(len(dataset) for dataset in self.datasets.values())
            if self.known > self.max_share * total:
                raise ValueError(
                    f"{self.known} of {total} utterances are bad, more than task.max_bad_share={self.max_share:g}; "
                    "the log names them (`left out:`): restore them, or take them off the manifests"
                )
        metrics.log_scalar(NEW, self.known, weight=0, priority=900)
        return [{key: value for key, value in log.items() if key != NEW} for log in logging_outputs]

    def share(self) -> None:
        """What one worker has found, all know."""
        if not torch.distributed.is_initialized():
            return
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        for split in sorted(self.datasets):
            bad = self.datasets[split].bad
            everywhere = bad.to(device, torch.uint8)
            torch.distributed.all_reduce(everywhere, torch.distributed.ReduceOp.MAX)
            bad |= everywhere.to("cpu", torch.bool)


def without_fillers(sample: Dict[str, Any], size: Any, log: Dict[str, Any]) -> Tuple[Any, Dict[str, Any]]:
    """A batch's sample size and log; nothing but zeros where it only filled a worker's place."""
    if not sample.get("filler", False):
        return size, log
    return size * 0, {key: value * 0 for key, value in log.items()}


class LossWatch:
    """Ends the run at a loss that is no number, as soon as the CPU learns of it without waiting for the device."""

    def __init__(self, save_dir: str):
        self.save_dir = save_dir
        self.pending: Deque[Tuple[Any, Tensor, Callable[[float], ValueError]]] = deque()

    def watch(self, loss: Tensor, ids: Tensor, update: int, dataset: DistillationDataset) -> None:
        """Notes the loss of the batch with these utterances."""
        value = loss.detach().to("cpu", non_blocking=True, copy=True)
        there = torch.cuda.Event() if loss.is_cuda else None
        if there is not None:
            there.record()
        self.pending.append((there, value, partial(not_finite, ids, dataset, self.save_dir, update)))

    def check(self) -> None:
        """ValueError for the first loss that has come and is no number."""
        while self.pending and (self.pending[0][0] is None or self.pending[0][0].query()):
            _, value, error = self.pending.popleft()
            if not math.isfinite(value):
                raise error(float(value))


def not_finite(ids: Tensor, dataset: DistillationDataset, save_dir: str, update: int, loss: float) -> ValueError:
    """The error of a loss that is no number; the batch's utterances are written to a file in `save_dir`."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    path = os.path.join(save_dir, f"nonfinite_update{update}_rank{rank}.tsv")
    os.makedirs(save_dir, exist_ok=True)
    write_lines(path, [f"{index}\t{dataset.path_of(index)}" for index in ids.tolist()])
    return ValueError(
        f"update {update}: the loss of a batch is {loss}; its {len(ids)} utterances are in {path}: "
        "look at their audio and labels, or lower optimization.lr"
    )
