"""Features to cluster, in the format of fairseq's simple_kmeans: FEAT_DIR/{split}_{rank}_{nshard}.npy and .len.

    python manifests/features.py DATA train FEAT_DIR --feature mfcc
    python manifests/features.py DATA train FEAT_DIR --feature hubert --checkpoint CKPT --layer 6 --device cuda

The .npy has the frames of all utterances, (frames, dim) float32, and the .len each utterance's number of frames.
MFCC: 13 with deltas and delta-deltas, 39 in all, 100 frames a second. HuBERT: a layer's output, 50 frames a second.
For several processes give each the same --nshard and its own --rank. With --kmeans DATA/kmeans.npy labels are written
in place of features, FEAT_DIR/{split}_{rank}_{nshard}.km, which take a thousandth of the room: see manifests/kmeans.py.
One utterance is in memory at a time.
"""

import argparse
import os
import sys
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import tqdm

from distill_user_dir.data.arrays import read_centres
from distill_user_dir.data.audio import SAMPLE_RATE, read_samples
from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.files import replacing
from distill_user_dir.machine import need, usable_device
from distill_user_dir.messages import tell
from manifests.kmeans import label_line
from manifests.tsv import MIN_SAMPLES

PIECE = 1 << 16  # samples that are handed over at a time
MOST_FRAMES = 5000  # that a HuBERT hears at a time
DELTA_REACH = 2  # frames on either side: a window of 5


def deltas(features: np.ndarray) -> np.ndarray:
    """(T, D) -> (T, D), slopes over 5 frames: sum_n n (x[t+n] - x[t-n]) / (2 sum_n n^2), ends repeated.

    As torchaudio.functional.compute_deltas.
    """
    frames = len(features)
    padded = np.pad(features, ((DELTA_REACH, DELTA_REACH), (0, 0)), mode="edge")
    slopes = np.zeros_like(features)
    for n in range(1, DELTA_REACH + 1):
        later, earlier = DELTA_REACH + n, DELTA_REACH - n
        slopes += n * (padded[later : later + frames] - padded[earlier : earlier + frames])
    return slopes / (2 * sum(n * n for n in range(1, DELTA_REACH + 1)))


def mfcc(samples: np.ndarray) -> np.ndarray:
    """(N,) float32 at 16 kHz in [-1, 1] -> ((N - 400) // 160 + 1, 39) float32: MFCC, deltas, delta-deltas.

    The options are those of HuBERT's first iteration: torchaudio.compliance.kaldi.mfcc with use_energy=False.
    """
    kaldi_native_fbank = need("kaldi_native_fbank", "manifests")
    options = kaldi_native_fbank.MfccOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.use_energy = False
    extractor = kaldi_native_fbank.OnlineMfcc(options)
    for start in range(0, len(samples), PIECE):  # as a list, samples take eight times the memory
        extractor.accept_waveform(SAMPLE_RATE, samples[start : start + PIECE].tolist())
    extractor.input_finished()
    cepstra = np.stack([extractor.get_frame(t) for t in range(extractor.num_frames_ready)])
    first = deltas(cepstra)
    return np.concatenate([cepstra, first, deltas(first)], axis=1)


def hubert(checkpoint: str, layer: int, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function of (N,) float32 samples at 16 kHz -> (T, D) float32, the output of a layer counted from 1.

    Of audio above 100 s each 100 s are heard alone, as in fairseq's dump_hubert_feature.py.
    """
    import torch

    from distill_user_dir.modules.conv_layers import receptive_field
    from distill_user_dir.teaching.teacher import Teacher

    place = usable_device(device)
    teacher = Teacher.load(checkpoint, layers=[layer]).to(place)
    window, hop = receptive_field(teacher.model.conv_layers)

    def extract(samples: np.ndarray) -> np.ndarray:
        source, parts = torch.from_numpy(samples).unsqueeze(0), []
        frames = int(teacher.model.num_frames(torch.tensor(len(samples))))
        for first in range(0, frames, MOST_FRAMES):
            last = min(first + MOST_FRAMES, frames) - 1
            piece = source[:, first * hop : last * hop + window] if frames > MOST_FRAMES else source
            parts.append(teacher(piece.to(place), None).layers[layer][0].float().cpu().numpy())
        return np.concatenate(parts)

    return extract


def shard_of(total: int, nshard: int, rank: int) -> Tuple[int, int]:
    """First and last + 1 of a shard's utterances, as simple_kmeans divides them; ValueError if there are none."""
    if not 0 <= rank < nshard:
        raise ValueError(f"--rank {rank} of --nshard {nshard}: expected a rank from 0 to {nshard - 1}")
    start, end = round(total / nshard * rank), round(total / nshard * (rank + 1))
    if start >= end:
        raise ValueError(f"shard {rank} of {nshard} has none of {total} utterances; take a smaller --nshard")
    return start, end


class Shard(NamedTuple):
    """Paths of a shard's audio, with the samples that the manifest says."""

    entries: List[Tuple[str, int]]

    @classmethod
    def of(cls, tsv: str, nshard: int, rank: int) -> "Shard":
        manifest = read_manifest(tsv)
        start, end = shard_of(len(manifest.names), nshard, rank)
        paths = [os.path.join(manifest.root, name) for name in manifest.names[start:end]]
        return cls(list(zip(paths, manifest.sizes[start:end])))

    def features(self, extract: Callable[[np.ndarray], np.ndarray], progress: bool) -> Iterator[np.ndarray]:
        for path, size in tqdm.tqdm(self.entries, desc="features", unit="utterance", disable=not progress):
            yield extract(read_samples(path, size, min_samples=MIN_SAMPLES))


def dump(
    tsv: str,
    feat_dir: str,
    extract: Callable[[np.ndarray], np.ndarray],
    nshard: int = 1,
    rank: int = 0,
    progress: bool = True,
) -> Tuple[int, int]:
    """Writes a shard's features -> utterances and frames. Files of an interrupted call end in .tmp."""
    arrays = need("npy_append_array", "manifests")
    stem, shard = stem_of(tsv, feat_dir, nshard, rank), Shard.of(tsv, nshard, rank)
    for leftover in (f"{stem}.len", f"{stem}.npy", f"{stem}.npy.tmp"):  # an old .len must not meet a new .npy
        if os.path.exists(leftover):
            os.remove(leftover)
    total = 0
    with arrays.NpyAppendArray(f"{stem}.npy.tmp") as array, open(f"{stem}.len.tmp", "w", encoding="utf-8") as lengths:
        for features in shard.features(extract, progress):
            array.append(np.ascontiguousarray(features, dtype=np.float32))
            lengths.write(f"{len(features)}\n")
            total += len(features)
    os.replace(f"{stem}.npy.tmp", f"{stem}.npy")
    os.replace(f"{stem}.len.tmp", f"{stem}.len")
    return len(shard.entries), total


def stem_of(tsv: str, feat_dir: str, nshard: int, rank: int) -> str:
    """Where a shard's files go, without their extension."""
    os.makedirs(feat_dir, exist_ok=True)
    return os.path.join(feat_dir, f"{os.path.splitext(os.path.basename(tsv))[0]}_{rank}_{nshard}")


def dump_labels(
    tsv: str,
    feat_dir: str,
    extract: Callable[[np.ndarray], np.ndarray],
    centres: np.ndarray,
    nshard: int = 1,
    rank: int = 0,
    progress: bool = True,
) -> Tuple[int, int]:
    """Writes a shard's labels -> utterances and frames; ValueError unless features and centres have one size."""
    stem, shard, total = stem_of(tsv, feat_dir, nshard, rank), Shard.of(tsv, nshard, rank), 0
    with replacing(f"{stem}.km") as temporary, open(temporary, "w", encoding="utf-8") as labels:
        for features in shard.features(extract, progress):
            if features.shape[1] != centres.shape[1]:
                raise ValueError(
                    f"features of {features.shape[1]}, clusters of {centres.shape[1]}: name the same layer"
                )
            labels.write(label_line(features, centres) + "\n")
            total += len(features)
    return len(shard.entries), total


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder of the manifests")
    parser.add_argument("split", metavar="SPLIT", help="reads DATA/SPLIT.tsv")
    parser.add_argument("feat_dir", metavar="FEAT_DIR", help="folder of the features")
    parser.add_argument("--feature", choices=("mfcc", "hubert"), default="mfcc", help="what to compute (default mfcc)")
    parser.add_argument("--checkpoint", metavar="FILE", help="of a HuBERT or a student, for --feature hubert")
    parser.add_argument("--layer", type=int, help="whose output to take, counted from 1, for --feature hubert")
    parser.add_argument("--device", default="cpu", help="for --feature hubert: cpu, cuda, cuda:1 ... (default cpu)")
    parser.add_argument("--kmeans", metavar="FILE", help="cluster centres: write labels in place of features")
    parser.add_argument("--nshard", type=int, default=1, help="parts to divide the manifest into (default 1)")
    parser.add_argument("--rank", type=int, default=0, help="the part to do, from 0 (default 0)")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.feature == "hubert" and (args.checkpoint is None or args.layer is None):
        parser.error("--feature hubert needs --checkpoint and --layer")
    try:
        if args.feature == "mfcc":
            need("kaldi_native_fbank", "manifests")
        extract = mfcc if args.feature == "mfcc" else hubert(args.checkpoint, args.layer, args.device)
        tsv = os.path.join(args.data, f"{args.split}.tsv")
        if args.kmeans:
            centres = read_centres(args.kmeans)
            utterances, frames = dump_labels(tsv, args.feat_dir, extract, centres, args.nshard, args.rank)
        else:
            utterances, frames = dump(tsv, args.feat_dir, extract, args.nshard, args.rank)
    except (ValueError, OSError) as error:
        tell(error)
        return 1
    print(f"{args.feat_dir}: {utterances} utterances, {frames} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
