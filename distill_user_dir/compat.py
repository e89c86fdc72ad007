"""Every difference between the two fairseq distributions, and between torch versions, each with its reason.

What differs in YAML is in the recipes: see `_self_.yaml` beside them.
"""

import dataclasses
import importlib
import inspect
import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import Any, Callable
from unittest import mock

import fairseq
import hydra
from fairseq.dataclass import FairseqDataclass, configs

NULL_PATH = "None"  # what hydra 1.0 makes of a null where a path is expected


def import_fairseq_infer(wrapped: Callable[[Callable], Callable]) -> Any:
    """fairseq's infer module, its hydra job `wrapped`. What it needs to be imported is in place for the import only.

    - `examples` lies inside fairseq's package, and is imported as if it lay beside it.
    - hydra 1.3 takes no Path for a config_path, and wants to be told whose rules hold.
    - hydra 1.0 finds an absolute config_path for scripts only.
    - Python 3.11 refuses dataclass instances as defaults, unless their class has a hash.
    """
    home, dataclass, hydra_main = os.path.dirname(fairseq.__file__), dataclasses.dataclass, hydra.main

    def main(config_path: Any, **options: Any) -> Callable:
        if "version_base" in inspect.signature(hydra_main).parameters:
            options["version_base"] = "1.1"  # the last with hydra 1.0's rules, by which fairseq's YAMLs are written
        return lambda function: hydra_main(config_path=str(config_path), **options)(as_script(wrapped(function)))

    with mock.patch.object(sys, "path", [home, *sys.path]):
        package = importlib.import_module("examples")
    if os.path.join(home, "examples") not in package.__path__:
        raise ImportError(f"a package `examples` is imported already, and it is not fairseq's: {package}")
    importlib.import_module("examples.speech_recognition")  # whatever can be is imported unpatched
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(hydra, "main", main))
        stack.enter_context(mock.patch.object(dataclasses, "dataclass", partial(dataclass, unsafe_hash=True)))
        for config in vars(configs).values():
            if isinstance(config, type) and issubclass(config, FairseqDataclass):
                stack.enter_context(mock.patch.object(config, "__hash__", object.__hash__))
        return importlib.import_module("examples.speech_recognition.new.infer")


def keep_workers(old: Any, new: Any) -> None:
    """The batch iterator of an epoch takes over the data workers of that of the epoch before, where it has them."""
    name = "epoch_batch_sampler" if hasattr(old, "epoch_batch_sampler") else "batch_sampler"  # fairseq 0.12.2's
    if old.dataloader is None or old.dataset is not new.dataset:
        return
    sampler, begin = getattr(old, name), new.next_epoch_itr
    sampler.ordered_batches = new.ordered_batches
    setattr(new, name, sampler)
    new.dataloader = old.dataloader

    def next_epoch_itr(shuffle: bool = True, **options: Any) -> Any:
        sampler.shuffle = shuffle  # fairseq's is the first epoch's
        return begin(shuffle=shuffle, **options)

    new.next_epoch_itr = next_epoch_itr


def as_script(job: Callable) -> Callable:
    job.__module__ = "__main__"
    return job
