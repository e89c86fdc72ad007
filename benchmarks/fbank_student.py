"""Speed of the Fbank student beside eager fairseq, part by part; and an update of each stage of its distillation.

python benchmarks/fbank_student.py                            # 10 s x 1, 15 s x 8 and 2 s x 1, on two threads
python benchmarks/fbank_student.py --sizes 10x1 --rounds 9

fairseq's are `fairseq.models.hubert.HubertModel` of the same sizes, unchanged, in eval mode. All are taken in turn.
"""

import argparse
import functools
import logging
from typing import Any, Callable, Dict

import torch
import yaml
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from omegaconf import OmegaConf
from torch import Tensor

from distill_user_dir.losses.frontend import frontend_loss
from distill_user_dir.losses.regression import regression
from distill_user_dir.measure import interleaved
from distill_user_dir.models.student_config import student_config
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.encoder_layer import encoder_layer
from distill_user_dir.modules.fold import fold
from distill_user_dir.modules.hubert import PROJECTED, LengthAwareHubert, plain_config
from distill_user_dir.teaching.teacher import Teacher

TASK = OmegaConf.create({"normalize": False, "sample_rate": 16000, "label_rate": 50})
STRUCTURE = "recipes/distill/student/deep_thin.yaml"


def deep_thin(**values: Any) -> StudentHubert:
    with open(STRUCTURE, encoding="utf-8") as file:
        return StudentHubert(student_config({**yaml.safe_load(file), "teacher_embed_dim": 768, **values}), TASK)


def fairseqs(structure: Dict[str, Any]) -> HubertModel:
    known = {key: value for key, value in structure.items() if key in HubertConfig.__dataclass_fields__}
    config = OmegaConf.merge(OmegaConf.structured(HubertConfig), {"label_rate": 50, "final_dim": 256, **known})
    return HubertModel(plain_config(config), TASK, [None]).eval()


@torch.inference_mode()
def inference(sizes: Dict[str, Tensor], rounds: int) -> None:
    with open(STRUCTURE, encoding="utf-8") as file:
        theirs = {"fairseq, HuBERT Base": fairseqs({}), "fairseq, deep & thin": fairseqs(yaml.safe_load(file))}
    ours = {"deep & thin": deep_thin(), "deep & thin, Fbank": deep_thin(frontend="fbank")}
    ours = {name: fold(model.eval()) for name, model in ours.items()}
    fbank = ours["deep & thin, Fbank"]
    for size, audio in sizes.items():
        runs: Dict[str, Callable[[], Any]] = {}
        for name, model in theirs.items():
            runs[name] = functools.partial(model.extract_features, audio, padding_mask=None, mask=False)
        for name, model in ours.items():
            runs[name] = functools.partial(model.encode, audio)
        features = fbank.project(audio).x
        runs["  Fbank"] = functools.partial(fbank.feature_extractor.fbank, audio)
        runs["  front-end, Fbank included"] = functools.partial(fbank.project, audio)
        runs["  positional convolution"] = functools.partial(fbank.encoder_input, features, None)
        runs["  one of 12 layers"] = functools.partial(encoder_layer, fbank.encoder.layers[0], features, None)
        taken = interleaved(runs, rounds)
        print(f"{size}, {torch.get_num_threads()} threads: ms, and times faster than fairseq's")
        base, thin = (taken[name] for name in theirs)
        for name, seconds in taken.items():
            faster = (
                ""
                if name.startswith("  ")
                else f"  HuBERT Base {base / seconds:5.2f}  deep & thin {thin / seconds:5.2f}"
            )
            print(f"  {name:<28}{1000 * seconds:9.1f}{faster}")


def updates(audio: Tensor, size: str, rounds: int) -> None:
    """Stage 1 (projected features) and stage 2 (regression on 12 layers) of one batch, forward and backward."""
    student = deep_thin(frontend="fbank", frontend_updates=1).train()
    base = LengthAwareHubert(student_config({"encoder_layers": 12}), TASK, [None])
    teacher = Teacher(base, range(1, 13), front=PROJECTED)

    def update(stage: int) -> None:
        student.set_num_updates(stage - 1)
        student.choose_what_learns()
        predicted = student(audio)
        given = teacher(audio, layers=stage == 2, front=stage == 1)
        valid = predicted.valid
        if stage == 1:
            loss = frontend_loss(valid.of(predicted.front), valid.of(given.layers[PROJECTED]), "l1")
        else:
            pairs = zip(predicted.targets, predicted.layers)
            pairs = ((valid.of(layer), valid.of(given.layers[target])) for target, layer in pairs)
            loss = sum(regression(*pair, "l1", 1.0)["loss"] for pair in pairs)
        loss.backward()
        student.zero_grad()

    runs = {"stage 1": lambda: update(1), "stage 2": lambda: update(2)}
    runs["of both, the teacher's CNN"] = lambda: teacher(audio, layers=False, front=True)
    taken = interleaved(runs, rounds)
    print(f"update of {size}, {torch.get_num_threads()} threads")
    for name, seconds in taken.items():
        print(f"  {name:<28}{seconds:7.2f} s")
    print(f"  stage 2 over stage 1        {taken['stage 2'] / taken['stage 1']:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["10x1", "15x8", "2x1"], help="seconds x utterances")
    parser.add_argument("--update-size", default="10x2", help="of the updates (10x2)")
    parser.add_argument("--rounds", type=int, default=5, help="timed (5)")
    parser.add_argument("--threads", type=int, default=2, help="(2)")
    args = parser.parse_args()
    logging.disable(logging.INFO)  # fairseq logs every config
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    def audio(size: str) -> Tensor:
        seconds, utterances = size.split("x")
        return 0.1 * torch.randn(int(utterances), int(16000 * float(seconds)))

    inference({size: audio(size) for size in args.sizes}, args.rounds)
    updates(audio(args.update_size), args.update_size, max(1, args.rounds // 2))


if __name__ == "__main__":
    main()
