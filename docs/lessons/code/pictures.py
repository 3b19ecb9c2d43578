"""What pictures of the lessons share: colours, boxes, arrows, words."""

import os

import matplotlib.pyplot as plt
from matplotlib import font_manager

INPUT, STATE, OUTPUT, GRADIENT, GREY = (
    "#3b6fb6",
    "#d9822b",
    "#3a923a",
    "#c03d3e",
    "#8a8a8a",
)

_LANGUAGE = os.environ.get("LESSON_LANGUAGE", "en")
if _LANGUAGE == "zh":  # matplotlib's own list of fonts may be older than the font
    for path in font_manager.findSystemFonts():
        if "NotoSansCJK" in path:  # every weight
            font_manager.fontManager.addfont(path)
_CHINESE = {"Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC"} & set(
    font_manager.get_font_names()
)

plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "font.family": [*sorted(_CHINESE, reverse=True)[:1], "DejaVu Sans"]
        if _LANGUAGE == "zh"
        else ["DejaVu Sans"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
        "axes.titlesize": 11,
        "legend.frameon": False,
    }
)


def words(chinese):
    """From an English label to the page's language; English where a font is missing."""
    if _LANGUAGE != "zh" or not _CHINESE:
        return lambda text: text
    return lambda text: chinese[text]


def canvas(width, height, x, y):
    """A figure without axes, on which x and y go from 0."""
    fig, ax = plt.subplots(figsize=(width, height))
    ax.set(xlim=(-0.1, x), ylim=(-0.1, y))
    ax.axis("off")
    return fig, ax


def box(ax, x, y, text, color, width=1.0, height=0.6, **options):
    """A rounded box around (x, y)."""
    from matplotlib.patches import FancyBboxPatch

    shape = FancyBboxPatch(
        (x - width / 2 + 0.08, y - height / 2 + 0.08),
        width - 0.16,
        height - 0.16,
        boxstyle="round,pad=0.08",
        facecolor=color + "22",
        edgecolor=color,
        linewidth=1.5,
    )
    ax.add_patch(shape)
    ax.text(x, y, text, ha="center", va="center", **options)


def arrow(
    ax, start, end, color="0.3", text=None, shift=(0.0, 0.0), bend=0.0, **options
):
    """An arrow, with a text beside its middle."""
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "lw": 1.4,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    style["connectionstyle"] = f"arc3,rad={bend}"
    ax.annotate("", xy=end, xytext=start, arrowprops=style)
    if text is not None:
        middle = (
            (start[0] + end[0]) / 2 + shift[0],
            (start[1] + end[1]) / 2 + shift[1],
        )
        ax.text(*middle, text, ha="center", va="center", color=color, **options)


def numbers(ax, values, form="{:g}", limit=None, colors="RdBu_r", size=9):
    """A table of numbers [rows, columns], each on its colour."""
    limit = abs(values).max() if limit is None else limit
    ax.imshow(values, cmap=colors, vmin=-limit, vmax=limit, aspect="auto")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            dark = abs(value) > 0.6 * limit
            ax.text(
                j,
                i,
                form.format(value),
                ha="center",
                va="center",
                size=size,
                color="white" if dark else "black",
            )
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
