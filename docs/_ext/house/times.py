"""How long each page ran: a page over `page_limit` seconds is a warning."""

from sphinx.util import logging

log = logging.getLogger(__name__)


def report(app, env):
    times = {}
    for page, data in getattr(env, "nb_metadata", {}).items():
        ran = data.get("exec_data") or {}
        if ran.get("runtime") is not None:
            times[page] = ran["runtime"]
    for page, seconds in times.items():
        if seconds > app.config.page_limit:
            log.warning(
                "%s ran for %.0f s; a page may run for %d s", page, seconds, app.config.page_limit, location=page
            )
    if times:
        slowest = sorted(times, key=times.__getitem__, reverse=True)[:5]
        longest = ", ".join(f"{page} {times[page]:.0f} s" for page in slowest)
        print(f"{len(times)} pages ran for {sum(times.values()):.0f} s, longest {longest}")


def setup(app):
    app.add_config_value("page_limit", 300, "")
    app.connect("env-updated", lambda app, env: report(app, env))
