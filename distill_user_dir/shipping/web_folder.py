"""A folder of static files: a page that listens, in the browser alone."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from typing import Any, Dict, List, Sequence

import numpy as np

from distill_user_dir.files import write_bytes, write_lines
from distill_user_dir.shipping import onnx_folder
from distill_user_dir.shipping.graph import Graph
from distill_user_dir.shipping.int8 import Precision
from distill_user_dir.student import load_student

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "web")
NOT_SERVED = "check.mjs"
RUNTIME = "onnxruntime-web"
VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # npm's integrity
RUNTIME_FILES = {  # their names here: not every web server knows .mjs
    "ort.wasm.min.mjs": "ort.wasm.min.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}


def cached_runtime() -> str:
    """The package of onnxruntime-web, from npm once, then from the cache. ValueError where it cannot be had."""
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "distill_user_dir")
    path = os.path.join(cache, f"{RUNTIME}-{VERSION}.tgz")
    if not os.path.exists(path):
        os.makedirs(cache, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            run(["npm", "pack", "--silent", f"{RUNTIME}@{VERSION}"], cwd=folder)
            os.replace(os.path.join(folder, os.path.basename(path)), path)
    with open(path, "rb") as file:
        found = base64.b64encode(hashlib.sha512(file.read()).digest()).decode()
    if found != SHA512:
        raise ValueError(f"{path}: not the {RUNTIME} {VERSION} that was expected; remove it, and it is fetched again")
    return path


def run(command: List[str], **options: Any) -> bytes:
    """-> what it prints. ValueError where it is not there, or fails."""
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options).stdout
    except FileNotFoundError:
        raise ValueError(f"{command[0]} is needed: install Node.js 18 or later (Debian: nodejs, npm)") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise ValueError(f"{' '.join(command)}: {' '.join(said)}") from None


def write_folder(path: str, folder: str, precision: Precision) -> List[str]:
    """A fine-tuned checkpoint, exported into an empty folder -> how to use it."""
    student = load_student(path, folded=False)
    known = onnx_folder.metadata(path, student)
    runtime = cached_runtime()
    write_bytes(os.path.join(folder, "model.onnx"), onnx_folder.model_of(Graph(student), known, precision))
    write_lines(os.path.join(folder, "model.json"), [json.dumps(page_metadata(known), ensure_ascii=False)])
    for name in sorted(os.listdir(PAGE)):
        if name != NOT_SERVED:
            shutil.copyfile(os.path.join(PAGE, name), os.path.join(folder, name))
    with tarfile.open(runtime) as package:
        for theirs, name in RUNTIME_FILES.items():
            with open(os.path.join(folder, name), "wb") as file:
                shutil.copyfileobj(package.extractfile(f"package/dist/{theirs}"), file)
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)) / 1e6
    return [
        "```",
        "python -m http.server --bind 127.0.0.1 8000      # then open http://127.0.0.1:8000",
        "```",
        "",
        f"Any web server can serve these files, {size:.0f} MB; browsers give the microphone to https and to localhost.",
        "With the headers `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`",
        f"several cores work. The page sends nothing anywhere. {RUNTIME} {VERSION} is under the MIT licence.",
    ]


def page_metadata(known: Dict[str, str]) -> Dict[str, Any]:
    numbers = ("sample_rate", "window", "frame_shift", "shortest")
    return {
        **{name: int(known[name]) for name in numbers},
        "symbols": json.loads(known["symbols"]),
        "units": known["units"],
    }


class WebModel:
    """An exported folder, run by onnxruntime-web in Node.js, each recording alone."""

    def __init__(self, folder: str, model: Any):
        self.folder = folder
        self.words: Dict[bytes, List[str]] = {}

    def outputs(self, audio: Sequence[np.ndarray]) -> List[np.ndarray]:
        """(samples,) float32 each -> (frames, units) each."""
        contents = [one.astype("<f4").tobytes() for one in audio]
        told = b"".join(b"%d\n" % len(one) + one for one in contents)
        printed = run(["node", os.path.join(PAGE, NOT_SERVED), os.path.abspath(self.folder)], input=told)
        found = [json.loads(line) for line in printed.splitlines()]
        for content, one in zip(contents, found):
            self.words[content] = [word["word"] for word in one["words"]]
        scores = [np.frombuffer(base64.b64decode(one["data"]), "<f4") for one in found]
        return [values.reshape(one["frames"], one["units"]) for values, one in zip(scores, found)]

    def said(self, audio: np.ndarray) -> List[str]:
        """Of a recording whose outputs were asked for."""
        return self.words[audio.astype("<f4").tobytes()]
