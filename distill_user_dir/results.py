"""The table of several decodes, from the wer.json in each one's folder.

    python -m distill_user_dir.results OUT/decode/*

name, WER in percent with its 95% interval, CER, how many times faster than the audio it was decoded, and utterances.
"""

import argparse
import json
import os
import sys
from typing import Any, Dict, List, Optional, Sequence

from distill_user_dir.files import read_text
from distill_user_dir.messages import plain, reason, tell

NUMBERS, LARGEST = ("wer", "cer", "rtf", "utterances"), 1e12


def read_result(folder: str) -> Dict[str, Any]:
    """What a decode wrote; ValueError where there is none, or not all of it."""
    path = os.path.join(folder, "wer.json")
    try:
        result = json.loads(read_text(path))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; the decode has not ended, or this is not its folder") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path}: no JSON ({reason(error)})") from None
    interval = result.get("wer_interval") if isinstance(result, dict) else None
    numbers = [*(result.get(key) for key in NUMBERS), *interval] if isinstance(interval, list) else [None]
    fits = all(type(number) in (int, float) and 0 <= number < LARGEST for number in numbers)
    if len(numbers) != len(NUMBERS) + 2 or not fits or type(result["utterances"]) is not int:
        raise ValueError(f"{path}: not what distill_user_dir.infer writes; decode again")
    return result


def lines_of(folders: Sequence[str]) -> List[str]:
    """The table's lines; names are the folders' without what all of them begin with."""
    paths = [os.path.abspath(folder) for folder in folders]
    common = os.path.dirname(paths[0]) if len(paths) == 1 else os.path.commonpath(paths)
    names = [plain(os.path.relpath(path, common)) for path in paths]
    width = max(map(len, names))
    lines = [f"{'':{width}}   WER %   95% interval     CER %  x real time  utterances"]
    for name, path in zip(names, paths):
        found = read_result(path)
        low, high = found["wer_interval"]
        speed = 1 / found["rtf"] if found["rtf"] > 0 else float("inf")
        interval = f"{low:6.2f} to {high:6.2f}"
        lines.append(
            f"{name:{width}}  {found['wer']:6.2f}  {interval}  {found['cer']:6.2f}  {speed:11.0f}  "
            f"{found['utterances']:10d}"
        )
    return lines


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m distill_user_dir.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="decoding.results_path of a decode")
    args = parser.parse_args(argv)
    try:
        print("\n".join(lines_of(args.folders)))
    except ValueError as error:
        tell(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
