"""fairseq's HubertDataset, which crops the same way after a resume, reads labels in any script, and outlives files."""

import logging
import os
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from fairseq.data.audio.hubert_dataset import HubertDataset
from fairseq.data.data_utils import numpy_seed

from distill_user_dir.data.audio import AudioError, read_samples

logger = logging.getLogger(__name__)

TRANSCRIPT, PSEUDO, NOTHING = range(3)  # where an utterance's words come from: a person, a recogniser, nowhere


class DistillationDataset(HubertDataset):
    """What fairseq's gives, with crops that depend on nothing but (seed, epoch, utterances).

    fairseq draws crops from a generator that is seeded once and not restored by a resume.

    A batch says on the CPU what a device would else be asked for: `lengths`, [B] samples, and `label_counts`, [B] frame
    labels, the fewest of all sets.

    max_bad_share: of the utterances that may turn out unreadable, cut or not finite; these are left out of their
    batches, with a warning, and marked in `bad`, (utterances,) bool. At 0 the first one is an AudioError.

    words: TRANSCRIPT, PSEUDO or NOTHING, for all of them; without any there are no label files, and labels are empty.
    A batch with `target` has it for each utterance as `sources`, [B].
    """

    supports_fetch_outside_dataloader = False  # fairseq would read a batch at each epoch, to fill others with
    can_reuse_epoch_itr_across_epochs = False  # fairseq's batches would be those of the epoch of the latest start

    def __init__(
        self,
        manifest_path: str,
        seed: int,
        label_paths: Sequence[str],
        max_bad_share: float = 0.0,
        words: int = TRANSCRIPT,
        **kwargs: Any,
    ):
        if words == NOTHING:
            super().__init__(manifest_path, label_paths=[], **{**kwargs, "label_processors": None})
            self.num_labels, self.label_processors = len(label_paths), kwargs["label_processors"]
            self.label_rates = [-1.0] * len(label_paths)
            self.places: Any = [[None] * len(self.sizes) for _ in label_paths]
        else:
            super().__init__(manifest_path, label_paths=label_paths, **kwargs)
            listed = zip(label_paths, self.label_offsets_list)
            self.places = [[(path, *place) for place in places] for path, places in listed]
        self.sources = np.full(len(self.sizes), words, dtype=np.int8)
        self.transcribed_share: Optional[float] = None
        self.seed = seed
        self.shared_epoch = torch.ones(1, dtype=torch.long).share_memory_()  # data workers outlive an epoch
        self.max_bad_share = max_bad_share
        self.bad = torch.zeros(len(self.sizes), dtype=torch.bool).share_memory_()  # data workers write to it

    def join(self, other: "DistillationDataset") -> None:
        """Goes on with another one's utterances."""
        self.audio_names = [one.path_of(index) for one in (self, other) for index in range(len(one))]
        self.audio_root = ""  # the names have theirs
        self.sizes = [*self.sizes, *other.sizes]
        self.places = [ours + theirs for ours, theirs in zip(self.places, other.places)]
        self.sources = np.concatenate([self.sources, other.sources])
        self.bad = torch.cat([self.bad, other.bad]).share_memory_()

    def ordered_indices(self) -> np.ndarray:
        """As fairseq's, by length. With `transcribed_share`, that share of an epoch's audio has a transcript: the epoch
        has all of one kind, and of the other as many as that asks for, which are drawn anew for each epoch."""
        order = super().ordered_indices()
        if self.transcribed_share is None:
            return order
        kinds = [np.flatnonzero((self.sources == TRANSCRIPT) == wanted) for wanted in (True, False)]
        shares = self.transcribed_share, 1 - self.transcribed_share
        sizes = np.array(self.sizes)
        epoch = min(sizes[kind].sum() / share for kind, share in zip(kinds, shares))  # samples
        chosen = np.zeros(len(self), dtype=bool)
        with numpy_seed(self.seed, int(self.shared_epoch)):
            for kind, share in zip(kinds, shares):
                drawn = np.random.permutation(kind)
                before = np.cumsum(sizes[drawn]) - sizes[drawn]
                chosen[drawn[before < share * epoch]] = True
        return order[chosen[order]]

    def check_batches(self, max_tokens: Optional[int], option: str) -> None:
        """ValueError where a batch of so many samples has no room for the longest utterance."""
        longest = int(np.argmax(self.sizes))
        if max_tokens is not None and self.size(longest) > max_tokens:
            raise ValueError(
                f"{self.path_of(longest)} has {self.size(longest)} samples, more than dataset.{option}={max_tokens}: "
                f"raise it, or leave long utterances out with task.max_keep_size={max_tokens}"
            )

    def path_of(self, index: int) -> str:
        return os.path.join(self.audio_root, self.audio_names[index])

    def get_audio(self, index: int) -> torch.Tensor:
        """(N,) float32; AudioError where the file is not what the manifest says."""
        return torch.from_numpy(read_samples(self.path_of(index), int(self.sizes[index]), self.sample_rate))

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """As fairseq's; `source` is None for a file that cannot be used."""
        try:
            return super().__getitem__(index)
        except AudioError as error:
            if self.max_bad_share <= 0:
                raise AudioError(f"{error}; or allow for bad files with task.max_bad_share") from None
            if not self.bad[index]:
                logger.warning(f"left out: {error}")
            self.bad[index] = True
            return {"id": index, "source": None}

    def next_good(self, index: int) -> Dict[str, Any]:
        """The first utterance behind this one that can be used, in the order of the manifest."""
        for step in range(1, len(self) + 1):
            sample = self[(index + step) % len(self)]
            if sample["source"] is not None:
                return sample
        raise AudioError(f"{self.path_of(index)}: neither this nor any other file of its manifest can be read")

    def get_label(self, index: int, label_idx: int) -> Any:
        """An utterance's labels, as its label processor gives them.

        fairseq seeks by bytes and reads as many characters: after the first that is not ASCII, others' labels too.
        """
        if self.places[label_idx][index] is None:
            return torch.zeros(0, dtype=torch.int)
        path, start, end = self.places[label_idx][index]
        with open(path, "rb") as stream:
            stream.seek(start)
            line = stream.read(end - start).decode("utf-8")
        return self.label_processors[label_idx](line)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.shared_epoch.fill_(epoch)

    def collater(self, samples: List[Dict[str, Any]]) -> Dict[str, Any]:
        """As fairseq's: `net_input.source` (B, N) raw audio, `net_input.padding_mask` (B, N) bool, labels.

        The audio is float64, since fairseq's trainer casts all float32 of a sample to half precision where it trains
        in it, and a log-mel of half-precision audio is off by up to 2. The values are float32's.

        A batch of which nothing can be used has another utterance; so has one of none, which a worker gets where the
        batches do not divide by the workers, and which the task then counts as nothing (`filler`). fairseq would take
        an empty one at the end of an update for no frames at all, and not divide by those of the batches before it,
        whose gradients it keeps.
        """
        filler = not samples
        if all(sample["source"] is None for sample in samples):
            samples = [self.next_good(-1 if filler else samples[-1]["id"])]
        with numpy_seed(self.seed, int(self.shared_epoch), *(sample["id"] for sample in samples)):
            batch = super().collater(samples)
        net_input = batch["net_input"]
        net_input["source"] = net_input["source"].double()
        batch["lengths"] = (~net_input["padding_mask"]).sum(1).tolist()
        if self.num_labels and not self.single_target:
            batch["label_counts"] = torch.stack(batch["target_lengths_list"]).amin(0).tolist()
        if self.num_labels and self.single_target:
            batch["sources"] = self.sources[batch["id"].numpy()].tolist()
        return {**batch, "filler": filler}
