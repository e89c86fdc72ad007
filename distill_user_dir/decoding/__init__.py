"""From a model's output to words and their error rate: fairseq's infer tooling, settled, checked and reported."""
