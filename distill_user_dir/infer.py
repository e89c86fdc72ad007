"""Decodes a test set: fairseq's examples/speech_recognition/new/infer.py, which answers for every utterance.

    python -m distill_user_dir.infer --config-dir recipes/decode --config-name viterbi \\
        task.data=/data common_eval.path=/ctc/checkpoint_best.pt dataset.gen_subset=test decoding.results_path=/out

Options, YAML files and output files are fairseq's (`wer`, `hypo.word`, `hypo.units`, `ref.word`, `ref.units`); lines
carry the utterance's id, the stem of its file name, in place of fairseq's running number. Besides, in
decoding.results_path (or, where that is not set, in hydra's run folder):

- utterances.tsv  id, word errors, words, char errors, chars, ref, hyp; a line an utterance in the manifest's order
- wer.json        wer and cer in percent, with 95% intervals (bootstrap over utterances); decode_seconds in model and
                  search, without loading, summed over processes; audio_seconds; rtf, their ratio
- nbest.tsv       with decoding.nbest above 1: id, rank, score, words of the n best
- words.ctm       with a KenLM: id, channel 1, start and duration in seconds, word; NIST's format

A manifest line that is not scored exactly once is an error. Relative paths count from the folder of the call.
The terminal shows the result; fairseq's log is beside the results, in fairseq_infer.log.
Errors are one line and exit status 1, or with HYDRA_FULL_ERROR=1 a traceback. --hydra-help tells of hydra's own
options, --cfg job prints all settings of a recipe.
"""

from omegaconf.errors import OmegaConfBaseException

from distill_user_dir.decoding.fairseq_infer import exit_with
from distill_user_dir.decoding.processor import infer
from distill_user_dir.messages import help_of


def main() -> None:
    help_of(__doc__)
    try:
        infer.cli_main()
    except OmegaConfBaseException as error:  # of what hydra reads before the job starts
        exit_with(error)


if __name__ == "__main__":
    main()
