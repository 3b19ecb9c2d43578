"""Pages in another language say so to the browser, which chooses letters by it: those below `zh/` are Chinese."""

LANGUAGES = {"zh": "zh-Hans"}


def setup(app):
    def say(app, page, template, context, doctree):
        context["language"] = LANGUAGES.get(page.partition("/")[0], app.config.language)

    app.connect("html-page-context", say)
