"""A corpus of noise and a HuBERT with random weights, in the sizes of real ones: what a GPU is checked with.

    python benchmarks/random_data.py OUT [--tiny]

OUT/data has FLAC files, manifests, letters and k-means labels of the splits train, valid and test; OUT/teacher.pt is in
fairseq's format.
"""

import argparse
import os

import numpy as np
import soundfile
import torch
from fairseq.data.dictionary import Dictionary
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from omegaconf import OmegaConf

from distill_user_dir.files import write_lines

CLUSTERS = 504
LETTERS = "ETAOINSHRDLU"
SPLITS = {"train": 256, "valid": 16, "test": 16}
TINY = {
    "conv_feature_layers": "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2",
    "encoder_layers": 12,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 4,
    "conv_pos": 16,
    "conv_pos_groups": 4,
}


def write_teacher(path: str, tiny: bool = False) -> None:
    """A HuBERT Base, or one as deep and hardly wider than nothing, as fairseq writes it."""
    sizes = {"label_rate": 50.0, "final_dim": 256, **(TINY if tiny else {})}
    model = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(HubertConfig), sizes), enum_to_str=True)
    task = {"_name": "hubert_pretraining", "data": "/", "labels": ["km"], "label_rate": 50.0, "sample_rate": 16000}
    dictionary = Dictionary()
    for cluster in range(CLUSTERS - dictionary.nspecial):
        dictionary.add_symbol(str(cluster))
    whole = HubertModel(OmegaConf.create(model), OmegaConf.create({**task, "normalize": False}), [dictionary])
    config = {"model": {**model, "_name": "hubert"}, "task": {**task, "normalize": False}}
    torch.save({"cfg": config, "model": whole.state_dict(), "task_state": {"dictionaries": [dictionary]}}, path)


def write_split(folder: str, split: str, utterances: int, longest: float) -> None:
    """Audio of up to `longest` seconds, and not much less; random letters and labels."""
    random = np.random.RandomState(sum(map(ord, split)))
    os.makedirs(f"{folder}/audio/{split}", exist_ok=True)
    lines, letters, labels = [f"{folder}/audio"], [], []
    for number in range(utterances):
        samples = int(16000 * longest * random.uniform(0.7, 1.0))
        name = f"{split}/{number:04d}.flac"
        soundfile.write(f"{folder}/audio/{name}", random.normal(0, 0.05, samples), 16000, "PCM_16")
        lines.append(f"{name}\t{samples}")
        words = ("".join(random.choice(list(LETTERS), 5)) for _ in range(1 + samples // 16000))
        letters.append(" ".join("".join(f"{word}|" for word in words)))
        frames = (samples - 400) // 320 + 1
        labels.append(" ".join(map(str, random.randint(0, CLUSTERS - 4, frames))))
    for kind, content in (("tsv", lines), ("ltr", letters), ("km", labels)):
        write_lines(f"{folder}/{split}.{kind}", content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", help="folder, made where there is none")
    parser.add_argument("--tiny", action="store_true", help="a sixteenth of it, of one second, and a tiny teacher")
    args = parser.parse_args()
    torch.manual_seed(1)
    data = os.path.join(os.path.abspath(args.out), "data")
    for split, utterances in SPLITS.items():
        write_split(data, split, max(4, utterances // 16) if args.tiny else utterances, 1.0 if args.tiny else 15.6)
    write_lines(f"{data}/dict.ltr.txt", [f"{letter} 1" for letter in f"|{LETTERS}"])
    write_lines(f"{data}/dict.km.txt", [f"{cluster} 1" for cluster in range(CLUSTERS - 4)])
    write_teacher(os.path.join(args.out, "teacher.pt"), args.tiny)


if __name__ == "__main__":
    main()
