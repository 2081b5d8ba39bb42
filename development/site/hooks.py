"""What MkDocs is told: where the pages are, which of them are whose neighbours, and how formulas are drawn.

The source names of pages are their places in the repository, so that a link between two of them is the same
on the site and in the repository. A link to any other file leads to it where the repository is shown.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

import gather
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority, get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from schemas import read_nodes

_copies = TemporaryDirectory(prefix="cascade-site-")  # gone when MkDocs ends

log = get_plugin_logger("cascade")


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give mkdocstrings the packages, and fill in what of the navigation follows from the files."""
    sources = gather.copy_packages(Path(_copies.name))
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(sources)]
    config.nav = gather.navigation(config.nav, read_nodes())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of the site in place of those of one folder; the theme's files stay."""
    gathered = Path(config.docs_dir)
    ours = [file for file in files if gathered not in Path(file.abs_src_path or "/").parents]
    for place in gather.pages():
        file = File.generated(config, place, abs_src_path=str(gather.ROOT / place))
        file.dest_uri = gather.address(place)
        ours.append(file)
    for place in gather.media():
        ours.append(File.generated(config, place, abs_src_path=str(gather.ROOT / place)))
    for place, text in gather.written(read_nodes()).items():
        ours.append(File.generated(config, place, content=text))
        ours[-1].dest_uri = gather.address(place)
    return Files(ours)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mend what is right in the repository and would not be on the site."""
    place = page.file.src_uri

    def linked(match: re.Match) -> str:
        return match[1] + gather.elsewhere(place, match[2], config.extra["repository"]) + match[3]

    def pictured(match: re.Match) -> str:
        file = files.get_file_from_path(gather.resolve(place, match[2]))
        if file is None:
            log.warning(f"{place} shows {match[2]}, which is not there")
            return match[0]
        return match[1] + get_relative_url(file.url, page.url) + match[3]

    markdown = gather.outside_code(markdown, gather.LINK, linked)
    markdown = gather.outside_code(markdown, gather.PICTURE, pictured)
    return gather.with_languages(place, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML."""

    def formula(match: re.Match) -> str:
        tex = unescape(match["tex"])
        return convert(tex[2:-2], display="block" if match["tag"] == "div" else "inline")

    return re.sub(r'<(?P<tag>span|div) class="arithmatex">(?P<tex>.*?)</(?P=tag)>', formula, html, flags=re.S)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The language of a page in its first tag, for screen readers and hyphens."""
    return output.replace('<html lang="en"', f'<html lang="{gather.language(page.file.src_uri)}"', 1)
