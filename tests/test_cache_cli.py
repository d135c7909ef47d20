"""`phd cache` as a user meets it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cached import names, tars, whole
from cli_runs import ROOT, refused, small

from phd.cli import main
from phd.teachers import new_toy

SHARDS = [f"shard-{number:06d}" for number in range(3)]
CPU = ["--accelerator", "cpu", "--threads", "1"]


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, toy_shards: Path, toy_folder: Path) -> Path:
    """No test changes it."""
    folder = tmp_path_factory.mktemp("cli") / "cache"
    main([*map(str, ["cache", "build", toy_shards, "--teacher", toy_folder, "--out", folder]), *CPU])
    return folder


def test_plan_says_what_build_makes(capsys, cache: Path, toy_shards: Path, toy_folder: Path, tmp_path: Path) -> None:
    command = ["cache", "plan", toy_shards, "--teacher", toy_folder, "--tries", 3, "--out", tmp_path / "none"]
    said = say(capsys, *command)
    # 24 samples of 128 x 8 x 8 int8 and 128 scales, a header of 512 bytes each; 1024 at the end, filled to 10240.
    size = 3 * -(-(8 * (512 + 8192 + 512 + 512) + 1024) // 10240) * 10240
    assert size == sum(len(data) for data in tars(cache).values())
    assert f"images: 24 in 3 shards of {toy_shards}" in said
    assert f"bytes:  {size} (246 kB as int8, 8.45 kB an image; fp16 " in said
    assert f"files:  {len(names(cache))} " in said
    assert re.search(r"hours:  \S+ on one device: \S+ s an image on cpu, 32-true, measured on 3 images after", said)
    assert re.search(r"error:  relative MSE of at most [1-9]\.\d\de-05 on these images\n", said)
    assert not (tmp_path / "none").exists()


def test_build_then_verify_then_info(capsys, cache: Path, toy_shards: Path, toy_folder: Path) -> None:
    assert names(cache) == whole(SHARDS)
    said = say(capsys, "cache", "build", toy_shards, "--teacher", toy_folder, "--out", cache, *CPU)  # nothing to do
    assert f"{cache}: features of 24 images in 3 shards, 246 kB; relative MSE at most level0 " in said
    command = ["cache", "verify", cache, "--data", toy_shards, "--teacher", toy_folder, "--sample"]
    few, again, all_of_them = (say(capsys, *command, share) for share in (0.2, 0.2, 1))
    assert few == again
    checked = re.search(r"sizes of 3 shards checked, (\d+) images run again", few)
    assert 1 <= int(checked[1]) < 12
    assert "24 images run again" in all_of_them
    assert re.search(r"level0: relative MSE mean \d\.\d\de-05, max \d\.\d\de-05", all_of_them)
    said = say(capsys, "cache", "info", cache)
    for line in ("state:     finished 20", "shards:    3 of 3, 246 kB", "images:    24 of 24", "stored:    int8"):
        assert line in said
    assert "contract:  sam3, squash to 64; trunk 128 x 8 x 8" in said


def test_verify_finds_damage(capsys, cache: Path, toy_shards: Path, toy_folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(cache, damaged)
    tar = damaged / "features-shard-000002.tar"
    data = tar.read_bytes()
    command = ["cache", "verify", damaged, "--data", toy_shards, "--teacher", toy_folder, "--sample", 1]
    tar.write_bytes(data[:2048] + bytes(2048) + data[4096:])
    assert refused(capsys, *command).endswith("1 problems, listed above")
    with pytest.raises(SystemExit):
        main(list(map(str, command)))
    assert re.search(r"^sa_\d+: relative MSE \d\.\d\de-01, where 2e-04 is allowed$", capsys.readouterr().out, re.M)
    tar.write_bytes(data[:-512])
    assert refused(capsys, *command).endswith("1 problems, listed above")
    tar.unlink()
    assert refused(capsys, *command).endswith("1 problems, listed above")


def test_what_is_refused(capsys, cache: Path, toy_shards: Path, toy_folder: Path, tmp_path: Path) -> None:
    build = ["cache", "build", toy_shards, "--teacher", toy_folder, "--out"]
    assert "holds a cache of something else (dtype: int8 against bf16)" in refused(
        capsys, *build, cache, *CPU, "--dtype", "bf16"
    )
    assert "--batch-size is 0; give at least 1" in refused(capsys, *build, tmp_path / "a", "--batch-size", 0)
    assert "--accelerator quantum --devices auto --num-nodes 1: cannot be had here" in refused(
        capsys, *build, tmp_path / "a", "--accelerator", "quantum"
    )
    for devices in ("x", "-1", "1.5"):
        said = refused(capsys, *build, tmp_path / "a", "--accelerator", "cpu", "--devices", devices)
        assert f"--devices {devices} --num-nodes 1: cannot be had here" in said
    assert "--stale-after is nan" in refused(capsys, *build, tmp_path / "a", "--stale-after", "nan")
    assert f"{toy_shards}: holds image shards; name a folder" in refused(capsys, *build, toy_shards, *CPU)
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'}: cannot be written" in refused(capsys, *build, tmp_path / "file", *CPU)
    assert "no finished shards" in refused(capsys, "cache", "plan", tmp_path, "--teacher", toy_folder)
    assert "no teacher feature cache" in refused(capsys, "cache", "info", tmp_path)
    new_toy(64, seed=1).save(tmp_path / "other")
    verify = ["cache", "verify", cache, "--data", toy_shards, "--teacher"]
    assert re.search(r"is not this teacher .*other \(weights: ", refused(capsys, *verify, tmp_path / "other"))
    assert "--sample is 0.0; give a share" in refused(capsys, *verify, toy_folder, "--sample", 0)


def test_fit_reads_the_cache(capsys, cache: Path, toy_shards: Path, toy_folder: Path, tmp_path: Path) -> None:
    command = ["fit", *small(toy_shards, tmp_path / "run", toy_folder, f"--data.cache={cache}", steps=1)]
    assert "set them to 0, or leave out data.cache" in refused(
        capsys, *command, "--data.augmentation.crop_probability=1"
    )
    still = [f"--data.augmentation.{name}=0" for name in ("horizontal_flip", "crop_probability")]
    main([*command, *still])
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()


def start(out: Path, shards: Path, teacher: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "phd", "cache", "build", str(shards), "--teacher", str(teacher), "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *CPU, *more], cwd=ROOT, **pipes)


@pytest.mark.slow
def test_two_processes_of_lightning(tmp_path: Path, cache: Path, toy_shards: Path, toy_folder: Path) -> None:
    process = start(tmp_path / "cache", toy_shards, toy_folder, "--devices", "2")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.count("features of 24 images in 3 shards") == 1  # only the first process says it
    assert tars(tmp_path / "cache") == tars(cache)
    assert names(tmp_path / "cache") == whole(SHARDS)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process(kill: signal.Signals, tmp_path: Path, toy_raw: Path, toy_folder: Path) -> None:
    from datamodules.convert import convert_sa1b

    convert_sa1b(toy_raw, tmp_path / "shards", samples_per_shard=1)
    out = tmp_path / "cache"
    process = start(out, tmp_path / "shards", toy_folder)
    while process.poll() is None and len(list(out.glob("*.index.json"))) < 3:
        time.sleep(0.001)
    process.send_signal(kill)
    process.communicate(timeout=60)
    assert process.returncode != 0, "it was faster than the signal"
    assert 3 <= len(list(out.glob("*.tar"))) < 24
    if kill == signal.SIGTERM:
        assert not [*out.glob("*.partial"), *out.glob("*.claim")]
    main([*map(str, ["cache", "build", tmp_path / "shards", "--teacher", toy_folder, "--out", out]), *CPU])
    assert len(names(out)) == 2 * 24 + 1
