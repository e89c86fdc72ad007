"""Command-line tools that make the manifests: audio -> tsv, text -> ltr/wrd + dict, features -> km labels."""
