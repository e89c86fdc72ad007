"""What a decode is told, settled and checked before anything is loaded: one line for whatever would end it late."""

import importlib
import logging
import os
from contextlib import suppress

import torch
from fairseq import utils
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf, open_dict

from distill_user_dir import compat
from distill_user_dir.checkpoints.hubert import hubert_in, typed_configs
from distill_user_dir.checkpoints.layouts.ctc import CtcLayout
from distill_user_dir.checkpoints.layouts.transformer_lm import TransformerLmLayout
from distill_user_dir.checkpoints.loading import load
from distill_user_dir.checkpoints.sections import configs_of, layout_of
from distill_user_dir.data.manifest import check_labels, read_manifest
from distill_user_dir.decoding.lexicon import check_lexicon
from distill_user_dir.decoding.wer import utterance_ids

logger = logging.getLogger(__name__)

# fairseq-fixed ships this author's path in its conf/infer.yaml; as fairseq takes it, it is nowhere found
LEFTOVER_USER_DIR = "/private/home/abaevski/fairseq-py/examples/data2vec"
HUBERT_TASKS = ("hubert_pretraining", "hubert_distillation")
# hubert_pretraining's own defaults cut each batch to its shortest utterance and leave the transcripts whole
WHOLE_UTTERANCES = {"pad_audio": True, "random_crop": False, "max_sample_size": None}
RESULTS = ("wer", "wer.json", "utterances.tsv", "nbest.tsv", "words.ctm")


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
    for name in RESULTS:
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
        if cfg.decoding.results_path.startswith(to_absolute_path(compat.NULL_PATH)):
            raise ValueError("decoding.results_path is not set")


def _settle_user_dir(common: DictConfig) -> None:
    """This package is imported already: under another spelling of its path fairseq would take it for a second one."""
    own = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
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
    """Of a kind that can be decoded, and its audio normalised as it was in training."""
    path, task, decoding = cfg.common_eval.path, cfg.task, cfg.decoding
    content = load(path, mapped=True)
    layout, trained = layout_of(configs_of(content)["model"]), configs_of(content)["task"]
    if not layout.decodes:
        raise ValueError(f"{path}: a {layout.names[0]}, which has no letters; fine-tune it first")
    if isinstance(layout, CtcLayout):
        typed_configs(hubert_in(path, content), {})
    # hubert_distillation leaves it to the models
    if task["_name"] == "hubert_pretraining" and "normalize" in trained:
        if not _is_set(task, "normalize"):
            task["normalize"] = trained["normalize"]
        if task["normalize"] != trained["normalize"]:
            raise ValueError(f"task.normalize={task['normalize']}, but {path} was trained with {trained['normalize']}")
    labels = trained.get("labels") or task.labels
    if list(labels) != list(task.labels):
        raise ValueError(
            f"task.labels={list(task.labels)}, but {path} was trained on {list(labels)}: "
            "choose units=letters or units=sentencepiece"
        )
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
        if not isinstance(layout_of(configs_of(load(decoding.lmpath, mapped=True))["model"]), TransformerLmLayout):
            raise ValueError(f"{decoding.lmpath}: no language model; name one of fairseq's transformer_lm")
        beside = os.path.join(os.path.dirname(decoding.lmpath), "dict.txt")
        if not os.path.isfile(beside):
            raise ValueError(f"{beside}: no such dictionary; put that of {decoding.lmpath} beside it")


def _check_data(cfg: DictConfig) -> None:
    """Everything that would end a decode late, or leave an utterance out."""
    manifest = read_manifest(f"{cfg.task.data}/{cfg.dataset.gen_subset}.tsv")
    utterance_ids(manifest.names)
    folder = cfg.task.label_dir if _is_set(cfg.task, "label_dir") else cfg.task.data
    for label in cfg.task.labels:
        check_labels(manifest, f"{folder}/{cfg.dataset.gen_subset}.{label}")
    lexicon = cfg.decoding.lexicon if cfg.decoding.type != "viterbi" and _is_set(cfg.decoding, "lexicon") else None
    if lexicon:
        check_lexicon(lexicon, f"{folder}/dict.{cfg.task.labels[0]}.txt")
    longest, most = max(manifest.sizes), cfg.dataset.max_tokens
    if most is not None and longest > most:
        raise ValueError(f"dataset.max_tokens={most}, but {manifest.path} has an utterance of {longest} samples")
