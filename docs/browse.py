"""Looks at the built site in headless Chromium, as a reader would: `python docs/browse.py`.

Every page loads without a failing request, one to another host, or an error on the console; every equation is typeset; no page
scrolls sideways at 390 pixels; in light and dark all text stands out from its ground; search finds what is looked for. Skips, and
says so, where Chromium or Playwright is missing. `--shots DIR` keeps pictures of every page.
"""

import argparse
import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CONTRAST = 4.5  # of text to its ground: https://www.w3.org/TR/WCAG22/#contrast-minimum
LIKE_A_READER = """
async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  return {
    equations: document.querySelectorAll('.math').length,
    typeset: document.querySelectorAll('.math mjx-container').length,
    wrong: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')].map(e => e.textContent.slice(0, 80)),
    wide: document.documentElement.scrollWidth,
    pictures: [...document.images].filter(i => i.complete && !i.naturalWidth && i.loading !== 'lazy').map(i => i.src),
  };
}
"""
FAINT = """
(least) => {
  const parse = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = c => {
    const [r, g, b] = c.map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.5) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = new Map();
  const walk = document.createTreeWalker(document.querySelector('article') || document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    const box = e.getBoundingClientRect();
    const text = walk.currentNode.data.trim().slice(0, 30);
    if (!text || !box.width || e.closest('svg, mjx-container, script, style, .headerlink, button')) continue;
    const style = getComputedStyle(e);
    if (style.visibility === 'hidden' || style.opacity === '0') continue;
    const [a, b] = [light(parse(style.color).slice(0, 3)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) found.set(e.className + ' ' + style.color, ratio.toFixed(1) + ' ' + text);
  }
  return [...found].map(([k, v]) => k + ': ' + v).slice(0, 5);
}
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def look(page, address: str, host: str, shots: Path | None, name: str, kinds: list[str]) -> list[str]:
    """What is wrong with one page."""
    wrong: list[str] = []
    listeners = {
        "console": lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None,
        "pageerror": lambda e: wrong.append(f"error: {e}"),
        "requestfailed": lambda r: wrong.append(f"request failed: {r.url}"),
        "response": lambda r: wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None,
        "request": lambda r: (
            wrong.append(f"another host: {r.url}") if not r.url.startswith((host, "data:", "blob:")) else None
        ),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(address, wait_until="load")
    for kind in kinds:
        width, colours = {"light": (1440, "light"), "dark": (1440, "dark"), "phone": (390, "light")}[kind]
        page.emulate_media(color_scheme=colours)
        page.set_viewport_size({"width": width, "height": 900})
        found = page.evaluate(LIKE_A_READER)
        if found["equations"] != found["typeset"] or found["wrong"]:
            wrong.append(f"{kind}: {found['typeset']} of {found['equations']} equations typeset {found['wrong']}")
        if found["wide"] > width:
            wrong.append(f"{kind}: scrolls sideways, {found['wide']} of {width} pixels")
        wrong += [f"picture not shown: {source}" for source in found["pictures"]]
        if kind != "phone":
            wrong += [f"{kind}: faint text, {text}" for text in page.evaluate(FAINT, CONTRAST)]
        if shots:
            shots.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=shots / f"{name.replace('/', '.')}.{kind}.png", full_page=True)
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    return wrong


def search(page, host: str, word: str) -> list[str]:
    """What is wrong with the search for a word."""
    page.goto(f"{host}/search.html?q={word}")
    try:
        page.wait_for_selector("#search-results li a", timeout=20_000)
    except Exception as error:
        return [f"search finds no {word}: {str(error).splitlines()[0]}"]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, default=HERE / "_build" / "html")
    parser.add_argument("--shots", type=Path, help="where to keep pictures of every page")
    parser.add_argument("--only", default="", help="pages whose name holds this")
    parser.add_argument("--kinds", nargs="+", default=["light", "dark", "phone"])
    arguments = parser.parse_args()
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("not looked at: no Playwright (pip install -e '.[docs]')")
        return 0
    if browser is None:
        print("not looked at: no Chromium (apt-get install chromium)")
        return 0
    handler = functools.partial(Quiet, directory=arguments.site)
    server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://localhost:{server.server_port}"
    names = [path.relative_to(arguments.site).as_posix() for path in sorted(arguments.site.rglob("*.html"))]
    failed = 0
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page()
        pages = [name for name in names if arguments.only in name and not name.startswith("_static/")]
        checks = {
            name: lambda name=name: look(page, f"{host}/{name}", host, arguments.shots, name, arguments.kinds)
            for name in pages
        }
        checks["search"] = lambda: search(page, host, "peephole")
        for name, check in checks.items():
            wrong = check()
            failed += bool(wrong)
            for line in dict.fromkeys(wrong):
                print(f"{name}: {line}")
        chromium.close()
    server.shutdown()
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
