"""Finds the language model's weight and the word score for a model, on a development set.

    python -m distill_user_dir.tune --lmweights 0.5 1 1.5 2 2.5 3 --wordscores -2 -1 0 1 \\
        --config-dir recipes/decode --config-name kenlm decoding.lmpath=4-gram.arpa decoding.lexicon=lexicon.txt \\
        task.data=/data common_eval.path=/ctc/checkpoint_best.pt dataset.gen_subset=dev-other \\
        decoding.results_path=/tune decoding.beam=50

The model is run once over the set, and the search once for each pair. The rest of the command line is that of
distill_user_dir.infer; a recipe that searches (kenlm or fairseqlm) is needed. In decoding.results_path:

- tune.tsv   lmweight, wordscore, wer in percent, word errors, words
- best.yaml  a decoding recipe with the best pair: --config-dir /tune --config-name best
"""

import argparse
import sys
from unittest import mock

from distill_user_dir import infer
from distill_user_dir.decoding.processor import infer as fairseqs
from distill_user_dir.decoding.tuning import Grid, Tuner


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m distill_user_dir.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--lmweights", type=float, nargs="+", required=True, metavar="W", help="weights of the language model to try"
    )
    parser.add_argument(
        "--wordscores", type=float, nargs="+", required=True, metavar="S", help="scores of a word to try"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that search at a time (1)")
    args, rest = parser.parse_known_args()
    if args.jobs < 1:
        parser.error("--jobs: 1 or more")
    Tuner.grid = Grid(tuple(args.lmweights), tuple(args.wordscores), args.jobs)
    sys.argv = [sys.argv[0], *rest]
    with mock.patch.object(fairseqs, "InferenceProcessor", Tuner):
        infer.main()


if __name__ == "__main__":
    main()
