"""Pages of the site that lie elsewhere in the repository: README.md is its first page."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "recipes/README.md": "walkthrough.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "recipes/settings.csv": "settings.csv",
}
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def page_of(path: str) -> str:
    """A path from the repository's root -> one from docs/; a file of the repository that is no page stays as it is."""
    return PAGES.get(path, path[len("docs/") :] if path.startswith("docs/") else path)


def on_files(files, config):
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links of the repository become links of the site."""
    sources = {page: source for source, page in PAGES.items()}
    folder = posixpath.dirname(sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def link(match):
        return f"]({page_of(posixpath.normpath(posixpath.join(folder, match.group(1))))}"

    return LINK.sub(link, markdown)
