import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from knowledge_store.errors import SourceError
from knowledge_store.sources import archive
from knowledge_store.sources.archive import Member, is_archive, members

MIB = 1024 * 1024


def everything(_name: str) -> bool:
    return True


def read(path: Path, want=everything, most: int = MIB) -> list[Member]:
    return list(members(path, want, most))


def add(tar: tarfile.TarFile, name: str, content: bytes = b"x", **changes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def make_tar(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            add(tar, name, content)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tar", True),
        ("a.tar.zst", True),
        ("A.TAR.GZ", True),
        ("a.tgz", True),
        ("a.zip", True),
        ("a.zst", False),
        ("tar", False),
        ("a.tar.txt", False),
    ],
)
def test_an_archive_is_known_by_its_name(name, expected):
    assert is_archive(Path(name)) is expected


def test_only_what_is_wanted_is_read(tmp_path):
    path = make_tar(tmp_path / "a.tar", one=b"1", two=b"22")
    assert read(path, lambda name: name == "two") == [Member("two", b"22")]


def test_a_zip_gives_the_same(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("folder/one", b"1")
        file.writestr("two", b"22")
    assert read(path) == [Member("folder/one", b"1"), Member("two", b"22")]


ODD = ["/etc/passwd", "../up", "a/../../up", "a\\..\\b", "\\\\host\\share"]


def test_names_that_lead_out_are_refused_in_tars(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ODD:
            add(tar, name)
    assert read(path) == [Member(name, None, "odd names") for name in ODD]


def test_names_that_lead_out_are_refused_in_zips(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ODD:
            file.writestr(zipfile.ZipInfo(name), b"x")
    assert [member.refused for member in read(path)] == ["odd names"] * len(ODD)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "review.diff", b"", type=kind, linkname="/etc/passwd")
        add(tar, "after", b"still read")
    assert read(path) == [Member("review.diff", None, "links"), Member("after", b"still read")]


def test_links_in_zips_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    info = zipfile.ZipInfo("review.diff")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, "/etc/passwd")
    assert read(path) == [Member("review.diff", None, "links")]


def test_a_large_file_is_refused_and_the_next_is_read(tmp_path):
    files = {"large": b"x" * (2 * MIB), "small": b"y"}
    expected = [Member("large", None, "too large"), Member("small", b"y")]
    assert read(make_tar(tmp_path / "a.tar", **files)) == expected
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    assert read(tmp_path / "a.zip") == expected


def zeros_tar(size: int) -> bytes:
    header = tarfile.TarInfo("zeros")
    header.size = size
    return header.tobuf()


def test_a_tar_bomb_ends_before_it_has_unpacked(tmp_path):
    path = tmp_path / "bomb.tar.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as packer:
        packer.write(zeros_tar(1024 * MIB))
        for _ in range(1024):
            packer.write(bytes(MIB))
    assert path.stat().st_size < MIB
    with pytest.raises(SourceError, match="unpacks to more than 256 MiB"):
        read(path)


def test_a_zip_bomb_ends_before_it_has_unpacked(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(40):
            file.writestr(f"zeros{number}", bytes(8 * MIB))
    with pytest.raises(SourceError, match="unpacks to more than 256 MiB"):
        read(path, most=8 * MIB)


def test_a_header_that_would_fill_memory_is_refused(tmp_path):
    info = tarfile.TarInfo("headers")
    info.type = tarfile.XHDTYPE
    info.size = 200 * MIB
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf() + bytes(4 * MIB))
    with pytest.raises(SourceError, match="has a header of 209715200 bytes"):
        read(path)


def test_many_empty_files_keep_nothing_in_memory(tmp_path):
    path = tmp_path / "many.tar"
    path.write_bytes(tarfile.TarInfo("f").tobuf() * 20_000 + bytes(1024))
    assert sum(1 for _ in members(path, lambda _name: False, MIB)) == 0


def test_what_was_read_before_the_damage_stays(tmp_path):
    whole = make_tar(tmp_path / "a.tar", one=b"1", two=b"2" * 5000).read_bytes()
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[:2000])
    found = members(path, everything, MIB)
    assert next(found) == Member("one", b"1")
    with pytest.raises(SourceError, match="cut"):
        next(found)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tar", b"no tar at all" * 100),
        ("a.tar.gz", b"no gzip"),
        ("a.tar.bz2", b"no bzip2"),
        ("a.tar.zst", b"no zstd"),
        ("a.zip", b"no zip"),
        ("a.tar.zst", zstandard.ZstdCompressor().compress(b"no tar" * 500)),
    ],
)
def test_what_is_no_archive_is_said(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=name):
        read(tmp_path / name)


def test_an_encrypted_zip_is_said(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("one", b"1")
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read"):
        read(path)


def test_a_window_larger_than_usual_is_unpacked(tmp_path):
    path = tmp_path / "long.tar.zst"
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    plain = make_tar(tmp_path / "a.tar", one=b"1" * MIB).read_bytes()
    path.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(plain))
    assert read(path) == [Member("one", b"1" * MIB)]


def test_a_window_that_would_fill_memory_is_refused(tmp_path):
    path = tmp_path / "long.tar.zst"
    parameters = zstandard.ZstdCompressionParameters(window_log=30)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path.write_bytes(packer.compress(bytes(10_000)) + packer.flush())
    with pytest.raises(SourceError, match="damaged"):
        read(path)


def test_limits_hold_for_real_collections():
    assert archive.MOST_BYTES > 4 * 864 * MIB
    assert archive.MOST_RATIO > 4 * 50
