"""Decodes a test set: fairseq's examples/speech_recognition/new/infer.py, which answers for every utterance.

    python -m distill_user_dir.infer --config-dir recipes/decode --config-name viterbi \\
        task.data=/data common_eval.path=/ctc/checkpoint_best.pt dataset.gen_subset=test decoding.results_path=/out

Options, YAML files and output files are fairseq's (`wer`, `hypo.word`, `hypo.units`, `ref.word`, `ref.units`); lines
carry the utterance's id, the stem of its file name, in place of fairseq's running number. Besides, in
decoding.results_path (or, where that is not set, in hydra's run folder):

- utterances.tsv  id, word errors, words, char errors, chars, ref, hyp; a line an utterance in the manifest's order
- wer.json        wer and cer in percent with 95% intervals (bootstrap over utterances); decode_seconds, spent in the
                  model and the search, summed over processes and without loading; audio_seconds; rtf, their ratio

A manifest line that is not scored exactly once is an error. Relative paths count from the folder of the call.
Errors are one line and exit status 1; HYDRA_FULL_ERROR=1 shows where they come from.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import json
import logging
import os
import sys
from collections import Counter
from contextlib import ExitStack
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple
from unittest import mock

import fairseq
import hydra
import torch
import torch.distributed as dist
from fairseq import utils
from fairseq.data.data_utils import post_process
from fairseq.dataclass import FairseqDataclass, configs
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from distill_user_dir import checkpoints
from distill_user_dir.audio import write_lines
from distill_user_dir.dataset import check_labels, read_manifest
from distill_user_dir.wer import Errors, bootstrap_interval, corpus_rate, count_errors

logger = logging.getLogger(__name__)

# fairseq-fixed ships this author's path in its conf/infer.yaml; as fairseq takes it, it is nowhere found
LEFTOVER_USER_DIR = "/private/home/abaevski/fairseq-py/examples/data2vec"
HUBERT_TASKS = ("hubert_pretraining", "hubert_distillation")
CTC_TASK = {"fine_tuning": True, "single_target": True}
# hubert_pretraining's own defaults cut each batch to its shortest utterance and leave the transcripts whole
WHOLE_UTTERANCES = {"pad_audio": True, "random_crop": False, "max_sample_size": None}
COLUMNS = ("id", *Errors._fields, "ref", "hyp")


class Scored(NamedTuple):
    """One decoded utterance: its errors, its words, and its length in samples."""

    id: str
    errors: Errors
    reference: str
    hypothesis: str
    samples: int


def utterance_ids(names: Sequence[str]) -> List[str]:
    """Manifest paths -> ids: file stems; if two are the same, paths without extension; if two are the same, paths.

    ValueError where the manifest lists a path twice: its utterance would count twice.
    """
    bare = [os.path.splitext(name)[0] for name in names]
    for ids in ([os.path.basename(name) for name in bare], bare, list(names)):
        if len(set(ids)) == len(ids):
            return ids
    twice = next(name for name, count in Counter(names).items() if count > 1)
    raise ValueError(f"the manifest lists {twice} more than once; take the copies out")


def check_complete(manifest: str, expected: Sequence[str], scored: Sequence[str], verb: str = "scored") -> None:
    """ValueError with counts and first ids unless each expected id was scored once, and no other."""
    counts = Counter(scored)
    missing = [name for name in expected if not counts[name]]
    twice = [name for name in expected if counts[name] > 1]
    parts = [f"{len(expected) - len(missing)} of {len(expected)} utterances {verb}"]
    for kind, names in (("missing", missing), ("more than once", twice)):
        if names:
            more = ", ..." if len(names) > 5 else ""
            parts.append(f"{kind}: {len(names)} ({', '.join(names[:5])}{more})")
    if len(parts) > 1:
        way_out = "task.min_sample_size, task.max_keep_size and dataset.max_tokens must let every one through"
        raise ValueError(f"{manifest}: {'; '.join(parts)}; {way_out}")


def summary(scored: Sequence[Scored], expected: int, decode_seconds: float, sample_rate: int) -> Dict[str, Any]:
    """What wer.json holds: rates in percent, times in seconds."""
    word_errors, words, char_errors, chars = zip(*(one.errors for one in scored))
    audio_seconds = sum(one.samples for one in scored) / sample_rate
    result: Dict[str, Any] = {}
    for key, errors, totals in (("wer", word_errors, words), ("cer", char_errors, chars)):
        result[key] = 100 * corpus_rate(errors, totals)
        result[f"{key}_interval"] = [100 * bound for bound in bootstrap_interval(errors, totals)]
    result.update(utterances_scored=len(scored), utterances=expected)
    result.update(decode_seconds=decode_seconds, audio_seconds=audio_seconds, rtf=decode_seconds / audio_seconds)
    return result


def report(result: Dict[str, Any]) -> str:
    """The last line of a decode."""
    rates = "  ".join(
        "{} {:.2f}% [{:.2f}, {:.2f}]".format(key.upper(), result[key], *result[f"{key}_interval"])
        for key in ("wer", "cer")
    )
    return f"{rates}  {result['utterances_scored']} of {result['utterances']} utterances"


def _add_examples() -> None:
    """Makes `examples` fairseq's own, wherever this runs.

    With fairseq's folder on sys.path its `logging`, `data` and `utils` would be found in place of others' modules.
    """
    folder = os.path.join(os.path.dirname(fairseq.__file__), "examples")
    if "examples" in sys.modules:
        if folder not in sys.modules["examples"].__path__:
            raise ImportError(f"a package `examples` other than {folder} is imported already")
        return
    spec = importlib.util.spec_from_file_location(
        "examples", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    sys.modules["examples"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["examples"])


def _import_fairseq_infer() -> Any:
    """fairseq's infer module. What it needs to be imported is in place during the import, and no longer."""
    dataclass, hydra_main = dataclasses.dataclass, hydra.main

    def hashable_dataclass(cls: Any = None, **options: Any) -> Any:
        return dataclass(cls, **{"unsafe_hash": True, **options})

    def main(config_path: Any, **options: Any) -> Callable:
        if "version_base" in inspect.signature(hydra_main).parameters:
            options["version_base"] = "1.1"  # the last with hydra 1.0's rules, by which fairseq's YAMLs are written
        return lambda function: hydra_main(config_path=str(config_path), **options)(_as_job(function))

    _add_examples()
    importlib.import_module("examples.speech_recognition")  # whatever can be is imported unpatched
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(hydra, "main", main))
        # Python 3.11 refuses dataclass instances as defaults unless their class has a hash
        stack.enter_context(mock.patch.object(dataclasses, "dataclass", hashable_dataclass))
        for config in vars(configs).values():
            if isinstance(config, type) and issubclass(config, FairseqDataclass):
                stack.enter_context(mock.patch.object(config, "__hash__", object.__hash__))
        return importlib.import_module("examples.speech_recognition.new.infer")


def _as_job(function: Callable) -> Callable:
    """fairseq's hydra job, between our checks and our report."""

    def job(cfg: DictConfig) -> Any:
        try:
            prepare(cfg)
            value = function(cfg)
        except (ValueError, FileNotFoundError, OmegaConfBaseException) as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            sys.exit(f"error: {' '.join(str(error).split())}")
        path = os.path.join(cfg.decoding.results_path, "wer.json")
        if os.path.isfile(path):  # not after a crash that common.suppress_crashes kept quiet
            with open(path, encoding="utf-8") as stream:
                print(report(json.load(stream)), flush=True)
        return value

    # hydra 1.0 finds an absolute config_path for scripts only
    job.__module__ = "__main__"
    return job


def prepare(cfg: DictConfig) -> None:
    """Settles in the composed config what has one right value, and checks what it names; ValueError, one line."""
    with open_dict(cfg):
        _settle_paths(cfg)
        _settle_user_dir(cfg.common)
        _settle_task(cfg.task)
        if cfg.dataset.required_batch_size_multiple != 1:
            logger.warning("dataset.required_batch_size_multiple=1: any other number leaves utterances out")
            cfg.dataset.required_batch_size_multiple = 1
    if not cfg.common.cpu and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here: decode on the CPU with common.cpu=true")
    _check_checkpoints(cfg)
    _check_data(cfg)
    os.makedirs(cfg.decoding.results_path, exist_ok=True)
    for name in ("wer.json", "utterances.tsv"):  # a run that fails must not leave another's results
        path = os.path.join(cfg.decoding.results_path, name)
        if os.path.exists(path):
            os.remove(path)
