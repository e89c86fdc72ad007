"""HuBERT's penalty on the output of its CNN (Hsu et al. 2021, as fairseq's `features_pen`), as a sum over frames."""

from torch import Tensor


def feature_penalty(features: Tensor) -> Tensor:
    """(F, C), the valid frames -> the mean square of each, summed over them, in float32."""
    return features.float().square().mean(-1).sum()
