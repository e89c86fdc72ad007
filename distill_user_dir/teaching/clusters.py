"""The clusters of a HuBERT: its final projection and label embeddings, taken from its checkpoint."""

from typing import List, NamedTuple, Optional

import torch
from fairseq.data.dictionary import Dictionary
from torch import Tensor, nn

from distill_user_dir.checkpoints.hubert import HubertCheckpoint
from distill_user_dir.checkpoints.loading import CheckpointError
from distill_user_dir.modules.cluster_heads import CodebookHead


class Clusters(NamedTuple):
    """head: from the output of the last layer to the cosines with the label embeddings; symbols: the dictionary of
    each label set, specials included, or None where the checkpoint has none."""

    head: CodebookHead
    symbols: Optional[List[List[str]]]


def clusters_in(checkpoint: HubertCheckpoint) -> Clusters:
    """CheckpointError where the model has no clusters, or where their shapes contradict each other."""
    path, state = checkpoint.path, checkpoint.state
    if checkpoint.fine_tuned or "final_proj.weight" not in state or "label_embs_concat" not in state:
        kind = "a fine-tuned model" if checkpoint.fine_tuned else f"a model `{checkpoint.name}` without them"
        raise CheckpointError(
            f"{path}: no clusters (final_proj, label_embs_concat), it is {kind}; name a pre-trained HuBERT, or use "
            "criterion.discriminative_weight=0, or criterion.discriminative_head=linear with the target kmeans"
        )
    embeddings, weight, bias = state["label_embs_concat"], state["final_proj.weight"], state.get("final_proj.bias")
    if embeddings.dim() != 2 or weight.dim() != 2 or bias is None or bias.shape != weight.shape[:1]:
        raise CheckpointError(f"{path}: final_proj and label_embs_concat are no matrices of clusters")
    symbols = _symbols(path, checkpoint.dictionaries)
    sizes = _sizes(checkpoint, symbols, len(embeddings))
    width = embeddings.size(1)
    if weight.size(0) not in (width, width * len(sizes)):
        raise CheckpointError(
            f"{path}: final_proj gives {weight.size(0)} features, and its {len(sizes)} label sets have embeddings of "
            f"{width}"
        )
    head = CodebookHead(weight.size(1), width, sizes, tied=weight.size(0) == width)
    head.load_state_dict(
        {"projection.weight": weight, "projection.bias": bias, "codebook": _gated(checkpoint, embeddings.float())}
    )
    return Clusters(head, symbols)


def _symbols(path: str, dictionaries: Optional[List[Dictionary]]) -> Optional[List[List[str]]]:
    if not dictionaries:
        return None
    found = [getattr(dictionary, "symbols", None) for dictionary in dictionaries]
    if not all(isinstance(s, list) and s and all(isinstance(symbol, str) for symbol in s) for s in found):
        raise CheckpointError(f"{path}: the dictionaries in its task_state are damaged")
    return found


def _sizes(checkpoint: HubertCheckpoint, symbols: Optional[List[List[str]]], rows: int) -> List[int]:
    """Clusters of each label set: by the dictionaries, or all of them where there is but one set."""
    if symbols is None and len(checkpoint.task.get("labels") or [0]) == 1:
        return [rows]
    sizes = [len(s) for s in symbols or []]
    if sum(sizes) != rows:
        raise CheckpointError(
            f"{checkpoint.path}: {rows} label embeddings, but its dictionaries list {sizes or 'nothing'} (specials "
            "included)"
        )
    return sizes


def _gated(checkpoint: HubertCheckpoint, embeddings: Tensor) -> Tensor:
    """(C, D) label embeddings behind fairseq's `target_glu`, where the model has one."""
    weight, bias = (checkpoint.state.get(f"target_glu.0.{name}") for name in ("weight", "bias"))
    if weight is None or bias is None:
        return embeddings
    if weight.shape != (2 * embeddings.size(1), embeddings.size(1)) or bias.shape != weight.shape[:1]:
        raise CheckpointError(f"{checkpoint.path}: target_glu has shape {tuple(weight.shape)}, no gate for embeddings")
    with torch.no_grad():
        return nn.functional.glu(nn.functional.linear(embeddings, weight.float(), bias.float()), dim=-1)
