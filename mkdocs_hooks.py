"""The site takes the pages of the project's root in as well, and mends the links between the two.

On the host of the repository, and on disk, links go by the files as they lie there.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# docs/README.md is the site's own index.
ROOT_PAGES = {
    "README.md": "overview.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "LICENSE": "LICENSE",
    # The trust model is docs/security.md: some file systems take both names for one.
    "SECURITY.md": "reporting.md",
}
# What tests do with a block stands behind its language; the site knows no such word.
_FOR_TESTS = re.compile(r"^(```[a-z]+) [a-z]+$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where the pages are on the site."""
    del config, files
    of_root = page.file.src_uri in ROOT_PAGES.values()
    mended = _LINK.sub(lambda link: _on_site(link[0], of_root=of_root), markdown)
    return _FOR_TESTS.sub(r"\1", mended)


def _on_site(link: str, *, of_root: bool) -> str:
    if "://" in link:
        return link
    if of_root:
        return (
            link.removeprefix("docs/") if link.startswith("docs/") else ROOT_PAGES.get(link, link)
        )
    name = link.rpartition("../")[2]
    return ROOT_PAGES[name] if link.startswith("../") and name in ROOT_PAGES else link
