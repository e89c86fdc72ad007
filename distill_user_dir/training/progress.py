"""The progress of a training, for people: a line that goes on, one for each validation, and the result last.

It takes the place of fairseq's log on the terminal where `common.log_format` is not set; the log is in
`{checkpoint.save_dir}/train.log`.
"""

import contextlib
import os
import shutil
import sys
import time
from typing import Any, Dict, Iterator, Optional

from fairseq import checkpoint_utils
from fairseq.distributed.utils import get_global_rank
from fairseq.logging import progress_bar
from omegaconf import open_dict
from tqdm import tqdm

from distill_user_dir.machine import need
from distill_user_dir.quiet import ForPeople, quiet_terminal

SHOWN = {"loss": "loss {:.4g}", "agreement": "agreement {:.3f}", "wer": "WER {:.2f}%"}


def shown(stats: Dict[str, Any]) -> str:
    """What is read first of fairseq's statistics, in their units."""
    values = ((form, progress_bar.format_stat(stats[name])) for name, form in SHOWN.items() if name in stats)
    return ", ".join(form.format(float(value)) for form, value in values if value not in ("None", None))


class Progress:
    """What has been done of a training, on stdout: by one line that changes on a terminal, else by a line each."""

    def __init__(self, cfg: Any):
        self.most, self.save_dir = int(cfg.optimization.max_update), cfg.checkpoint.save_dir
        self.metric = cfg.checkpoint.best_checkpoint_metric
        self.live, self.start = sys.stdout.isatty(), time.time()

    def show(self, text: str, stays: bool = True) -> None:
        if get_global_rank() != 0:
            return
        end = "\n" if stays or not self.live else ""
        if self.live and not stays:
            text = text[: shutil.get_terminal_size().columns - 1]  # a second row could not be taken back
        with contextlib.suppress(OSError, ValueError):  # a terminal that was closed is no reason to end a training
            print(f"\r\033[K{text}" if self.live else text, end=end, flush=True)

    def trained(self, update: int, stats: Dict[str, Any]) -> None:
        """update: the number of those that are done; stats: fairseq's, by name, with `ups`, updates a second."""
        rate = float(progress_bar.format_stat(stats.get("ups") or 0))
        of = f" of {self.most}" if self.most > 0 else ""
        parts = [f"update {update}{of}: {shown(stats)}"]
        if rate > 0:
            parts.append(f"{rate:.3g} updates/s")
        if rate > 0 and self.most > 0:
            parts.append(f"{tqdm.format_interval((self.most - update) / rate)} left")
        self.show(", ".join(parts), stays=False)

    def validated(self, update: int, stats: Dict[str, Any], split: str) -> None:
        self.show(f"update {update}, validation on {split}: {shown(stats) or 'first stage, not compared'}")

    def end(self) -> None:
        """The result: the best checkpoint of all, and where it lies."""
        best = getattr(checkpoint_utils.save_checkpoint, "best", None)
        path = os.path.join(self.save_dir, "checkpoint_best.pt")
        told = f"done in {tqdm.format_interval(time.time() - self.start)}"
        if best is not None and os.path.exists(path):
            told += f"; best {self.metric} {best:.4g}: {path}"
        self.show(told)


class Line(progress_bar.SimpleProgressBar):
    """fairseq's bar, whose lines go to the log alone; it is made anew for each epoch and each validation."""

    progress: Progress

    def __init__(self, iterable: Any, epoch: Any = None, prefix: Any = None, log_interval: int = 1):
        super().__init__(iterable, epoch, prefix, log_interval)
        self.split = (prefix or "").partition("'")[2].partition("'")[0]

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            if self.split and self.progress.live:
                self.progress.show(f"validation on {self.split}: batch {self.i + 1} of {self.size}", stays=False)
            yield batch

    def log(self, stats: Dict[str, Any], tag: Any = None, step: Any = None) -> None:
        super().log(stats, tag, step)
        if step and step % self.log_interval == 0:
            self.progress.trained(int(step), stats)

    def print(self, stats: Dict[str, Any], tag: Any = None, step: Any = None) -> None:
        super().print(stats, tag, step)
        if self.split:
            self.progress.validated(int(step), stats, self.split)


def take_over(cfg: Any) -> Optional[Progress]:
    """fairseq's bars become lines, its log goes to a file; None where the recipe wants the log. cfg: fairseq's."""
    if cfg.common.tensorboard_logdir:
        need("tensorboard", "tensorboard")
    logs = cfg.job_logging_cfg if "job_logging_cfg" in cfg else None  # hydra's, which fairseq puts in place
    if cfg.common.log_format is not None or not logs or not {"handlers", "formatters"} <= set(logs):
        return None
    if not {"console", "file"} <= set(logs.handlers):  # a recipe's own way to log
        return None
    cfg.common.log_format = "simple"
    progress_bar.SimpleProgressBar, Line.progress = Line, Progress(cfg)
    quiet_terminal()
    os.makedirs(cfg.checkpoint.save_dir, exist_ok=True)
    with open_dict(cfg):
        logs.filters = {"for_people": {"()": f"{ForPeople.__module__}.ForPeople"}}
        logs.formatters.plain = {"format": "%(message)s"}
        logs.handlers.console.formatter = "plain"
        logs.handlers.console.filters = ["for_people"]
        logs.handlers.file.filename = os.path.join(cfg.checkpoint.save_dir, "train.log")
    return Line.progress
