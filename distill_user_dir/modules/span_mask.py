"""Span masks for pre-training and fine-tuning."""

import torch
from torch import Tensor

from distill_user_dir.modules.padding import to_device


def span_mask(lengths: Tensor, size: int, prob: float, span: int, min_spans: int = 0) -> Tensor:
    """HuBERT's `static` masks (wav2vec 2.0, section 3.1; spans may overlap): (B,) lengths -> (B, size) bool.

    As fairseq's `compute_mask_indices`, an utterance of n frames gets floor(prob * n / span + u) spans, u uniform
    in [0, 1), at least `min_spans`, at starts drawn without replacement. Three things differ: the numbers come from
    torch's generator, which the trainer seeds at each update, so that a resumed run has the same masks; a short
    utterance gets fewer spans (none up to `span` frames) where fairseq raises; and an utterance's mask does not
    depend on the others in its batch.
    """
    batch = lengths.size(0)
    spans = (prob * lengths / span + to_device(torch.rand(batch), lengths.device)).long().clamp(min=min_spans)
    spans = torch.minimum(spans, ((lengths - 1) // span).clamp(min=0))  # never the whole utterance
    starts = (lengths - span).clamp(min=0)
    scores = to_device(torch.rand(batch, size), lengths.device)
    scores = scores.masked_fill(torch.arange(size, device=lengths.device) >= starts.unsqueeze(1), 2.0)
    rank = scores.argsort(1).argsort(1)
    is_start = rank < torch.minimum(spans, starts).unsqueeze(1)
    started = is_start.long().cumsum(1)
    ended = torch.nn.functional.pad(started, (span, 0))[:, :size]
    return started > ended
