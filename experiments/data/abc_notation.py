"""Tunes in ABC notation (abcnotation.com, standard 2.1): reading them, and how long their bars are.

Of a tune is kept what is played of its one melody: metre (M:), key (K:), unit of note lengths (L:), notes, rests, chords of several
notes, bar lines, repeats and endings, tuplets, ties, broken rhythms, beams (the spaces), lines, and changes of M:, K: or L: within
it. Everything else is dropped: titles, sources, comments, words (w:), other fields, chord names and annotations in quotation
marks, grace notes, slurs, bowings, ornaments and other decorations. What is kept is written in one way: C is 4/4, "E Minor" is Em,
d/2 is d/, :||: is ::, |1 is |[1, and there is no space at a bar line.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

_MODES = {"": "", "maj": "", "ion": "", "m": "m", "min": "m", "aeo": "m"} | {
    mode: mode for mode in ("mix", "dor", "phr", "lyd", "loc")
}
_TOKEN = re.compile(
    r"""
    (?P<dropped> "[^"\n]*" | ![^!\n]*! | \+[a-z.]+\+ | \{[^}\n]*\} | \[[A-Za-z]:[^]\n]*\] | \((?![2-9]) | [).~`*$;!yH-Wh-w] )
    | (?P<ending> \[[1-9](?:[,-][1-9])* )
    | (?P<bar> \[?[|:]+\]? )
    | (?P<tuplet> \([2-9](?::[0-9]*){0,2} )
    | (?P<sound> (?:\[(?P<chord>[^]|:\n]*)\] | (?:\^\^?|__?|=)?[A-Ga-g][,']* | [zx]) (?P<length>[0-9]*/*[0-9]*) )
    | (?P<mark> >{1,3} | <{1,3} | - )
    | (?P<space> \s+ )
    """,
    re.VERBOSE,
)
_NOTE = re.compile(r"((?:\^\^?|__?|=)?[A-Ga-g][,']*)([0-9]*/*[0-9]*)")
_ENDING = re.compile(r"[1-9](?:[,-][1-9])*")
_FIELD = re.compile(r"([A-Za-z+]):(?![|:])(.*)")
_IN_TUPLET = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # notes of a tuplet, and in the time of how many


class Tune(NamedTuple):
    """What is kept of a tune."""

    title: str
    metre: str  # "6/8", "C|"
    key: str  # "G", "Em", "Amix"
    unit: str  # "1/8"
    music: str  # lines of notes and of changed fields

    @property
    def document(self) -> str:
        """Its text, from the metre on: metre and key come first, so that a beginning can ask for both."""
        return f"M:{self.metre}\nK:{self.key}\nL:{self.unit}\n{self.music}\n"


class Bar(NamedTuple):
    """What lies between two bar lines."""

    length: Fraction  # in whole notes
    expected: Fraction  # by the metre
    before: str  # the bar line to its left, with the ending that begins there; "" at the beginning of a tune
    after: str  # to its right; "" at the end

    @property
    def inner(self) -> bool:
        """Whether it stands between two single bar lines: bars at repeats, endings and double lines may be cut in two."""
        return self.before == self.after == "|"


def read(text: str) -> Iterator[tuple[str, Tune | ValueError]]:
    """The tunes of an ABC file, each with a name for messages, or what is wrong with it.

    A tune is from one line X: to the next.
    """
    found = re.split(r"^X:[ \t]*(.*)$", text, flags=re.MULTILINE)
    for number, body in zip(found[1::2], found[2::2]):
        titles = [line[2:].strip() for line in body.split("\n") if line.startswith("T:")]
        name = f"tune X:{number.strip()}{f' ({titles[0]})' if titles else ''}"
        try:
            yield name, _tune(titles[0] if titles else "", body)
        except ValueError as error:
            yield name, error


def parse_document(document: str) -> Tune:
    """What `Tune.document` wrote; ValueError where a text is no such document."""
    return _tune("", document)


def as_file(document: str, *, number: int = 1, title: str = "Untitled") -> str:
    """An ABC tune of its own: the header as the standard orders it (K: last), then the music."""
    fields: dict[str, str] = {}
    lines = document.strip("\n").split("\n")
    while lines and len(fields) < 3 and lines[0][:2] in ("M:", "K:", "L:") and lines[0][:2] not in fields:
        line = lines.pop(0)
        fields[line[:2]] = line
    head = [fields[name] for name in ("M:", "L:", "K:") if name in fields]
    return "\n".join([f"X:{number}", f"T:{title}", *head, *lines]) + "\n"


def metre_of(text: str) -> str:
    """The one way a metre is written."""
    text = text.strip()
    if text == "C":
        return "4/4"
    if text != "C|" and not re.fullmatch(r"[1-9][0-9]?/(1|2|4|8|16)", text):
        raise ValueError(f"its metre is {text!r}; expected such as 6/8, C or C|")
    return text


def key_of(text: str) -> str:
    """The one way a key is written."""
    words = " ".join(word for word in text.split() if "=" not in word)
    found = re.fullmatch(r"([A-G][b#]?) ?([A-Za-z]*)", words)
    mode = None if found is None else _MODES.get(found[2].lower()[:3])
    if found is None or mode is None:
        raise ValueError(f"its key is {text.strip()!r}; expected such as G, Em, E minor or Amix")
    return found[1] + mode


def bar_length(metre: str) -> Fraction:
    """In whole notes."""
    return Fraction(1) if metre == "C|" else Fraction(metre)


def bars(tune: Tune) -> list[Bar]:
    """The bars that sound, in the order in which they are written."""
    expected, unit = bar_length(tune.metre), Fraction(tune.unit)
    compound = expected.denominator == 8 and expected.numerator % 3 == 0
    found: list[Bar] = []
    length, before = Fraction(0), ""
    broken, last = Fraction(1), Fraction(0)  # the factor of the next note; the length of the last
    factor, left = Fraction(1), 0  # of a tuplet, and for how many notes yet
    for line in [*tune.music.splitlines(), "end"]:
        field = _FIELD.fullmatch(line)
        if field or line == "end":
            if line == "end" and length:
                found.append(Bar(length, expected, before, ""))
            elif field and field[1] == "M":
                expected = bar_length(field[2])
            elif field and field[1] == "L":
                unit = Fraction(field[2])
            continue
        for token in _TOKEN.finditer(line):
            text = token[0]
            if token["bar"] or token["ending"]:
                if length:
                    found.append(Bar(length, expected, before, text))
                    length, before = Fraction(0), text
                else:
                    before += text
            elif token["tuplet"]:
                given = [int(part) if part else 0 for part in text[1:].split(":")]
                notes = given[0]
                time = given[1] if len(given) > 1 and given[1] else _IN_TUPLET.get(notes, 3 if compound else 2)
                factor, left = Fraction(time, notes), given[2] if len(given) > 2 and given[2] else notes
            elif token["mark"] and text != "-":
                short = Fraction(1, 2 ** len(text))
                own, broken = (2 - short, short) if text[0] == ">" else (short, 2 - short)
                length += last * (own - 1)
            elif token["sound"]:
                last = unit * _length(token["length"]) * (factor if left else 1) * broken
                left, broken = max(left - 1, 0), Fraction(1)
                length += last
    return found


def _tune(title: str, body: str) -> Tune:
    fields: dict[str, str] = {}
    music: list[str] = []
    for line in _joined(body):
        field = _FIELD.fullmatch(line)
        if field is None:
            if cleaned := _clean(line):
                music.append(cleaned)
        elif field[1] == "V":
            raise ValueError("it has voices (V:); expected one melody")
        elif field[1] in "MKL":
            kept = {"M": metre_of, "K": key_of, "L": _unit_of}[field[1]](field[2])
            if not music:
                fields[field[1]] = kept
            elif music[-1].startswith(f"{field[1]}:"):
                music[-1] = f"{field[1]}:{kept}"
            else:
                music.append(f"{field[1]}:{kept}")
    while music and _FIELD.fullmatch(music[-1]):
        music.pop()
    for name, what in (("M", "metre"), ("K", "key")):
        if name not in fields:
            raise ValueError(f"it has no {what} ({name}:); expected one before its first note")
    if not any(token["sound"] for line in music for token in _TOKEN.finditer(line) if not _FIELD.fullmatch(line)):
        raise ValueError("it has no notes")
    unit = fields.get("L") or ("1/8" if bar_length(fields["M"]) >= Fraction(3, 4) else "1/16")
    return Tune(title, fields["M"], fields["K"], unit, "\n".join(music))


def _joined(body: str) -> list[str]:
    """Lines without comments; one that ends in a backslash goes on in the next."""
    lines = (line.partition("%")[0].strip() for line in body.split("\n"))
    return re.sub(r"\\\n", " ", "\n".join(line for line in lines if line)).replace("\\", " ").split("\n")


def _clean(line: str) -> str:
    """A line of music with what is kept of it."""
    out: list[str] = []
    place, previous = 0, ""
    while place < len(line):
        token = _TOKEN.match(line, place)
        if previous == "bar" and line[place] in "123456789":
            ending = _ENDING.match(line, place)
            assert ending is not None
            out.append(f"[{ending[0]}")
            place, previous = ending.end(), "ending"
            continue
        if token is None:
            raise ValueError(
                f"{line!r} has {line[place]!r} at character {place + 1}; expected notes, rests and bar lines"
            )
        place = token.end()
        kind, text = token.lastgroup or "", token[0]
        if token["dropped"]:
            inline = re.fullmatch(r"\[[MKL]:.*\]", text)
            if inline:
                raise ValueError(f"{text} changes a field within a line; expected a line of its own")
            continue
        if token["bar"]:
            joined = out.pop() if previous == "bar" and out[-1] != " " else ""
            while previous == "bar" and not joined:
                joined = out.pop().strip()
            kind, text = "bar", _bar(joined + text)
        elif token["sound"]:
            kind, text = "sound", _sound(token)
        elif token["space"]:
            kind, text = "space", " "
        out.append(text)
        previous = kind if token["space"] is None else previous
    return re.sub(r" ?(\[[1-9][1-9,-]*|\[?[|:]+\]?|[<>-]+) ?", r"\1", re.sub(r" +", " ", "".join(out))).strip()


def _bar(text: str) -> str:
    if text == ":":
        raise ValueError("it has a ':' without a bar line; expected :| or |:")
    if text[0] == ":" and text[-1] == ":":
        return "::"
    if text[0] == ":":
        return ":|"
    if text[-1] == ":":
        return "|:"
    if text[-1] == "]":
        return "|]"
    return "||" if "||" in text else "|"


def _sound(token: re.Match[str]) -> str:
    length = _written(_length(token["length"]))
    if token["chord"] is None:
        return token["sound"].removesuffix(token["length"]).replace("x", "z") + length
    notes = _NOTE.findall(token["chord"])
    if not notes:
        raise ValueError(f"[{token['chord']}] is no chord; expected notes in it")
    if notes[0][1]:  # the length of the first note is the chord's
        length = _written(_length(token["length"]) * _length(notes[0][1]))
    return f"[{''.join(note for note, _ in notes)}]{length}"


def _length(text: str) -> Fraction:
    """Of a note, in units: "3/2", "/" a half, "//" a quarter."""
    number, slashes, below = re.fullmatch(r"([0-9]*)(/*)([0-9]*)", text).groups()  # type: ignore[union-attr]
    divisor = int(below) if below else 2 ** len(slashes)
    if not divisor:
        raise ValueError(f"a note has the length {text}; expected a fraction")
    return Fraction(int(number or 1), divisor)


def _written(length: Fraction) -> str:
    if length.denominator == 1:
        return "" if length == 1 else str(length)
    return "/" if length == Fraction(1, 2) else str(length) if length.numerator > 1 else f"/{length.denominator}"


def _unit_of(text: str) -> str:
    text = text.strip()
    if not re.fullmatch(r"1/(1|2|4|8|16|32)", text):
        raise ValueError(f"its unit of length is {text!r}; expected such as 1/8")
    return text
