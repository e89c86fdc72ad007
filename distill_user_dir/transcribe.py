"""Writes down what is said in recordings, with a fine-tuned student or HuBERT, or an exported folder.

    python -m distill_user_dir.transcribe MODEL speech.flac recordings/ 'more/*.wav'
    python -m distill_user_dir.transcribe MODEL talk.mp3 --output srt > talk.srt
    arecord -f S16_LE -r 16000 | python -m distill_user_dir.transcribe MODEL -

One recording: its words; several: lines of FILE and WORDS. Any format, sample rate and number of channels that
libsndfile reads, any length: long recordings are cut where nobody speaks. A file that cannot be read is named at the
end, the others are done, and the exit status is 1.
"""

import argparse
import os
import sys
from typing import Any, Iterator, List, Optional

from distill_user_dir.messages import tell
from distill_user_dir.shipping import runner
from distill_user_dir.shipping.checkpoint_model import CheckpointModel


def open_model(path: str, device: str = "cpu") -> Any:
    """A checkpoint, or the folder of an ONNX export; ValueError where it has no words."""
    model = runner.OnnxModel(path) if os.path.isdir(path) else CheckpointModel(path, device)
    if not model.symbols:
        raise ValueError(f"{path}: not fine-tuned, it has features but no words")
    return model


def words(model: Any, name: str, longest: float = runner.LONGEST) -> Iterator[runner.Word]:
    """The words of a recording of any length, each as soon as it is known; ValueError where it is no audio."""
    with runner.Recording(name, model.sample_rate) as recording:
        for piece in runner.long_words(model, recording, longest):
            yield from piece


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m distill_user_dir.transcribe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, or the folder of an ONNX export")
    runner.add_options(parser)
    parser.add_argument("--device", default="cpu", help="for a checkpoint: cpu (default), cuda, cuda:1")
    args = parser.parse_args(argv)
    try:
        return runner.run(open_model(args.model, args.device), args, sys.stderr)
    except (ValueError, OSError) as error:
        tell(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
