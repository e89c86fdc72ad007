"""The grid of language model weights and word scores: one pass of the model, one search for each pair."""

import multiprocessing
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
import tqdm
from fairseq import utils
from omegaconf import DictConfig, OmegaConf

from distill_user_dir.decoding.processor import Processor
from distill_user_dir.decoding.wer import check_complete, count_errors
from distill_user_dir.files import write_lines


class Point(NamedTuple):
    """A pair of the grid, its word errors, and the words of the references."""

    lmweight: float
    wordscore: float
    errors: int
    words: int

    @property
    def wer(self) -> float:
        """In per cent."""
        return 100 * self.errors / self.words


class Grid(NamedTuple):
    """What the command line asks for; jobs: processes that search at a time."""

    lmweights: Tuple[float, ...]
    wordscores: Tuple[float, ...]
    jobs: int = 1

    def pairs(self) -> List[Tuple[float, float]]:
        return [(lmweight, wordscore) for lmweight in self.lmweights for wordscore in self.wordscores]


def weighted(decoder: Any, lmweight: float, wordscore: float) -> Any:
    """fairseq's decoder, searching with another weight and score; its trie and language model are kept."""
    options = decoder.decoder_opts
    options.lm_weight, options.word_score = lmweight, wordscore
    parts = (decoder.trie, decoder.lm, decoder.silence, decoder.blank, decoder.unk_word, [], decoder.unitlm)
    decoder.decoder = type(decoder.decoder)(options, *parts)
    return decoder


class Task(NamedTuple):
    """decoder: fairseq's; utterances: the model's (1, T, V) output, and the reference's words, of each."""

    decoder: Any
    utterances: Sequence[Tuple[torch.Tensor, str]]

    def score(self, pair: Tuple[float, float]) -> Point:
        decoder, errors, words = weighted(self.decoder, *pair), 0, 0
        for emissions, reference in self.utterances:
            hypothesis = " ".join(decoder.decode(emissions)[0][0]["words"])
            counted = count_errors(reference, hypothesis)
            errors, words = errors + counted.word_errors, words + counted.words
        return Point(*pair, errors, words)


_task: Optional[Task] = None  # of a forked process: trie and language model are shared, not copied


def score(pair: Tuple[float, float]) -> Point:
    return _task.score(pair)


def search(task: Task, grid: Grid) -> List[Point]:
    """All points, in the order of grid.pairs()."""
    global _task
    _task, pairs = task, grid.pairs()
    if grid.jobs == 1:
        return list(tqdm.tqdm(map(score, pairs), total=len(pairs), desc="grid", unit="pair"))
    with multiprocessing.get_context("fork").Pool(min(grid.jobs, len(pairs))) as pool:
        return list(tqdm.tqdm(pool.imap(score, pairs), total=len(pairs), desc="grid", unit="pair"))


def best_of(points: Sequence[Point]) -> Point:
    """The fewest errors; the first of those that have as few."""
    return min(points, key=lambda point: point.errors)


def at_edge(grid: Grid, best: Point) -> List[str]:
    """The names of what is best at an end of its values, and might be better beyond."""
    names = []
    for name, values in (("lmweight", grid.lmweights), ("wordscore", grid.wordscores)):
        if len(set(values)) > 1 and getattr(best, name) in (min(values), max(values)):
            names.append(name)
    return names


def picture(grid: Grid, points: Sequence[Point]) -> List[str]:
    """The table that is printed: a row for each weight, a column for each score."""
    found = {(point.lmweight, point.wordscore): point.wer for point in points}
    lines = ["WER %    wordscore " + "".join(f"{value:>8g}" for value in grid.wordscores)]
    for weight in grid.lmweights:
        row = "".join(f"{found[weight, value]:8.2f}" for value in grid.wordscores)
        lines.append(f"lmweight {weight:<10g}{row}")
    return lines


def recipe(cfg: DictConfig, best: Point) -> Dict[str, Any]:
    """The decode that was tuned, without what differs from one to the next."""
    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    sections = ("common", "common_eval", "task", "decoding", "dataset", "distributed_training")
    kept = {name: plain[name] for name in sections}
    kept["task"]["data"] = kept["dataset"]["gen_subset"] = kept["common_eval"]["path"] = "???"
    kept["decoding"].update(results_path="???", lmweight=best.lmweight, wordscore=best.wordscore)
    folder = "${decoding.results_path}"
    return {"hydra": {"run": {"dir": folder}, "sweep": {"dir": folder, "subdir": "${dataset.gen_subset}"}}, **kept}


class Tuner(Processor):
    """Keeps what the model says of each utterance, and searches when it has all."""

    grid: Grid

    def __init__(self, cfg: DictConfig):
        if cfg.decoding.type == "viterbi" or not cfg.decoding.lexicon:
            raise ValueError("there is nothing to tune without a language model and a lexicon: --config-name kenlm")
        if cfg.distributed_training.distributed_world_size > 1:
            raise ValueError(
                "distributed_training.distributed_world_size=1: take --jobs to search in several processes"
            )
        super().__init__(cfg)
        self.heard: Dict[str, Tuple[torch.Tensor, str]] = {}

    def process_sample(self, sample: Any) -> None:
        """Instead of a search: the model's output and the reference of each utterance of the batch."""
        with torch.no_grad():
            emissions = self.generator.get_emissions(self.models, sample["net_input"])
        for row, index in enumerate(sample["id"].tolist()):
            target = utils.strip_pad(sample["target"][row], self.tgt_dict.pad())
            self.heard[self.ids[index]] = (emissions[row : row + 1].contiguous(), self.join(target))

    def finish(self) -> None:
        check_complete(self.manifest, self.expected, list(self.heard))
        utterances = [self.heard[name] for name in self.expected]
        points = search(Task(self.generator, utterances), self.grid)
        best, folder = best_of(points), self.cfg.decoding.results_path
        rows = [("lmweight", "wordscore", "wer", "word_errors", "words")]
        rows += [(f"{p.lmweight:g}", f"{p.wordscore:g}", f"{p.wer:.4f}", str(p.errors), str(p.words)) for p in points]
        write_lines(os.path.join(folder, "tune.tsv"), ["\t".join(row) for row in rows])
        saved = os.path.join(folder, "best.yaml")
        text = OmegaConf.to_yaml(OmegaConf.create(recipe(self.cfg, best)))
        write_lines(saved, ["# @package _group_", *text.rstrip("\n").split("\n")])
        self.total_errors, self.total_length = best.errors, best.words
        print("\n".join(picture(self.grid, points)))
        for name in at_edge(self.grid, best):
            print(f"{name}={getattr(best, name):g} is at the end of its values: try some beyond")
        print(
            f"best: lmweight={best.lmweight:g} wordscore={best.wordscore:g}, WER {best.wer:.2f}%; {saved}", flush=True
        )
