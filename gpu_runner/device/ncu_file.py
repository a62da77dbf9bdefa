"""Report files as lines of text: exports as they lie on disk, `.ncu-rep` through the tool.

An export may come from any shell and any editor: with a byte order mark, in UTF-16, cut short.
"""

import codecs
import io
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from gpu_runner.device.ncu_csv import CaptureUnreadable
from gpu_runner.device.watched import find_tool
from gpu_runner.errors import ToolchainMissing

Page = Literal["raw", "details", "source"]
_MAGIC = b"NVR\x00"
_SUFFIX = ".ncu-rep"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONGEST_LINE = 32 << 20
"""Characters; a row with every metric of a launch and all its instances has far fewer."""
_IMPORT_TIMEOUT_S = 300.0


@contextmanager
def lines_of(path: Path, page: Page) -> Iterator[Iterator[str]]:
    """Yield the lines of a page of a report, one at a time.

    Args:
        path: an export as text, or a `.ncu-rep`, of which the page is exported.
        page: which one, for a `.ncu-rep`.

    Raises:
        CaptureUnreadable: there is no such file, or it is empty.
        ToolchainMissing: a `.ncu-rep` without an ncu that reads it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise CaptureUnreadable(
            f"{path} cannot be read: {error.strerror or error}; give a report file"
        ) from error
    if not start:
        raise CaptureUnreadable(
            f"{path} is empty; export it again with ncu --import REPORT --page {page} --csv"
        )
    if start == _MAGIC or path.suffix == _SUFFIX:
        with tempfile.TemporaryFile("w+b") as exported:
            _export(path, page, exported)
            exported.seek(0)
            with _text(exported, "utf-8") as reader:
                yield _lines(reader, path)
        return
    with path.open("rb") as file:
        encoding = next((name for bom, name in _BOMS if start.startswith(bom)), "utf-8")
        with _text(file, encoding) as reader:
            yield _lines(reader, path)


def is_binary_report(path: Path) -> bool:
    """Whether a file is the tool's own format, of which any page can be exported."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC or path.suffix == _SUFFIX
    except OSError:
        return False


def _text(file: IO[bytes], encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(cast("BinaryIO", file), encoding, errors="replace")


def _lines(reader: io.TextIOWrapper, path: Path) -> Iterator[str]:
    number = 0
    while line := reader.readline(_LONGEST_LINE):
        number += 1
        if len(line) >= _LONGEST_LINE:
            raise CaptureUnreadable(
                f"line {number} of {path} has no end within {_LONGEST_LINE} characters; this is "
                "no export of a report"
            )
        yield line


def _export(path: Path, page: Page, target: IO[bytes]) -> None:
    ncu = find_tool("ncu")
    if ncu is None:
        raise ToolchainMissing(
            f"{path} is in ncu's own format and no ncu is installed here; where there is one, run "
            f"ncu --import {path.name} --page {page} --csv > {page}.csv and give that file"
        )
    argv = [ncu, "--import", str(path), "--page", page, "--csv"]
    if page == "source":
        argv += ["--print-source", "sass,cuda"]
    try:
        done = subprocess.run(
            argv,
            stdout=target,
            stderr=subprocess.PIPE,
            timeout=_IMPORT_TIMEOUT_S,
            check=False,
            text=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainMissing(f"{ncu} cannot export {path}: {error}; export it by hand") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise CaptureUnreadable(
            f"{ncu} cannot export {path}: {said or 'it says nothing'}; the report may be newer "
            "than this ncu, or damaged"
        )
