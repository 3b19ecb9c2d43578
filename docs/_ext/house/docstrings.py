"""A docstring of this project as MyST Markdown: equations typeset, arguments as lists, names of the library as links."""

import inspect
import re
import textwrap
from collections.abc import Mapping

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu", "ξ": "xi",
    "π": "pi", "ρ": "rho", "σ": "sigma", "Σ": "sum", "τ": "tau", "φ": "varphi", "ψ": "psi", "ω": "omega", "Π": "prod",
}  # fmt: skip
SIGNS = {
    "²": "^2", "·": r"\cdot ", "∂": r"\partial ", "≤": r"\le ", "≥": r"\ge ", "∈": r"\in ", "...": r"\dots ", "->": r"\to ",
    "*": r"\ast ", "~": r"\sim ", "|": r"\mid ", "'": "'", "%": r"\% ",
}  # fmt: skip
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields")
TOKEN = re.compile(
    r"(?P<root>sqrt\()|(?P<sub>(?:[A-Za-z]|[α-ωΣΠ])_(?:\{[^}]*\}|[A-Za-z0-9]+))|(?P<d>\bd[a-zA-Z]\b)"
    r"|(?P<words>[A-Za-z][A-Za-z0-9_.']*[A-Za-z0-9](?: [a-z][a-z']+)*)|(?P<greek>[α-ωΣΠ])|(?P<sign>\.\.\.|->|[²·∂≤≥∈*~|%])"
    r"|(?P<space> +)|(?P<other>.)"
)


def markdown(text: str, links: Mapping[str, str] | None = None) -> str:
    """The docstring `text`; `links` has the full name of each name that is to be a link where it stands in backticks."""
    lines = inspect.cleandoc(text).splitlines()
    blocks: list[str] = []
    while lines:
        section = re.fullmatch(r"(\w+):", lines[0])
        if section and section[1] in SECTIONS:
            body = _take(lines, 1)
            blocks.append(_section(section[1], textwrap.dedent("\n".join(body)), links))
        elif lines[0].startswith("    "):
            blocks.append(_block(textwrap.dedent("\n".join(_take(lines, 0))).rstrip()))
        else:
            paragraph = []
            while lines and not lines[0].startswith("    ") and not re.fullmatch(rf"({'|'.join(SECTIONS)}):", lines[0]):
                paragraph.append(lines.pop(0))
            blocks.append(_prose("\n".join(paragraph).strip(), links))
    return "\n\n".join(block for block in blocks if block.strip())


def _take(lines: list[str], skip: int) -> list[str]:
    """The indented lines that follow, taken off `lines`."""
    del lines[:skip]
    body = []
    while lines and (not lines[0].strip() or lines[0].startswith(("  ", "\t"))):
        body.append(lines.pop(0))
    return body


def _section(name: str, body: str, links: Mapping[str, str] | None) -> str:
    title = {"Args": "Arguments"}.get(name, name)
    entries = re.split(r"\n(?=\S)", body.strip())
    items = []
    for entry in entries:
        entry = " ".join(line.strip() for line in entry.splitlines())
        head = re.match(r"([\w, ]+): ", entry)
        if head:
            names = ", ".join(f"`{part.strip()}`" for part in head[1].split(","))
            items.append(f"- {names}: {_prose(entry[head.end() :], links)}")
        else:
            items.append(f"- {_prose(entry, links)}" if name in ("Args", "Attributes") else _prose(entry, links))
    return f"**{title}**\n\n" + "\n".join(items)


def _prose(text: str, links: Mapping[str, str] | None) -> str:
    """Prose: what Markdown would take for markup outside of backticks is escaped."""
    parts = re.split(r"(`[^`]+`)", text)
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"([$<\[\]*])", r"\\\1", parts[place])
    for place in range(1, len(parts), 2):
        name = re.sub(r"\(.*\)$", "", parts[place].strip("`"))
        target = (links or {}).get(name)
        if target:
            parts[place] = f"{{py:obj}}`{parts[place].strip('`')} <{target}>`"
    return "".join(parts)


def _block(text: str) -> str:
    """An indented block: equations, or else a program."""
    if is_equations(text):
        return f"```{{math}}\n{latex(text)}\n```"
    command = all(re.match(r"(python|pip|#|\s|srun)", line) or line.startswith(" ") for line in text.splitlines())
    program = re.search(r"jrnn\.|jax\.|import ", text) and not re.search(r" {3}|->", text)
    return f"```{'sh' if command else 'python' if program else 'text'}\n{text}\n```"


def is_equations(text: str) -> bool:
    """Whether a block is equations: every line says what something is, and times or Greek letters occur."""
    lines = text.splitlines()
    if re.search(r'["`]|jrnn\.|jax\.|import ', text) or any(line.startswith(" ") for line in lines):
        return False
    says = all(re.search(r"[^=]=[^=]|~", line) for line in lines)
    return says and bool(re.search(r"[σφψτμΣθ]|_t\b|_\{t|_0\b", text))


def latex(text: str) -> str:
    """Equations as an array of LaTeX; what stands three blanks or more to the right is a remark."""
    rows = []
    for line in text.splitlines():
        equation, *remark = re.split(r" {2,}", line.strip(), maxsplit=1)
        left, equals, right = re.split(r"(?<![=<>!_a-z])\s?(= |~ )", equation, maxsplit=1)
        sign = r"\sim" if equals.strip() == "~" else "="
        said = rf" && \text{{{_text(re.sub(' +', ' ', remark[0]))}}}" if remark else ""
        rows.append(f"{_terms(left.strip())} &{sign} {_terms(right.strip())}{said}")
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def _text(words: str) -> str:
    """Words as MathJax's text mode has them, where an underscore is itself."""
    words = words.replace("$", r"\$")
    return re.sub(r"[α-ωΣΠ]", lambda found: rf"\(\{GREEK[found[0]]}\)", words)


def _terms(text: str) -> str:
    """One side of an equation."""
    out, roots, depth = [], [], 0
    for token in TOKEN.finditer(text):
        kind, value = token.lastgroup, token[0]
        if kind == "root":
            out.append(r"\sqrt{")
            depth += 1
            roots.append(depth)
        elif kind == "sub":
            head, _, below = value.partition("_")
            head = rf"\{GREEK[head]}" if head in GREEK else head
            below = below.strip("{}")
            out.append(f"{head}_{{{below}}}")
        elif kind == "d":
            out.append(rf"\mathrm{{d}}{value[1]}")
        elif kind == "words":
            out.append(
                rf"\text{{{_text(value)}}}"
                if " " in value or "'" in value or "." in value
                else rf"\mathrm{{{_text(value)}}}"
            )
        elif kind == "greek":
            out.append(rf"\{GREEK[value]} ")
        elif kind == "sign":
            out.append(SIGNS[value])
        elif kind == "space":
            beside = text[: token.start()][-1:] + text[token.end() :][:1]
            out.append(" " if len(beside) < 2 or re.search(r"[-+=,\[(/]", beside) else r"\, ")
        else:
            if value == "(":
                depth += 1
            if value == ")":
                if roots and roots[-1] == depth:
                    roots.pop()
                    value = "}"
                depth -= 1
            out.append({"{": r"\{", "}": "}", "#": r"\#", "&": r"\&", "_": r"\_"}.get(value, value))
    return "".join(out)
