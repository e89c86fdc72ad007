"""Decodes a test set: fairseq's examples/speech_recognition/new/infer.py, which answers for every utterance.

    python -m distill_user_dir.infer --config-dir recipes/decode --config-name viterbi \\
        task.data=/data common_eval.path=/ctc/checkpoint_best.pt dataset.gen_subset=test decoding.results_path=/out

Options, YAML files and output files are fairseq's (`wer`, `hypo.word`, `hypo.units`, `ref.word`, `ref.units`); lines
carry the utterance's id, the stem of its file name, in place of fairseq's running number. Besides, in
decoding.results_path (or, where that is not set, in hydra's run folder):

- utterances.tsv  id, word errors, words, char errors, chars, ref, hyp; a line an utterance in the manifest's order
- wer.json        wer and cer in percent, with 95% intervals (bootstrap over utterances); decode_seconds in model and
                  search, without loading, summed over processes; audio_seconds; rtf, their ratio

A manifest line that is not scored exactly once is an error. Relative paths count from the folder of the call.
Errors are one line and exit status 1, or with HYDRA_FULL_ERROR=1 a traceback.
"""

import dataclasses
import importlib
import inspect
import json
import logging
import os
import sys
import warnings
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple
from unittest import mock

import fairseq
import hydra
import torch
import torch.distributed as dist
from fairseq import utils
from fairseq.data.data_utils import post_process
from fairseq.dataclass import FairseqDataclass, configs
from hydra.utils import to_absolute_path
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from distill_user_dir import checkpoints
from distill_user_dir.audio import write_lines
from distill_user_dir.manifest import check_labels, read_manifest
from distill_user_dir.wer import Scored, check_complete, count_errors, report, summary, table, utterance_ids

logger = logging.getLogger(__name__)

# fairseq-fixed ships this author's path in its conf/infer.yaml; as fairseq takes it, it is nowhere found
LEFTOVER_USER_DIR = "/private/home/abaevski/fairseq-py/examples/data2vec"
HUBERT_TASKS = ("hubert_pretraining", "hubert_distillation")
# hubert_pretraining's own defaults cut each batch to its shortest utterance and leave the transcripts whole
WHOLE_UTTERANCES = {"pad_audio": True, "random_crop": False, "max_sample_size": None}


def _import_fairseq_infer() -> Any:
    """fairseq's infer module. What it needs to be imported is in place during the import, and no longer."""
    home, dataclass, hydra_main = os.path.dirname(fairseq.__file__), dataclasses.dataclass, hydra.main

    def main(config_path: Any, **options: Any) -> Callable:
        if "version_base" in inspect.signature(hydra_main).parameters:
            options["version_base"] = "1.1"  # the last with hydra 1.0's rules, by which fairseq's YAMLs are written
        return lambda function: hydra_main(config_path=str(config_path), **options)(_as_job(function))

    with mock.patch.object(sys, "path", [home, *sys.path]):
        package = importlib.import_module("examples")
    if os.path.join(home, "examples") not in package.__path__:
        raise ImportError(f"a package `examples` is imported already, and it is not fairseq's: {package}")
    importlib.import_module("examples.speech_recognition")  # whatever can be is imported unpatched
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(hydra, "main", main))
        # Python 3.11 refuses dataclass instances as defaults unless their class has a hash
        stack.enter_context(mock.patch.object(dataclasses, "dataclass", partial(dataclass, unsafe_hash=True)))
        for config in vars(configs).values():
            if isinstance(config, type) and issubclass(config, FairseqDataclass):
                stack.enter_context(mock.patch.object(config, "__hash__", object.__hash__))
        return importlib.import_module("examples.speech_recognition.new.infer")


def _exit(error: Exception) -> None:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    sys.exit(f"error: {' '.join(str(error).split())}")


def _as_job(function: Callable) -> Callable:
    """fairseq's hydra job, between our checks and our report."""

    def job(cfg: DictConfig) -> Any:
        try:
            prepare(cfg)
            value = function(cfg)
        except (ValueError, FileNotFoundError, OmegaConfBaseException) as error:
            _exit(error)
        path = Path(cfg.decoding.results_path, "wer.json")
        if path.is_file():  # not after a crash that common.suppress_crashes kept quiet
            print(report(json.loads(path.read_text(encoding="utf-8"))), flush=True)
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
    _clear(cfg.decoding.results_path)
    if not cfg.common.cpu and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here: decode on the CPU with common.cpu=true")
    _check_checkpoints(cfg)
    _check_data(cfg)


def _clear(folder: str) -> None:
    """A run that fails must not leave another's results."""
    os.makedirs(folder, exist_ok=True)
    for name in ("wer", "wer.json", "utterances.tsv"):
        with suppress(FileNotFoundError):
            os.remove(os.path.join(folder, name))


def _is_set(node: DictConfig, key: str) -> bool:
    return key in node and not OmegaConf.is_missing(node, key) and node[key] is not None


def _settle_paths(cfg: DictConfig) -> None:
    """Absolute paths: hydra has changed to its run folder."""
    if cfg.task is None:
        raise ValueError("no task: name a config (--config-dir, --config-name), or add task=hubert_distillation")
    for node, keys in ((cfg.task, ("data", "label_dir")), (cfg.decoding, ("results_path", "lexicon", "lmpath"))):
        for key in keys:
            if _is_set(node, key):
                node[key] = to_absolute_path(node[key])
    for node, key in (("task", "data"), ("common_eval", "path"), ("dataset", "gen_subset")):
        if not _is_set(cfg[node], key):
            raise ValueError(f"{node}.{key} is not set")
    paths = utils.split_paths(cfg.common_eval.path, separator="\\")
    if len(paths) > 1:
        raise ValueError(f"common_eval.path names {len(paths)} checkpoints: CTC decoders use one and ignore the others")
    cfg.common_eval.path = to_absolute_path(paths[0])
    if not _is_set(cfg.decoding, "results_path"):
        cfg.decoding.results_path = os.getcwd()
        if cfg.decoding.results_path.startswith(to_absolute_path("None")):  # hydra 1.0's way to write a null
            raise ValueError("decoding.results_path is not set")


def _settle_user_dir(common: DictConfig) -> None:
    """This package is imported already: under another spelling of its path fairseq would take it for a second one."""
    own = os.path.dirname(os.path.realpath(__file__))
    if common.user_dir in (None, LEFTOVER_USER_DIR):
        common.user_dir = None
        return
    path = os.path.abspath(to_absolute_path(common.user_dir))
    common.user_dir = None if os.path.realpath(path) == own else path
    if common.user_dir and os.path.basename(path) == os.path.basename(own):
        raise ValueError(f"common.user_dir={path} is another copy of {own}, which runs: leave it out, or run that one")


def _settle_task(task: DictConfig) -> None:
    """CTC labels, and whole utterances, for tasks whose defaults are for pre-training."""
    name = task.get("_name")
    if name not in HUBERT_TASKS:
        raise ValueError(f"task {name}: expected {' or '.join(HUBERT_TASKS)}")
    needed = {"fine_tuning": True, "single_target": True, **(WHOLE_UTTERANCES if name == "hubert_pretraining" else {})}
    changed = [key for key, value in needed.items() if key not in task or task[key] != value]
    if changed:
        logger.warning("to decode whole utterances: %s", ", ".join(f"task.{key}={needed[key]}" for key in changed))
    task.update(needed)
    task.labels = task.get("labels") or ["ltr"]


def _check_checkpoints(cfg: DictConfig) -> None:
    """Safe to load, and its audio normalised as it was in training. torch before 2.6 would run what is in a file."""
    path, task, decoding = cfg.common_eval.path, cfg.task, cfg.decoding
    trained = (checkpoints.load(path).get("cfg") or {"task": {}})["task"]
    # hubert_distillation leaves it to the models
    if task["_name"] == "hubert_pretraining" and "normalize" in trained:
        if not _is_set(task, "normalize"):
            task["normalize"] = trained["normalize"]
        if task["normalize"] != trained["normalize"]:
            raise ValueError(f"task.normalize={task['normalize']}, but {path} was trained with {trained['normalize']}")
    if decoding.type == "viterbi":
        return
    flashlight = importlib.import_module("examples.speech_recognition.new.decoders.flashlight_decoder")
    if flashlight.LM is object:  # fairseq's stand-in
        raise ValueError(f"decoding.type={decoding.type} needs flashlight: pip install flashlight-text kenlm")
    for key in ("lmpath", "lexicon"):
        file = decoding[key] if _is_set(decoding, key) else None
        if not (os.path.isfile(file) if file else key == "lexicon" and decoding.unitlm):
            raise ValueError(f"decoding.{key}={file}: no such file, and decoding.type={decoding.type} needs it")
    if decoding.type == "fairseqlm":
        checkpoints.load(decoding.lmpath)


def _check_data(cfg: DictConfig) -> None:
    """Everything that would end a decode late, or leave an utterance out."""
    manifest = read_manifest(f"{cfg.task.data}/{cfg.dataset.gen_subset}.tsv")
    utterance_ids(manifest.names)
    folder = cfg.task.label_dir if _is_set(cfg.task, "label_dir") else cfg.task.data
    for label in cfg.task.labels:
        check_labels(manifest, f"{folder}/{cfg.dataset.gen_subset}.{label}")
    longest, most = max(manifest.sizes), cfg.dataset.max_tokens
    if most is not None and longest > most:
        raise ValueError(f"dataset.max_tokens={most}, but {manifest.path} has an utterance of {longest} samples")


infer = _import_fairseq_infer()
fairseq_main = infer.main


class Processor(infer.InferenceProcessor):
    """fairseq's, which also keeps what it scored, and fails on less than the whole manifest."""

    def __init__(self, cfg: DictConfig):
        super().__init__(cfg)
        self.dataset = self.task.dataset(cfg.dataset.gen_subset)
        manifest = read_manifest(f"{self.task.cfg.data}/{cfg.dataset.gen_subset}.tsv")
        self.manifest, self.expected = manifest.path, utterance_ids(manifest.names)
        ids = dict(zip(manifest.names, self.expected))
        self.ids = [ids[name] for name in self.dataset.audio_names]
        self.scored: List[Scored] = []
        check_complete(self.manifest, self.expected, self.ids, "loaded")
        self.check_references()

    def check_references(self) -> None:
        """ValueError for transcripts with symbols outside the dictionary: there, an output of <unk> would be right."""
        bad = [name for i, name in enumerate(self.ids) if self.tgt_dict.unk() in self.dataset.get_label(i, 0)]
        if bad:
            count = f"{len(bad)} of {len(self.ids)} transcripts (the first: {bad[0]})"
            raise ValueError(f"{self.manifest}: {count} have symbols outside the model's dictionary; rewrite them")

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        """Batches; after the last, and before fairseq writes a rate, what was scored is checked and written."""
        yield from super().__iter__()
        self.finish()

    def words(self, tokens: torch.Tensor) -> str:
        """(L,) dictionary indices -> words, as fairseq's `process_sentence` joins them."""
        return post_process(self.tgt_dict.string(tokens.int().cpu()), self.cfg.common_eval.post_process)

    def process_sentence(self, sample: Any, hypo: Any, sid: int, batch_id: int) -> Tuple[int, int]:
        """fairseq's files and word errors; the utterance's id takes the place of its index in them."""
        counted = super().process_sentence(sample=sample, hypo=hypo, sid=self.ids[sid], batch_id=batch_id)
        target = utils.strip_pad(sample["target"][batch_id], self.tgt_dict.pad())
        reference = self.words(target)
        hypothesis = " ".join(hypo["words"]) if "words" in hypo else self.words(hypo["tokens"])
        errors = count_errors(reference, hypothesis)
        self.scored.append(Scored(self.ids[sid], errors, reference, hypothesis, int(self.dataset.sizes[sid])))
        return counted

    def finish(self) -> None:
        """Gathers all processes' utterances, checks and writes them. ValueError unless each was scored once."""
        parts = [(self.scored, self.gen_timer.sum)] * self.data_parallel_world_size
        if len(parts) > 1:
            dist.all_gather_object(parts, parts[0])
        scored = [one for part, _ in parts for one in part]
        check_complete(self.manifest, self.expected, [one.id for one in scored])
        by_id = {one.id: one for one in scored}
        scored = [by_id[name] for name in self.expected]  # the intervals must not depend on the order of decoding
        result = summary(scored, sum(seconds for _, seconds in parts), self.task.cfg.sample_rate)
        if self.cfg.common.cpu:  # fairseq adds the processes' counts up on GPUs only
            self.total_errors = sum(one.errors.word_errors for one in scored)
            self.total_length = sum(one.errors.words for one in scored)
        if not infer.distributed_utils.is_master(self.cfg.distributed_training):
            return
        write_lines(os.path.join(self.cfg.decoding.results_path, "utterances.tsv"), table(scored))
        write_lines(os.path.join(self.cfg.decoding.results_path, "wer.json"), [json.dumps(result, indent=2)])


def decode(cfg: DictConfig) -> float:
    """fairseq's main, by a name that processes which it spawns can import: with it comes what is replaced below."""
    utils.import_user_module(cfg.common)
    return fairseq_main(cfg)


infer.InferenceProcessor = Processor
infer.main = decode
infer.InferConfig.distributed_training.distributed_world_size = 1  # fairseq's is every GPU of the machine
infer.InferConfig.dataset.gen_subset = MISSING  # fairseq's would fill in for a recipe's ???


def main() -> None:
    warnings.filterwarnings("ignore", message="(?s).*hydra.cc/docs/1.2/upgrades")  # of fairseq's way to use it
    try:
        infer.cli_main()
    except OmegaConfBaseException as error:  # of what hydra reads before the job starts
        _exit(error)


if __name__ == "__main__":
    main()
