"""What decodes and scores: fairseq's processor of batches, which here answers for every utterance."""

import importlib
import json
import logging
import os
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
import torch.distributed as dist
from fairseq import utils
from fairseq.data.data_utils import post_process
from omegaconf import MISSING, DictConfig

from distill_user_dir.checkpoints.loading import mapped_files
from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.decoding.fairseq_infer import fairseq_main, infer
from distill_user_dir.decoding.held_units import hear_held_units
from distill_user_dir.decoding.wer import (
    Scored,
    check_complete,
    count_errors,
    ctm,
    nbest_table,
    summary,
    table,
    utterance_ids,
)
from distill_user_dir.decoding.word_times import WordTime, word_times
from distill_user_dir.files import write_lines

logger = logging.getLogger(__name__)


class Processor(infer.InferenceProcessor):
    """fairseq's, which also keeps what it scored, and fails on less than the whole manifest."""

    def __init__(self, cfg: DictConfig):
        try:
            super().__init__(cfg)
        except RuntimeError as error:
            if cfg.decoding.type != "kenlm" or " threw " not in str(error):
                raise
            reason = str(error).strip().split("\n")[-1]
            raise ValueError(f"{cfg.decoding.lmpath}: KenLM cannot read it ({reason})") from None
        self.dataset = self.task.dataset(cfg.dataset.gen_subset)
        manifest = read_manifest(f"{self.task.cfg.data}/{cfg.dataset.gen_subset}.tsv")
        self.manifest, self.expected = manifest.path, utterance_ids(manifest.names)
        ids = dict(zip(manifest.names, self.expected))
        self.ids = [ids[name] for name in self.dataset.audio_names]
        self.scored: List[Scored] = []
        self.latest: List[List[Dict[str, Any]]] = []  # of a batch, each utterance's n best; fairseq uses the first
        if cfg.decoding.type != "viterbi" and cfg.common_eval.post_process == "sentencepiece":
            hear_held_units(self.generator)
        generate = self.generator.generate

        def keep(*args: Any, **kwargs: Any) -> List[List[Dict[str, Any]]]:
            self.latest = generate(*args, **kwargs)
            return self.latest

        self.generator.generate = keep
        check_complete(self.manifest, self.expected, self.ids, "loaded")
        self.check_references()

    def check_references(self) -> None:
        """ValueError for transcripts with symbols outside the dictionary: there, an output of <unk> would be right."""
        bad = [name for i, name in enumerate(self.ids) if self.tgt_dict.unk() in self.dataset.get_label(i, 0)]
        if bad:
            count = f"{len(bad)} of {len(self.ids)} transcripts (the first: {bad[0]})"
            raise ValueError(f"{self.manifest}: {count} have symbols outside the model's dictionary; rewrite them")

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        """Batches; after the last, and before fairseq writes a rate, what was scored is checked and written."""
        yield from (sample for sample in super().__iter__() if not sample.get("filler", False))
        self.finish()

    def words(self, hypo: Dict[str, Any]) -> str:
        """The words of a hypothesis, as fairseq's `process_sentence` finds or joins them."""
        return " ".join(hypo["words"]) if "words" in hypo else self.join(hypo["tokens"])

    def join(self, tokens: torch.Tensor) -> str:
        """(L,) dictionary indices -> words."""
        return post_process(self.tgt_dict.string(tokens.int().cpu()), self.cfg.common_eval.post_process)

    def times(self, hypo: Dict[str, Any]) -> Tuple[WordTime, ...]:
        """Of the words, where the decoder says at which frame each unit is."""
        if "timesteps" not in hypo or "words" not in hypo:
            return ()
        units = [self.tgt_dict[token] for token in hypo["tokens"].tolist()]
        try:
            return tuple(word_times(hypo["words"], units, hypo["timesteps"]))
        except ValueError as error:  # a lexicon whose words do not end in a unit of their own
            logger.warning(f"no word times: {error}")
            return ()

    def process_sentence(self, sample: Any, hypo: Any, sid: int, batch_id: int) -> Tuple[int, int]:
        """fairseq's files and word errors; the utterance's id takes the place of its index in them."""
        counted = super().process_sentence(sample=sample, hypo=hypo, sid=self.ids[sid], batch_id=batch_id)
        reference = self.join(utils.strip_pad(sample["target"][batch_id], self.tgt_dict.pad()))
        best, samples = self.words(hypo), int(self.dataset.sizes[sid])
        nbest = tuple((float(one["score"]), self.words(one)) for one in self.latest[batch_id])
        errors = count_errors(reference, best)
        self.scored.append(Scored(self.ids[sid], errors, reference, best, samples, nbest, self.times(hypo)))
        return counted

    def frame_seconds(self) -> Optional[float]:
        """Of the model's output, or None of one that does not tell."""
        encoder = getattr(getattr(self.models[0], "w2v_encoder", None), "w2v_model", None)
        if not hasattr(encoder, "num_frames"):
            return None
        one, many = encoder.num_frames(torch.tensor([400, 400 + 100 * encoder.sample_rate])).tolist()
        return 100 / (many - one)

    def finish(self) -> None:
        """Gathers all processes' utterances, checks and writes them. ValueError unless each was scored once."""
        parts = [(self.scored, self.gen_timer.sum)] * self.data_parallel_world_size
        if len(parts) > 1:
            dist.all_gather_object(parts, parts[0])
        scored = [one for part, _ in parts for one in part]
        check_complete(self.manifest, self.expected, [one.id for one in scored])
        by_id = {one.id: one for one in scored}
        scored = [by_id[name] for name in self.expected]  # the intervals must not depend on the order of decoding
        result = summary(scored, sum(seconds for _, seconds in parts), self.task.cfg.sample_rate)
        if self.cfg.common.cpu:  # fairseq adds the processes' counts up on GPUs only
            self.total_errors = sum(one.errors.word_errors for one in scored)
            self.total_length = sum(one.errors.words for one in scored)
        if not infer.distributed_utils.is_master(self.cfg.distributed_training):
            return
        self.write(scored, result)

    def write(self, scored: List[Scored], result: Dict[str, Any]) -> None:
        """What there is of it; wer.json last, since it says that all is there."""
        folder, seconds = self.cfg.decoding.results_path, self.frame_seconds()
        write_lines(os.path.join(folder, "utterances.tsv"), table(scored))
        if any(len(one.nbest) > 1 for one in scored):
            write_lines(os.path.join(folder, "nbest.tsv"), nbest_table(scored))
        if seconds and any(one.times for one in scored):
            write_lines(os.path.join(folder, "words.ctm"), ctm(scored, seconds))
        write_lines(os.path.join(folder, "wer.json"), [json.dumps(result, indent=2)])


def decode(cfg: DictConfig) -> float:
    """fairseq's main, by a name that processes which it spawns can import: with it comes what is replaced below."""
    utils.import_user_module(cfg.common)
    if cfg.decoding.type == "fairseqlm":
        importlib.import_module("distill_user_dir.decoding.fairseq_lm")
    with mapped_files():  # a decode writes no checkpoints
        return fairseq_main(cfg)


infer.InferenceProcessor = Processor
infer.main = decode
infer.InferConfig.distributed_training.distributed_world_size = 1  # fairseq's is every GPU of the machine
infer.InferConfig.dataset.gen_subset = MISSING  # fairseq's would fill in for a recipe's ???
