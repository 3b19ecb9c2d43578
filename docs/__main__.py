"""Builds the site: `python -m docs` writes it to `docs/_build/html`; a warning is an error."""

import argparse
import functools
import http.server
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "_build" / "html", help="where the site goes")
    parser.add_argument("--fresh", action="store_true", help="run every page, also those that have not changed")
    parser.add_argument("--serve", type=int, metavar="PORT", help="then show it at http://localhost:PORT")
    arguments = parser.parse_args()
    if arguments.fresh:
        shutil.rmtree(HERE / "_build", ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-j", "auto", "-d", str(HERE / "_build" / "doctrees")]
    failed = sphinx([*options, str(HERE), str(arguments.out)])
    if not failed:
        print(f"{arguments.out / 'index.html'}")
    if not failed and arguments.serve:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=arguments.out)
        http.server.ThreadingHTTPServer(("localhost", arguments.serve), handler).serve_forever()
    return failed


if __name__ == "__main__":
    sys.exit(main())
