"""A Transformer language model of fairseq's in its beam search, on the device that the decode runs on.

Imported by a decode that needs it, since the decoder needs flashlight and fairseq's `examples` on the path.
"""

from typing import Any, Tuple

import numpy as np
import torch
from examples.speech_recognition.new.decoders import flashlight_decoder
from fairseq.data.dictionary import Dictionary


class DeviceLM(flashlight_decoder.FairseqLM):
    """fairseq's, which moves every prefix to a GPU whether there is one or not; this one goes where its model is.

    A state's log-probabilities are computed when the search first asks for them, by the model run over its words so
    far, and the latest `max_cache` states keep theirs.
    """

    def __init__(self, dictionary: Dictionary, model: torch.nn.Module):
        super().__init__(dictionary, model)
        self.device = next(model.parameters()).device

    def log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(1, L) word indices, the first of them eos -> (V,) of the next word."""
        with torch.no_grad():
            output = self.model(torch.from_numpy(prefix).to(self.device))
            return self.model.get_normalized_probs(output, log_probs=True, sample=None)[0, -1].float().cpu().numpy()

    def add(self, state: Any, prefix: np.ndarray) -> None:
        self.states[state] = flashlight_decoder.FairseqLMState(prefix, None, None)

    def start(self, start_with_nothing: bool) -> Any:
        state = flashlight_decoder.LMState()
        self.add(state, np.array([[self.dictionary.eos()]], dtype=np.int64))
        return state

    def score(self, state: Any, token_index: int, no_cache: bool = False) -> Tuple[Any, float]:
        """The state behind a word, and the word's log-probability; the dictionary's unknown word has none."""
        current = self.states[state]
        if current.probs is None:
            current = current._replace(probs=self.log_probs(current.prefix))
            self.states[state] = current
            self.stateq.append(state)
            if len(self.stateq) > self.max_cache:
                oldest = self.stateq.popleft()
                self.states[oldest] = self.states[oldest]._replace(probs=None)
        after = state.child(token_index)
        if after not in self.states and not no_cache:
            self.add(after, np.append(current.prefix, [[token_index]], axis=1))
        return after, float("-inf") if token_index == self.unk else float(current.probs[token_index])


flashlight_decoder.FairseqLM = DeviceLM
