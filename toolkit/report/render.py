"""A report as one HTML file that needs nothing beside it."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from toolkit.report.contents import PageContents
from toolkit.storage.claims import FileOutput
from toolkit.storage.outputs import new_file
from toolkit.text import LONGEST_LINE, shown


def write_report(report: PageContents, output: FileOutput | Path) -> None:
    """Write the page. Raises InputError if that is not possible."""
    with new_file(output) as work:
        work.write_text(render_report(report), encoding="utf-8")


def render_report(report: PageContents) -> str:
    """The page. Every text is shown as one line and escaped: checkpoints and names of files may hold anything."""
    environment = Environment(
        loader=PackageLoader("toolkit.report"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(report=report)


def _printable(value: object) -> object:
    """Texts of the report, but not what was made here as HTML."""
    return shown(value, LONGEST_LINE) if isinstance(value, str) and not isinstance(value, Markup) else value
