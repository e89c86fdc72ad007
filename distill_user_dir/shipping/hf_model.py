"""An exported folder as transformers loads it."""

import atexit
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from importlib.machinery import ModuleSpec
from typing import Any, List, Sequence

import numpy as np
import torch
from torch import Tensor

from distill_user_dir.machine import need
from distill_user_dir.shipping.hf_folder import FIRST_LETTER
from distill_user_dir.shipping.runner import BLANK, WORD_END


def transformers_here() -> Any:
    """The package. It imports torchaudio where that is installed, without a need here, and the one that comes with
    fairseq does not fit every torch. It copies a folder's code to a place of its own, which ends with this process."""
    if "transformers" not in sys.modules:
        os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, os.environ["HF_MODULES_CACHE"], True)
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        sys.modules["torchaudio"] = importlib.util.module_from_spec(ModuleSpec("torchaudio", None))  # an empty one
    return need("transformers", "export")


def compared(model: Any, audio: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Where audio is made of variance 1, transformers adds 1e-7 to the variance and fairseq 1e-5: on audio that is so
    already both are the same."""
    if not model.student.encoder.normalize:
        return list(audio)
    return [(one - one.mean()) / max(float(one.std()), 1e-5) for one in audio]


class HfModel:
    """An exported folder, run by transformers, each recording alone."""

    def __init__(self, folder: str, model: Any):
        """model: the checkpoint's."""
        transformers = transformers_here()
        has_words = bool(model.symbols)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        kind = transformers.AutoModelForCTC if has_words else transformers.AutoModel
        trusted = {"trust_remote_code": True}  # the code is this package's own
        self.model = kind.from_pretrained(folder, **trusted).eval()
        self.extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **trusted)
        self.tokeniser = transformers.AutoTokenizer.from_pretrained(folder, **trusted) if has_words else None
        self.rate = model.sample_rate

    @torch.inference_mode()
    def outputs(self, audio: Sequence[np.ndarray]) -> List[np.ndarray]:
        """(samples,) float32 each -> (frames, units) each, or (frames, width) of a student without CTC."""
        return [self.of_one(one).numpy() for one in audio]

    def of_one(self, audio: np.ndarray) -> Tensor:
        output = self.model(**self.extractor(audio, sampling_rate=self.rate, return_tensors="pt"))
        return output.last_hidden_state[0] if self.tokeniser is None else output.logits[0].log_softmax(-1)

    @torch.inference_mode()
    def said(self, audio: np.ndarray) -> List[str]:
        path = self.of_one(audio).argmax(-1)
        end = self.tokeniser.convert_tokens_to_ids(WORD_END)
        special = (path > BLANK) & (path < FIRST_LETTER)  # tell nothing, and end a word
        return self.tokeniser.decode(path.masked_fill(special, end)).split()
