"""fairseq's HubertDataset, which crops the same way after a resume, and reads labels in any script."""

from typing import Any, Dict, List

from fairseq.data.audio.hubert_dataset import HubertDataset
from fairseq.data.data_utils import numpy_seed


class DistillationDataset(HubertDataset):
    """What fairseq's gives, with crops that depend on nothing but (seed, epoch, utterances).

    fairseq draws crops from a generator that is seeded once and not restored by a resume.
    """

    def __init__(self, manifest_path: str, seed: int, **kwargs: Any):
        super().__init__(manifest_path, **kwargs)
        self.seed = seed
        self.epoch = 1

    def get_label(self, index: int, label_idx: int) -> Any:
        """An utterance's labels, as its label processor gives them.

        fairseq seeks by bytes and reads as many characters: after the first that is not ASCII, others' labels too.
        """
        start, end = self.label_offsets_list[label_idx][index]
        with open(self.label_paths[label_idx], "rb") as stream:
            stream.seek(start)
            line = stream.read(end - start).decode("utf-8")
        return self.label_processors[label_idx](line)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.epoch = epoch

    def collater(self, samples: List[Dict[str, Any]]) -> Dict[str, Any]:
        """As fairseq's: `net_input.source` (B, N) raw audio, `net_input.padding_mask` (B, N) bool, labels.

        The audio is float64, since fairseq's trainer casts all float32 of a sample to half precision where it trains
        in it, and a log-mel of half-precision audio is off by up to 2. The values are float32's.
        """
        with numpy_seed(self.seed, self.epoch, *(sample["id"] for sample in samples)):
            batch = super().collater(samples)
        if batch:
            batch["net_input"]["source"] = batch["net_input"]["source"].double()
        return batch
