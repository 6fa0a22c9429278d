"""The report in a real browser, headless Chromium: it loads, shows everything, and asks nobody for anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.report.report_case import make_report_case
from toolkit.plugin.manager import PluginManager

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; apt-get install -y chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", "--dump-dom",
)  # fmt: skip
POLICY = "default-src 'none'"
CHECK = """<script>
const faults = [];
addEventListener("error", event => faults.push(String(event.message || event.target.outerHTML)), true);
addEventListener("securitypolicyviolation", event => faults.push("asks for " + event.blockedURI));
addEventListener("load", () => {
  const text = document.querySelector("svg text");
  document.title = JSON.stringify({
    faults,
    requests: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !/^data:/.test(name)),
    images: [...document.images].map(image => [image.complete, image.naturalWidth]),
    plot: document.querySelector("svg").getBoundingClientRect().width,
    ink: getComputedStyle(text).fill,
    overflow: document.documentElement.scrollWidth - innerWidth,
    headings: [...document.querySelectorAll("h1, h2")].map(heading => heading.textContent.replace(/\\s+/g, " ")),
  });
});
</script>"""
"""Writes what it finds into the page's title."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, converted: Path, tiny_plugins: PluginManager) -> str:
    """With everything that a report can tell."""
    return make_report_case(tmp_path_factory.mktemp("report"), converted, tiny_plugins).write()


def look(page: str, folder: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """What the check finds in a copy of the page that lets it run, and what the browser logs."""
    copy = folder / "page.html"
    allowed = page.replace(POLICY, f"{POLICY}; script-src 'unsafe-inline'", 1)
    copy.write_text(allowed.replace("<title>", f"{CHECK}<title>", 1), encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    return json.loads(unescape(title[1])), done.stderr


def test_it_loads_without_errors_or_requests(page: str, tmp_path: Path) -> None:
    found, log = look(page, tmp_path)
    assert found["faults"] == []
    assert found["requests"] == []
    assert "CONSOLE" not in log
    assert found["headings"] == [
        "tiny.pth", "PASS Every check holds", "Warnings", "Pictures", "Evaluation", "Agreement", "Latency",
        "Engines", "What was converted", "Submodules", "Graph passes",
    ]  # fmt: skip


def test_pictures_and_plot_are_shown(page: str, tmp_path: Path) -> None:
    """On a narrow screen too, where tables scroll and the page does not."""
    found, _ = look(page, tmp_path, "--window-size=600,900")
    assert found["images"] == [[True, 1280]] * 7
    assert 300 < found["plot"] <= 600
    assert found["overflow"] <= 0


def test_the_plot_follows_the_theme(page: str, tmp_path: Path) -> None:
    """Its text has the page's ink: dark on light, or light on dark."""
    inks = {look(page, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")[0]["ink"] for scheme in (0, 1)}
    assert inks == {"rgb(230, 234, 240)", "rgb(28, 36, 48)"}


def test_the_check_notices(page: str, tmp_path: Path) -> None:
    """A page that did ask for something, or whose picture is broken, would be found out."""
    spoiled = page.replace(
        "<main>", '<main><img src="http://localhost/a.png" alt=""><img src="data:image/png,x" alt="">'
    )
    found, log = look(spoiled, tmp_path)
    assert "asks for http://localhost/a.png" in found["faults"]
    assert [True, 0] in found["images"]
    assert "CONSOLE" in log
