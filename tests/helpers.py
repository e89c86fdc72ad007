"""HuBERT checkpoints as fairseq writes them, tiny corpora, and fairseq's commands, for the tests."""

import argparse
import copy
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from fairseq import checkpoint_utils
from fairseq.data.dictionary import Dictionary
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from fairseq_cli import hydra_train
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import distill_user_dir
from tests.commands import listed

try:
    from hydra import compose, initialize_config_dir
except ImportError:  # hydra 1.0
    from hydra.experimental import compose, initialize_config_dir

USER_DIR = Path(distill_user_dir.__file__).resolve().parent
ROOT = USER_DIR.parent
RECIPES = ROOT / "recipes"

CNN = "[({0},10,5)] + [({0},3,2)] * 4 + [({0},2,2)] * 2"
SIZES = {
    "tiny": {
        "conv_feature_layers": CNN.format(32),
        "encoder_layers": 3,
        "encoder_embed_dim": 48,
        "encoder_ffn_embed_dim": 96,
        "encoder_attention_heads": 4,
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "final_dim": 16,
    },
    "base": {"final_dim": 256},
    # 4 of Large's 24 layers
    "large": {
        "extractor_mode": "layer_norm",
        "layer_norm_first": True,
        "conv_bias": True,
        "encoder_layers": 4,
        "encoder_embed_dim": 1024,
        "encoder_ffn_embed_dim": 4096,
        "encoder_attention_heads": 16,
        "final_dim": 768,
    },
}
SIZES["tiny_large"] = dict(SIZES["tiny"], extractor_mode="layer_norm", layer_norm_first=True, conv_bias=True)

# A student for a tiny teacher, as overrides of a recipe; all keys are in the recipes.
TINY_STUDENT = {
    "model.conv_feature_layers": f"'{CNN.format(24)}'",
    "model.encoder_layers": 3,
    "model.encoder_embed_dim": 32,
    "model.encoder_ffn_embed_dim": 48,
    "model.encoder_attention_heads": 4,
    "model.conv_pos": 16,
    "model.conv_pos_groups": 4,
    "model.layer_map": "[1,2,3]",
}


def dictionary(symbols):
    made = Dictionary()
    for symbol in symbols:
        made.add_symbol(str(symbol))
    return made


def shake(model, seed=0):
    """Random biases and norms, which would else be 0 and 1: a swapped or forgotten one has to show."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def hubert_configs(size, normalize=False, **model):
    """`model` and `task` configs of a HuBERT."""
    model = dict(SIZES[size], label_rate=50.0, **model)
    cfg = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(HubertConfig), model), enum_to_str=True)
    task = {"data": "/nowhere", "labels": ["km"], "label_rate": 50.0, "normalize": normalize, "sample_rate": 16000}
    task = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(HubertPretrainingConfig), task))
    return dict(cfg, _name="hubert"), dict(task, _name="hubert_pretraining")


def struct(values):
    """As fairseq passes configs on; without `struct`, omegaconf 2.0 has None for a missing key, not an error."""
    cfg = OmegaConf.create(values)
    OmegaConf.set_struct(cfg, True)
    return cfg


def write_hubert(path, size="tiny", old=False, normalize=False, seed=0, sets=(20,), **model):
    """A HuBERT's checkpoint with random weights: nested `cfg`, or, if `old`, an `args` Namespace; `sets`: clusters."""
    cfg, task = hubert_configs(size, normalize, **model)
    task["labels"] = [f"km{i}" for i in range(len(sets))]
    dictionaries = [dictionary(range(clusters)) for clusters in sets]
    torch.manual_seed(seed)
    network = shake(HubertModel(struct(cfg), struct(task), dictionaries), seed)
    state = {
        "args": None,
        "cfg": {"common": {"seed": 1}, "model": cfg, "task": task},
        "model": network.state_dict(),
        "optimizer_history": [{"num_updates": 1, "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}],
        "task_state": {"dictionaries": dictionaries},
        "extra_state": {"epoch": 1},
    }
    if old:
        flat = {key: value for key, value in dict(task, **cfg).items() if key != "_name"}
        state["args"] = argparse.Namespace(arch="hubert", task="hubert_pretraining", criterion="hubert", **flat)
        del state["cfg"]
    torch.save(state, str(path))
    return str(path)


def noise(samples, seed=0):
    """(N,) float32 audio."""
    return torch.from_numpy(np.random.RandomState(seed).uniform(-0.3, 0.3, samples).astype("float32"))


def batch(lengths, seed=0):
    """Utterances of these lengths: themselves, and (B, N) audio padded with zeros with its (B, N) padding mask."""
    audio = [noise(length, seed + i) for i, length in enumerate(lengths)]
    source = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True)
    padded = torch.tensor([[i >= length for i in range(max(lengths))] for length in lengths])
    return audio, source, padded


def write_labels(folder, splits, clusters=20, rate=50, name="km", seed=0):
    """{split}.{name} and dict.{name}.txt beside the manifests in `folder`: random labels, `rate` a second."""
    random = np.random.RandomState(seed)
    for split in splits:
        lines = (folder / f"{split}.tsv").read_text().splitlines()[1:]
        counts = [(int(line.split("\t")[1]) - 400) // (16000 // rate) + 1 for line in lines]
        labels = [" ".join(map(str, random.randint(0, clusters, count))) for count in counts]
        (folder / f"{split}.{name}").write_text("\n".join(labels) + "\n")
    (folder / f"dict.{name}.txt").write_text("".join(f"{cluster} 1\n" for cluster in range(clusters)))


WORDS = ("ONE", "TWO", "SIX", "TEN")


def write_corpus(folder, splits, seed=0):
    """{split: lengths} -> wav files, {split}.tsv, {split}.ltr and dict.ltr.txt in `folder`."""
    folder = Path(folder)
    random = np.random.RandomState(seed)
    for split, lengths in splits.items():
        (folder / "wav" / split).mkdir(parents=True)
        tsv, ltr = [str(folder / "wav")], []
        for i, length in enumerate(lengths):
            name = f"{split}/{i:03d}.wav"
            soundfile.write(str(folder / "wav" / name), random.uniform(-0.3, 0.3, length), 16000, "PCM_16")
            tsv.append(f"{name}\t{length}")
            words = random.choice(WORDS, 1 + length // 12000)
            ltr.append(" ".join("".join(f"{word}|" for word in words)))
        (folder / f"{split}.tsv").write_text("\n".join(tsv) + "\n")
        (folder / f"{split}.ltr").write_text("\n".join(ltr) + "\n")
    letters = sorted(set("".join(WORDS))) + ["|"]
    (folder / "dict.ltr.txt").write_text("".join(f"{letter} 1\n" for letter in letters))
    return folder


def recipe(folder, name, *overrides, defaults=True, structured=None):
    """recipes/{folder}/{name}.yaml as fairseq-hydra-train composes it; `defaults` adds those of the dataclasses.

    structured: the config of another command than that one, with no registered defaults.
    """
    values = [each for each in overrides if "." in each.partition("=")[0] and not each.startswith("hydra")]
    groups = tuple(each for each in overrides if each not in values)
    cfg = copy.deepcopy(composed(folder, name, groups, structured))
    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(values), cfg)
    if defaults and structured is None:
        add_defaults(cfg)
    return cfg


@lru_cache(maxsize=None)
def composed(folder, name, groups, structured):
    """A recipe with these variants of its groups: by far the longest part, and the same in many tests."""
    GlobalHydra.instance().clear()
    hydra_init(name)
    if structured is not None:
        ConfigStore.instance().store(name=name, node=structured)
    with initialize_config_dir(config_dir=str(RECIPES / folder)):
        return compose(config_name=name, overrides=list(groups))


def distill_overrides(teacher, folder, save_dir, **more):
    """Overrides of recipes/distill/laptop.yaml for a tiny student: two updates an epoch on the fixture's corpus."""
    paths = {
        "student": "demo",
        "common.user_dir": USER_DIR,
        "task.data": folder,
        "task.teacher_path": teacher,
        "checkpoint.save_dir": save_dir,
    }
    return {**paths, **TINY_STUDENT, "dataset.batch_size": 6, "common.log_interval": 1, **more}


def finetune_overrides(start, data, save_dir, **more):
    """Overrides of recipes/finetune/laptop.yaml, to fine-tune the model in the checkpoint `start`."""
    paths = {
        "common.user_dir": USER_DIR,
        "task.data": data,
        "model.w2v_path": start,
        "checkpoint.save_dir": save_dir,
    }
    return {**paths, "optimization.max_update": 2, "common.log_interval": 1, **more}


def train(folder, name, overrides):
    """What `train_command` does, in this process, which reads the data too: torch waits five seconds for each worker of
    an iterator that is collected as garbage."""
    overrides = {"dataset.num_workers": 0, **overrides}
    HydraConfig.instance().cfg = None  # of a decode that ran in this process; fairseq would log by it
    vars(checkpoint_utils.save_checkpoint).clear()  # the best so far, of a training that ran in this process
    hydra_train._hydra_main(recipe(folder, name, *listed(overrides), defaults=False))
