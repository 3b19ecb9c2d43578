"""Files of data sets: from a folder of the user's, else from the download cache, checked by what they must contain."""

import codecs
import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import pooch


class File(NamedTuple):
    """One file of a data set."""

    name: str  # its path in a data folder, where it may also lie gzipped, with .gz added
    url: str  # where it is downloaded from; gzipped where it ends in .gz and name does not
    sha256: str  # of its uncompressed content


def read(file: File, data_dir: Path | None = None) -> bytes:
    """The uncompressed content of `file`: from `data_dir`, else from the folder that the environment variable JRNN_DATA names,
    else from the download cache, to which it is fetched on first use.

    Raises:
      FileNotFoundError: a folder given is none, or the file is nowhere and cannot be downloaded: where it was looked for, and
        how to provide it.
      ValueError: its content is not the expected one.
    """
    folders = folders_given(data_dir, file.name)
    for folder in folders.values():
        for path in (folder / file.name, folder / f"{file.name}.gz"):
            if path.is_file():
                return _checked(path, file)
    return _checked(_download(file, folders), file)


def folders_given(data_dir: Path | None, holds: str) -> dict[str, Path]:
    """The folders of data that the user has named, by who named them; FileNotFoundError where one, that `holds` such, is none."""
    given = {"data_dir": data_dir, "JRNN_DATA": os.environ.get("JRNN_DATA")}
    folders = {source: Path(folder).expanduser() for source, folder in given.items() if folder}
    for source, folder in folders.items():
        if not folder.is_dir():
            raise FileNotFoundError(f"{source} is {folder}, which is not a folder; expected one that holds {holds}")
    return folders


def check_file(path: Path, expected: str) -> None:
    """FileNotFoundError where a file of the user's own, such as "a csv file", is not there."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"file {path} {found}; expected {expected}: pass the path of one")


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Those of a folder of the user's own whose names end in `suffix`, such as ".wav", in capitals or not, by their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == suffix)


def folder_given(data_dir: Path | None) -> bool:
    """Whether the user has named a folder of data, by --data-dir or by the environment variable JRNN_DATA."""
    return bool(data_dir or os.environ.get("JRNN_DATA"))


def unpacked(path: Path) -> bytes:
    """The uncompressed content of a gzip file; ValueError where it is none, or not whole."""
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}): replace or remove it") from error


def decoded(content: bytes, path: Path | str, encoding: str | None = None) -> str:
    """The text of a file of the user's own, as `plain` has it. Without an `encoding` it is UTF-8 by its format.

    ValueError names `path` and the line of a byte that is not in the encoding.
    """
    kind = codecs.lookup(encoding or "utf-8").name
    try:
        return plain(content.decode(kind))
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        likely = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
        remedy = f"name the text's own encoding by --encoding, such as {likely}, or " if encoding else ""
        raise ValueError(
            f"{path}:{line}: byte {byte:#04x} is not {kind.upper()} ({error.reason}); {remedy}convert the file"
        ) from error


def plain(text: str) -> str:
    """Without a byte order mark, and with a newline alone at the end of each line.

    A carriage return ends a line before a newline, and where there is no newline at all.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")


def lines_of(text: str) -> list[str]:
    """The lines of a text that `decoded` gave.

    They end in a newline alone: other ends that Unicode has, such as U+2028 or what latin-1 has for cp1252's ellipsis, stand in the
    middle of sentences, and would shift all after them.
    """
    return text.removesuffix("\n").split("\n") if text else []


def _download(file: File, folders: dict[str, Path]) -> Path:
    packed = ".gz" if file.url.endswith(".gz") and not file.name.endswith(".gz") else ""
    cache = pooch.os_cache("jrnn") / f"{file.name}{packed}"
    known = None if packed else f"sha256:{file.sha256}"  # the packed file's own hash may change with who packs it
    try:
        pooch.retrieve(file.url, known_hash=known, path=cache.parent, fname=cache.name)
    except (OSError, ValueError) as error:
        looked_in = ", ".join(f"{folder} ({source})" for source, folder in folders.items()) or "no data folder given"
        raise FileNotFoundError(
            f"{file.name} was not found ({looked_in}; cache {cache.parent}) and could not be downloaded from {file.url}: "
            f"{error}. Fetch it by other means to <folder>/{file.name} and name the folder by --data-dir or JRNN_DATA"
        ) from error
    return cache


def _checked(path: Path, file: File) -> bytes:
    packed = path.name != Path(file.name).name
    content = unpacked(path) if packed else path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ValueError(
            f"{path} is not the expected file: the SHA-256 of its uncompressed content is {found}, expected {file.sha256}; "
            f"replace it, or remove it to have it downloaded"
        )
    return content
