"""Reading a checkpoint: seconds and memory of the door beside torch's own loading.

    python benchmarks/loading.py                 # a HuBERT Base, alone and with its optimizer's state
    python benchmarks/loading.py CHECKPOINT.pt

`mapped` is how this package reads (weights lie in the file until they are copied into a model), `copied` what fairseq
gets in the place of torch.load. The peak counts pages of the file itself, which the system takes back when it has to.
"""

import argparse
import logging
import os
import tempfile
from typing import Any, Callable, Dict, List

import torch
from omegaconf import OmegaConf

from distill_user_dir.checkpoints import contents, loading
from distill_user_dir.measure import interleaved, peak_memory

CLUSTERS = 500


def write_base(path: str, optimizer: bool) -> None:
    """A HuBERT Base with random weights, as fairseq writes it, and, if asked, moments of Adam."""
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig

    dictionary = contents.Dictionary()
    for cluster in range(CLUSTERS):
        dictionary.add_symbol(str(cluster))
    model = {"label_rate": 50.0, "final_dim": 256}
    cfg = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(HubertConfig), model), enum_to_str=True)
    task = OmegaConf.to_container(OmegaConf.structured(HubertPretrainingConfig(data="", label_rate=50.0)))
    task["sample_rate"] = 16000
    network = HubertModel(OmegaConf.create(cfg), OmegaConf.create(task), [dictionary])
    state: Dict[str, Any] = {
        "args": None,
        "cfg": {"model": dict(cfg, _name="hubert"), "task": dict(task, _name="hubert_pretraining")},
        "model": network.state_dict(),
        "optimizer_history": [{"num_updates": 1, "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}],
        "task_state": {"dictionaries": [dictionary]},
        "extra_state": {"epoch": 1},
    }
    if optimizer:
        moments = [{"step": 1, "exp_avg": w.clone(), "exp_avg_sq": w.clone()} for w in state["model"].values()]
        state["last_optimizer_state"] = {"state": dict(enumerate(moments)), "param_groups": []}
    torch.save(state, path)


def mapped(path: str) -> Callable[[], Any]:
    return lambda: loading.load(path, mapped=True)


def copied(path: str) -> Callable[[], Any]:
    return lambda: loading.torch_load(path)


def torchs(path: str) -> Callable[[], Any]:
    torch.serialization.add_safe_globals([contents.Dictionary, argparse.Namespace])
    return lambda: loading.torchs_load(path, map_location="cpu", weights_only=True)


WAYS = {"mapped": mapped, "copied": copied, "torch.load": torchs}


def table(name: str, path: str, rounds: int) -> List[str]:
    seconds = interleaved({way: prepare(path) for way, prepare in WAYS.items()}, rounds)
    lines = [f"{name}: {os.path.getsize(path) / 1e6:.0f} MB"]
    for way, prepare in WAYS.items():
        peak = peak_memory(prepare, path)[1]
        ratio = seconds[way] / seconds["torch.load"]
        lines.append(f"  {way:12} {seconds[way]:7.3f} s   {ratio:5.2f} x torch.load   peak {peak / 1e6:6.0f} MB")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="default: a HuBERT Base made for it")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    logging.disable(logging.INFO)  # fairseq logs every config
    with tempfile.TemporaryDirectory() as folder:
        paths = {os.path.basename(path): path for path in args.checkpoints}
        if not paths:
            for name, optimizer in (("HuBERT Base", False), ("HuBERT Base with moments", True)):
                paths[name] = os.path.join(folder, f"{name}.pt")
                write_base(paths[name], optimizer)
        for name, path in paths.items():
            print("\n".join(table(name, path, args.rounds)), flush=True)


if __name__ == "__main__":
    main()
