"""Students from Python, without fairseq's command line.

student = load_student("checkpoint_best.pt")
output = student(waveforms, lengths)
"""

from typing import Any, Dict, List, NamedTuple, Optional

import torch
from fairseq.data.data_utils import post_process
from fairseq.data.dictionary import Dictionary
from torch import Tensor, nn

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.checkpoints.loading import CheckpointError, load
from distill_user_dir.messages import quoted
from distill_user_dir.models.student_ctc import blank_where_padded
from distill_user_dir.modules.fold import fold
from distill_user_dir.modules.padding import padding_mask


class StudentOutput(NamedTuple):
    """layers: the outputs of all layers, (B, T, D) each; log_probs: (B, T, V) of a fine-tuned model, padded frames
    blank, else None; lengths: (B,) valid frames."""

    layers: List[Tensor]
    log_probs: Optional[Tensor]
    lengths: Tensor


class Student(nn.Module):
    """An encoder, and the output layer of a fine-tuned one; in eval mode as `load_student` gives it.

    sample_rate: of the audio it wants, in Hz; symbols: the output units of a fine-tuned model by index, 0 being
    blank; fairseq's special ones are empty. units: how they are joined to words, `letter` or `sentencepiece`.
    """

    def __init__(self, encoder: nn.Module, proj: Optional[nn.Module], symbols: List[str], units: str = "letter"):
        super().__init__()
        self.units = units
        self.encoder = encoder
        self.proj = proj
        self.symbols = symbols
        self.sample_rate = encoder.sample_rate

    def forward(self, waveforms: Tensor, lengths: Optional[Tensor] = None) -> StudentOutput:
        """(B, N) float audio in [-1, 1], raw, padded at the end; (B,) samples, all of N by default.

        ValueError where an utterance is too short for one frame, or longer than N.
        """
        if lengths is None:
            lengths = torch.full((waveforms.size(0),), waveforms.size(1), dtype=torch.long, device=waveforms.device)
        frames = self.encoder.num_frames(lengths)
        if not torch.compiler.is_compiling():
            if lengths.shape != waveforms.shape[:1] or int(lengths.max()) > waveforms.size(1):
                told = f"lengths {lengths.tolist()} of {waveforms.size(0)} utterances of {waveforms.size(1)} samples"
                raise ValueError(f"{told}: one each, and none above")
            if int(frames.min()) < 1:
                raise ValueError(f"{int(lengths.min())} samples are too few for one frame: give at least 400")
        depth = len(self.encoder.encoder.layers)
        whole = not torch.compiler.is_compiling() and int(lengths.min()) == waveforms.size(1)
        padded = None if whole else padding_mask(lengths, waveforms.size(1))
        encoded = self.encoder.encode(waveforms, padded, keep=range(1, depth + 1))
        log_probs = None
        if self.proj is not None:
            log_probs = blank_where_padded(self.proj(encoded.x), encoded.padding_mask).float().log_softmax(-1)
        return StudentOutput([encoded.layers[i] for i in range(1, depth + 1)], log_probs, frames)

    def transcribe(self, waveforms: Tensor, lengths: Optional[Tensor] = None) -> List[str]:
        """Words by best path (Viterbi): as `forward`, for a model that was fine-tuned."""
        if self.proj is None:
            raise ValueError("this student was not fine-tuned: it has features, but no letters")
        words = []
        for path in self(waveforms, lengths).log_probs.argmax(-1):
            units = [self.symbols[i] for i in path.unique_consecutive().tolist()]
            words.append(post_process(" ".join(units), self.units))
        return words


def load_student(
    path: str, folded: bool = True, valid_statistics: Optional[bool] = None, dictionary: Optional[Dictionary] = None
) -> Student:
    """A student, fine-tuned or not, or an original HuBERT, from its checkpoint alone; CheckpointError if it is none.

    folded: ready for inference, and no more for training; else its parameters have the names of the checkpoint.
    valid_statistics: of its group norm, by default as it was trained; dictionary: of its units, by default its own.
    """
    state = load(path, mapped=True)
    checkpoint = hubert_in(path, state)
    encoder = build_hubert(checkpoint, valid_statistics=valid_statistics)
    proj, symbols, units = None, [], "letter"
    if checkpoint.fine_tuned:
        dictionary = dictionary or (state.get("task_state") or {}).get("target_dictionary")
        weight, bias = (state["model"].get(f"w2v_encoder.proj.{name}") for name in ("weight", "bias"))
        if dictionary is None or weight is None or bias is None or len(dictionary) != weight.size(0):
            raise CheckpointError(f"{path}: fine-tuned, but its output layer and its dictionary do not fit together")
        proj = nn.Linear(weight.size(1), weight.size(0))
        proj.load_state_dict({"weight": weight, "bias": bias})
        symbols = [""] * dictionary.nspecial + list(dictionary.symbols[dictionary.nspecial :])
        units = units_of(path, state)
    return Student(fold(encoder) if folded else encoder, proj, symbols, units).eval()


def units_of(path: str, state: Dict[str, Any]) -> str:
    """What a fine-tuned model's units are, as its training's config says."""
    cfg = state.get("cfg")
    criterion = cfg.get("criterion") if isinstance(cfg, dict) else None
    units = (criterion.get("post_process") if isinstance(criterion, dict) else None) or "letter"
    if units not in ("letter", "sentencepiece"):
        raise CheckpointError(
            f"{path}: its criterion.post_process is {quoted(units)}; expected letter or sentencepiece"
        )
    return units
