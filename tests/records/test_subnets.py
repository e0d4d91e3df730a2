"""Files of evaluated subnets, plain and packed."""

import gzip
from pathlib import Path

import pytest

from hwnas.errors import DataError
from hwnas.records import EvaluatedSubnet, read_subnets, subnets_file

LINE = EvaluatedSubnet(arch_id="a", genes={"g": 1}, iou=0.5).to_json() + "\n"


def test_a_packed_file_reads_like_a_plain_one(tmp_path: Path) -> None:
    plain, packed = tmp_path / "x.jsonl", tmp_path / "y.jsonl.gz"
    plain.write_text(LINE)
    packed.write_bytes(gzip.compress(LINE.encode()))
    assert read_subnets(plain) == read_subnets(packed)
    assert subnets_file(tmp_path / "x") == plain
    assert subnets_file(tmp_path / "y") == packed
    assert subnets_file(tmp_path / "z") is None


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(LINE.encode())[:-12]])
def test_a_damaged_packed_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as evaluated subnets"):
        read_subnets(path)
