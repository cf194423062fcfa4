"""A fingerprint is of the bytes that are loaded, and a finished model of which a bit has changed isn't loaded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from rrr_cli.engines import fingerprints
from rrr_cli.engines.fingerprints import check_finished, fingerprint, sealed
from rrr_cli.engines.models import resolve
from rrr_cli.errors import RrrError

YEAR = 365 * 24 * 3600 * 10**9  # ns


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a sharded model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for shard in shards:
        data = b"weights " * 9000
        tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
        header = json.dumps({shard[7:11]: tensor}).encode()
        (folder / shard).write_bytes(len(header).to_bytes(8, "little") + header + data)
    index = {"weight_map": dict(zip("ab", shards, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of hashes; every file is big, and old enough to be kept there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RRR_CACHE", raising=False)
    monkeypatch.setattr(fingerprints, "BIG", 1)
    now = fingerprints.time.time_ns
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda: now() + YEAR)
    return tmp_path / "cache" / "rrr" / "hashes.json"


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model-00001-of-00002.safetensors"])
def test_every_loaded_file_counts_whatever_the_folder_is_named(model, name):
    snapshot = Path(shutil.copytree(model, model.parent / "snapshots" / "0a1b2c"))
    assert fingerprint(snapshot) == fingerprint(model)
    flip(snapshot / name)
    assert fingerprint(snapshot) != fingerprint(model)


def test_a_new_template_counts_and_what_is_not_loaded_does_not(model):
    before = fingerprint(model)
    for name in ("README.md", "rrr.json", "results.json", "optimizer.safetensors", "model-00003-of-00002.safetensors"):
        (model / name).write_text("{}")
    assert fingerprint(model) == before
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint(model) != before


def test_a_bit_in_the_middle_of_a_big_file_counts(model, cached):
    shard = model / "model-00002-of-00002.safetensors"
    before = fingerprint(model)
    times = shard.stat()
    flip(shard, 34567)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` and rsync leave it
    assert fingerprint(model) != before
    flip(shard, 34567)
    assert fingerprint(model) == before


def test_a_file_put_in_place_of_one_of_the_same_size_and_time_counts(model, cached):
    shard = model / "model-00001-of-00002.safetensors"
    before, times = fingerprint(model), shard.stat()
    other = model.parent / "other"
    other.write_bytes(b"WEIGHTS " * 9000)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(shard)
    assert fingerprint(model) != before


def test_a_big_file_is_read_once(model, cached, monkeypatch):
    before = fingerprint(model)
    assert str(model / "config.json") in json.loads(cached.read_text())
    monkeypatch.setattr(fingerprints.hashlib, "file_digest", None)
    assert fingerprint(model) == before


def test_a_file_that_has_just_changed_is_not_cached(model, cached, monkeypatch):
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda: model.stat().st_mtime_ns)
    fingerprint(model)
    assert not cached.exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b"\xff", b"[" * 5000])
def test_a_damaged_or_unwritable_cache_changes_nothing(model, cached, content):
    before = fingerprint(model)
    cached.write_bytes(content)
    assert fingerprint(model) == before
    cached.unlink()
    cached.parent.rmdir()
    cached.parent.write_text("a file")  # no folder can be made here
    assert fingerprint(model) == before


def test_a_user_is_told_of_a_long_hashing_once(model, cached, monkeypatch, capsys):
    monkeypatch.setattr(fingerprints, "LONG", 100_000)
    for said in (1, 0):
        fingerprint(model)
        assert capsys.readouterr().err.count("rrr: hashing the") == said


def test_a_missing_shard_or_damaged_index_is_one_line(model):
    (model / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(RrrError, match=r"lacks model-00002-of-00002.safetensors \(1 of the 2 files that"):
        fingerprint(model)
    for content in ("{", "[]", '{"weight_map": [1]}', "{}"):
        (model / "model.safetensors.index.json").write_text(content)
        with pytest.raises(RrrError, match=r"index\.json (is not|names no)|lacks 1 "):
            fingerprint(model)


def test_a_changed_cut_or_missing_file_of_a_finished_model_is_refused(model, rrr):
    (model / "rrr.json").write_text(json.dumps(sealed(model, {"command": "self-train", "steps": 3})))
    check_finished(model)
    resolve(str(model))
    for path in sorted(model.iterdir()):
        good = path.read_bytes()
        half = len(good) // 2
        for damaged in (good[:-1], good[:half] + bytes([good[half] ^ 4]) + good[half + 1:], None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            elif path.name == "rrr.json":
                path.write_bytes(good)  # without it, it is a model of somebody else's
                continue
            with pytest.raises(RrrError, match=path.name) as caught:
                check_finished(model)
            assert "\n" not in str(caught.value)
        path.write_bytes(good)
    flip(model / "tokenizer.json")
    ran = rrr("mine-failures", "--model", model, "--limit", 1, "--run", model.parent / "run")
    assert ran.code == 3
    assert "tokenizer.json isn't as rrr wrote it" in ran.err
    assert ran.err.count("\n") == 1


def test_a_model_of_an_older_rrr_without_hashes_is_loaded(model):
    (model / "rrr.json").write_text(json.dumps({"config_id": "ab", "steps": 3}))
    resolve(str(model))
