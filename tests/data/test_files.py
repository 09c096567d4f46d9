"""Raw files: the same bytes whatever holds them, and one clear line when the container is damaged."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.data.files import RawFile
from seqrec_lib.errors import SeqRecError

TEXT = b"one\r\ntwo\n\nfour without an end"


def read(raw: RawFile) -> bytes:
    with raw.open() as stream:
        return stream.read()


def test_plain_gzip_and_zip_member_give_the_same_bytes(data):
    plain = RawFile(data.write("plain.txt", TEXT))
    gzipped = RawFile(data.write("zipped.txt.gz", TEXT))
    unnamed = RawFile(data.write("gzip_without_suffix", gzipped.path.read_bytes()))
    member = RawFile(data.zip("archive.zip", {"folder/a.txt": TEXT}), "folder/a.txt")
    assert read(plain) == read(gzipped) == read(unnamed) == read(member) == TEXT
    assert member.label.endswith("archive.zip!folder/a.txt")
    assert plain.checksum("md5") == hashlib.md5(TEXT).hexdigest()


def test_lines_are_numbered_from_one_and_lose_both_kinds_of_line_end(data):
    raw = RawFile(data.write("a.txt", TEXT))
    assert list(raw.lines()) == [(1, b"one"), (2, b"two"), (3, b""), (4, b"four without an end")]


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.text("ab\r\x00", max_size=12).map(str.encode), max_size=20), size=st.integers(1, 40))
def test_blocks_hold_whole_lines_and_right_numbers(tmp_path_factory, lines, size):
    path = tmp_path_factory.mktemp("blocks") / "a.txt"
    text = b"id" + b"\n".join(lines)  # a file of text does not begin with zero bytes
    path.write_bytes(text)
    blocks = list(RawFile(path).blocks(size))
    assert b"".join(block for _, block in blocks) == text
    assert all(block.endswith(b"\n") for _, block in blocks[:-1])
    line = 1
    for number, block in blocks:
        assert number == line
        line += block.count(b"\n")


def damaged(kind: str, data) -> RawFile:
    if kind == "truncated gzip":
        path = data.write("a.gz", bytes(range(256)) * 400)
        path.write_bytes(path.read_bytes()[:-20])
        return RawFile(path)
    if kind == "flipped byte":
        path = data.write("a.gz", bytes(range(256)) * 400)
        content = bytearray(path.read_bytes())
        content[-6] ^= 0xFF  # in the CRC
        path.write_bytes(content)
        return RawFile(path)
    if kind == "not gzip at all":
        path = data.write("a.txt", "<html>not found</html>")
        return RawFile(path.rename(path.with_suffix(".gz")))
    path = data.zip("a.zip", {"a.txt": TEXT * 100})
    path.write_bytes(path.read_bytes()[:-30])
    return RawFile(path, "a.txt")


@pytest.mark.parametrize("kind", ["truncated gzip", "flipped byte", "not gzip at all", "truncated zip"])
def test_a_damaged_container_is_one_clear_line(data, kind):
    raw = damaged(kind, data)
    with pytest.raises(SeqRecError, match="is damaged") as caught:
        read(raw)
    message = str(caught.value)
    assert str(raw.path) in message
    assert "put a sound copy in its place" in message


@pytest.mark.parametrize("kind", ["a.zip", "a.gz"])
def test_no_flipped_bit_of_a_container_gives_other_text_or_an_unexpected_error(data, kind):
    path = data.zip(kind, {"a.txt": TEXT}) if kind == "a.zip" else data.write(kind, TEXT)
    raw, whole = RawFile(path, "a.txt" if kind == "a.zip" else None), path.read_bytes()
    refused = 0
    for offset in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1 << bit]) + whole[offset + 1 :])
            try:
                assert read(raw) == TEXT
            except SeqRecError:
                refused += 1
    assert refused > len(whole)


def test_a_file_that_cannot_be_read_names_itself(data):
    with pytest.raises(SeqRecError, match=r"nowhere.txt cannot be read"):
        read(RawFile(data.root / "nowhere.txt"))


def test_an_encrypted_member_is_one_clear_line(data):
    path = data.zip("locked.zip", {"a.txt": TEXT})
    blob = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # bit 0 of the flags, in both headers
        blob[blob.index(signature) + place] |= 1
    path.write_bytes(bytes(blob))
    with pytest.raises(SeqRecError, match=r"locked\.zip!a\.txt cannot be unpacked \(.*encrypted.*\); unpack it"):
        read(RawFile(path, "a.txt"))
