"""Packaging of distill_user_dir, a fairseq user directory."""

from setuptools import find_packages, setup

setup(
    name="distill_user_dir",
    version="0.1.0",
    description="Distil HuBERT into small speech recognition students: a fairseq user directory",
    license="MIT",
    python_requires=">=3.8",
    packages=find_packages(include=["distill_user_dir", "distill_user_dir.*", "manifests"]),
    install_requires=[
        "torch>=2.4",
        "fairseq-fixed==0.12.3.1; python_version >= '3.11'",
        "fairseq==0.12.2; python_version < '3.11'",
        "numpy",
        "soundfile",
        "editdistance",
        "sentencepiece",
        "tqdm",
    ],
    extras_require={
        # manifests/: features.py, kmeans.py; scipy resamples for corpus.py, matplotlib plots for check.py
        "manifests": [
            "scipy",
            "kaldi-native-fbank",
            "npy-append-array; python_version >= '3.9'",
            "npy-append-array==0.9.16; python_version < '3.9'",  # later ones do not import with its numpy
            "scikit-learn",
            "joblib",
            "matplotlib",
        ],
        # manifests/synthetic.py and the demo; espeakng-loader carries espeak-ng, which is under the GPL
        "demo": ["espeakng-loader", "scipy", "matplotlib"],
        # decoding with a language model
        "lm": ["flashlight-text", "kenlm"],
        "dev": [
            "pytest",
            "hypothesis",
            "ruff",
            # the test of exports
            "onnx; python_version >= '3.10'",
            "onnxscript; python_version >= '3.10'",
            "onnxruntime; python_version >= '3.10'",
        ],
    },
)
