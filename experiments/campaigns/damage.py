"""Ways to damage a file: its bits, its bytes, its lines, its end, its encoding."""

from collections.abc import Callable

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]
"""`damage(content, random) -> content`, of a content that is not empty."""


def _span(content: bytes, random: np.random.Generator) -> tuple[int, int]:
    """Where some bytes begin and end; few as a rule, many at times."""
    begin = int(random.integers(len(content)))
    return begin, min(begin + 1 + int(random.geometric(0.1)), len(content))


def flip_bits(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in random.integers(8 * len(content), size=random.geometric(0.3)):
        changed[place // 8] ^= 1 << int(place % 8)
    return bytes(changed)


def replace_byte(content: bytes, random: np.random.Generator) -> bytes:
    """By one that means something to many formats."""
    begin = int(random.integers(len(content)))
    byte = random.choice([0, 9, 10, 13, 32, 34, 35, 44, 45, 46, 48, 57, 58, 64, 127, 128, 255])
    return content[:begin] + bytes([int(byte)]) + content[begin + 1 :]


def truncate(content: bytes, random: np.random.Generator) -> bytes:
    return content[: int(random.integers(len(content)))]


def delete_bytes(content: bytes, random: np.random.Generator) -> bytes:
    begin, end = _span(content, random)
    return content[:begin] + content[end:]


def repeat_bytes(content: bytes, random: np.random.Generator) -> bytes:
    begin, end = _span(content, random)
    return content[:end] + content[begin:]


def insert_bytes(content: bytes, random: np.random.Generator) -> bytes:
    begin, _ = _span(content, random)
    return content[:begin] + random.bytes(int(random.geometric(0.2))) + content[begin:]


def change_lines(content: bytes, random: np.random.Generator) -> bytes:
    """One is deleted, repeated elsewhere, exchanged for another, or an empty one comes before it."""
    lines = content.split(b"\n")
    one, other = map(int, random.integers(len(lines), size=2))
    match int(random.integers(4)):
        case 0:
            del lines[one]
        case 1:
            lines.insert(other, lines[one])
        case 2:
            lines[one], lines[other] = lines[other], lines[one]
        case _:
            lines.insert(one, b"")
    return b"\n".join(lines)


def encode_otherwise(content: bytes, random: np.random.Generator) -> bytes:
    """What a program makes of it that takes it for another encoding, or writes another, or other line ends."""
    text = content.decode("latin-1")
    match int(random.integers(5)):
        case 0:
            return text.encode("utf-8")  # read twice
        case 1:
            return content.decode("utf-8", "replace").encode("latin-1", "replace")
        case 2:
            return content.decode("utf-8", "replace").encode("utf-16")
        case 3:
            return b"\xef\xbb\xbf" + content
    return content.replace(b"\n", b"\r" if random.random() < 0.5 else b"\r\n")


DAMAGES: tuple[Damage, ...] = (
    flip_bits, replace_byte, truncate, delete_bytes, repeat_bytes, insert_bytes, change_lines, encode_otherwise,
)  # fmt: skip


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """The content with one damage or a few; not what it was."""
    changed = content
    while changed and (changed == content or random.random() < 0.3):
        changed = DAMAGES[random.integers(len(DAMAGES))](changed, random)
    return changed
