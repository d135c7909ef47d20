import json
import os
import pickle
import random
import shutil

import numpy as np
import pytest
from raw_samples import image_bytes

from datamodules import rle
from datamodules.labelled import labelled_images
from datamodules.member_index import MemberIndex
from datamodules.reader import ShardReader
from datamodules.shards import JOURNAL, MANIFEST, index_of, members_of, sha256
from datamodules.writer import new_shards
from phd.errors import UserError

IMAGE = {"image": {"file_name": "a.jpg", "width": 4, "height": 2}, "annotations": []}
PHRASES = [{"text": "cat", "id": 1, "answers": [{"instances": [], "exhaustive": True}]}]
FRAMES = [0, 4, 16]


def video_record(frames):
    return {
        "video": {"name": "a", "width": 4, "height": 2},
        "frames": frames,
        "labelled": [0],
        "objects": [{"id": 1, "masks": [None for _ in frames]}],
    }


def write(root, samples, form=None, samples_per_shard=2):
    """Shards of `samples`, key -> (record, further members)."""
    with new_shards(root, "test", samples_per_shard) as writer:
        for key, (record, members) in samples.items():
            writer.write(key, {**members, "json": json.dumps(record).encode()})
        writer.details.update({"form": form} if form else {})
    return root


def images(root, count=5, **options):
    # All of one size, so that their tars are too.
    return write(root, {f"sa_{n}": (IMAGE, {"jpg": bytes([n]) * 100}) for n in range(count)}, **options)


def videos(root):
    frames = {f"{number:06d}.jpg": bytes([number]) * (number + 1) for number in FRAMES}
    one = {"000007.jpg": b"seven"}
    return write(root, {"long": (video_record(FRAMES), frames), "short": (video_record([7]), one)}, "video")


def change_manifest(root, change):
    manifest = json.loads((root / MANIFEST).read_bytes())
    change(manifest)
    (root / MANIFEST).write_text(json.dumps(manifest))


def test_videos_have_a_member_for_each_frame(tmp_path):
    reader = ShardReader(videos(tmp_path / "shards"))
    assert (len(reader), reader.form) == (2, "video")
    assert reader.extensions_of(0) == ["000000.jpg", "000004.jpg", "000016.jpg", "json"]
    assert reader.extensions_of(1) == ["000007.jpg", "json"]
    assert reader.extensions == ["000000.jpg", "000004.jpg", "000007.jpg", "000016.jpg", "json"]
    assert reader.member(0, "000004.jpg") == b"\4" * 5
    assert reader.members(0, ["000016.jpg", "000000.jpg"]) == [b"\20" * 17, b"\0"]
    assert reader.record(1) == video_record([7])
    with pytest.raises(UserError, match=r"shard-000000\.tar: short: has no \.000004\.jpg"):
        reader.member(1, "000004.jpg")
    with pytest.raises(UserError, match="holds videos where images are needed"):
        reader.read(0)
    with pytest.raises(IndexError):
        reader.extensions_of(2)


def test_shards_and_their_first_samples(tmp_path):
    reader = ShardReader(images(tmp_path / "shards"))
    assert [reader.shard_of(number) for number in range(5)] == [0, 0, 1, 1, 2]
    assert [reader.first(shard) for shard in range(4)] == [0, 2, 4, 5]
    assert reader.form == "image"
    assert reader.read(3).where == reader.where(3)


def test_concepts_are_read_as_images_are(tmp_path):
    record = {**IMAGE, "phrases": PHRASES}
    reader = ShardReader(write(tmp_path / "shards", {"a": (record, {"jpg": b"a"})}, "concept"))
    assert (reader.form, reader.read(0).record) == ("concept", record)


def test_a_record_of_another_form_than_the_manifest_says(tmp_path):
    with pytest.raises(UserError, match=r"sa_0: has no list of \"phrases\""):
        ShardReader(images(tmp_path / "concept", form="concept")).read(0)
    with pytest.raises(UserError, match=r"shard-000000\.tar: sa_0: "):
        ShardReader(images(tmp_path / "video", form="video")).record(0)
    with pytest.raises(UserError, match="holds 'sound' and not image, concept, video"):
        ShardReader(images(tmp_path / "sound", form="sound"))


def test_an_unfinished_conversion_says_how_to_go_on(tmp_path):
    root = images(tmp_path / "shards")
    (root / MANIFEST).rename(root / JOURNAL)
    with pytest.raises(UserError, match=r"unfinished \(convert\.journal\.json but no .* and --resume$"):
        ShardReader(root)


def test_what_is_no_damage(tmp_path):
    root = images(tmp_path / "shards")
    (root / "skipped.jsonl").write_text("{}")
    os.utime(root / "shard-000000.tar", (2e9, 2e9))  # newer than its index, as after a copy
    assert len(ShardReader(root)) == 5


def test_two_shards_with_the_same_key(tmp_path):
    root = images(tmp_path / "shards")
    for suffix in ("tar", "index.json"):
        shutil.copyfile(root / f"shard-000000.{suffix}", root / f"shard-000003.{suffix}")
    change_manifest(root, lambda found: found["shards"].append({**found["shards"][0], "name": "shard-000003"}))
    with pytest.raises(UserError, match="two samples have the same key, sa_0 in shard-000000 and shard-000003"):
        ShardReader(root)


def test_the_tar_under_an_index_is_another_one_of_the_same_size(tmp_path):
    root = images(tmp_path / "shards")
    first, second = root / "shard-000000.tar", root / "shard-000001.tar"
    assert first.stat().st_size == second.stat().st_size
    first.rename(root / "other")
    second.rename(first)
    (root / "other").rename(second)
    reader = ShardReader(root)
    with pytest.raises(UserError, match=r"shard-000000\.tar: sa_1: \.json does not lie where the index says") as caught:
        reader.read(1)
    assert "\n" not in str(caught.value)


def test_the_index_of_another_tar(tmp_path):
    root = images(tmp_path / "shards")
    shutil.copyfile(root / "shard-000001.index.json", root / "shard-000000.index.json")
    with pytest.raises(UserError, match=r"shard-000000\.index\.json: not the index that shards\.json lists"):
        ShardReader(root)


def test_a_member_that_was_cut(tmp_path):
    root = images(tmp_path / "shards")
    reader = ShardReader(root)
    offset, size = members_of(root / "shard-000002.tar")["sa_4"]["json"]
    os.truncate(root / "shard-000002.tar", offset + size - 1)
    assert reader.member(4, "jpg") == b"\4" * 100
    with pytest.raises(UserError, match=r"shard-000002\.tar: sa_4: \.json is cut short"):
        reader.read(4)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("name", "../shard-000000"), ("name", 5), ("samples", "two"), ("extra", 1), ("bytes", None)],
)
def test_a_damaged_list_of_shards(tmp_path, entry, value):
    root = images(tmp_path / "shards")
    change_manifest(root, lambda found: found["shards"][0].update({entry: value}))
    with pytest.raises(UserError, match=r"shards\.json: its list of shards is damaged"):
        ShardReader(root)


def replace_index(root, index):
    (root / "shard-000000.index.json").write_bytes(index)
    change_manifest(root, lambda found: found["shards"][0].update(index_sha256=sha256(index)))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"jpg": (10**9, 5)}, "does not fit its tar"),
        ({"jpg": (-5, 5)}, "no index of phd-shards"),
        ({"jpg": ("a", 5)}, "no index of phd-shards"),
        ({"jpg": 7}, "no index of phd-shards"),
    ],
)
def test_an_index_that_its_manifest_vouches_for_but_makes_no_sense(tmp_path, members, message):
    root = images(tmp_path / "shards")
    replace_index(root, index_of("shard-000000", {"sa_0": members, "sa_1": members}))
    with pytest.raises(UserError, match=rf"shard-000000\.index\.json: {message}"):
        ShardReader(root)


def test_an_index_with_fewer_samples_than_the_manifest_says(tmp_path):
    root = images(tmp_path / "shards")
    replace_index(root, index_of("shard-000000", {"sa_0": {"json": (512, 1)}}))
    with pytest.raises(UserError, match="does not fit its tar"):
        ShardReader(root)


@pytest.mark.parametrize("key", ["x" * 89, "ü" * 44, "Grüße"])
def test_long_keys_and_letters_beyond_ascii(tmp_path, key):
    root = write(tmp_path / "shards", {key: (video_record([7]), {"000007.jpg": b"7"})}, "video")
    reader = ShardReader(root)
    assert reader.key(0) == key
    assert reader.member(0, "000007.jpg") == b"7"


def test_the_index_in_arrays_says_what_the_dicts_said():
    draw = random.Random(3)
    names = [*(f"{number:06d}.jpg" for number in range(300)), "json", "q8"]
    samples = []
    for number in range(60):
        members = {
            name: [draw.randrange(512, 2**40), draw.randrange(10**6)] for name in draw.sample(names, draw.randrange(9))
        }
        samples.append({"key": f"key{number}", "members": members})
    shards = [samples[:20], [], samples[20:21], samples[21:]]
    index = MemberIndex.of_folder([MemberIndex.of_shard(shard) for shard in shards])
    assert len(index) == 60
    for number, sample in enumerate(samples):
        assert index.keys[number].decode() == sample["key"]
        assert index.extensions_of(number) == list(sample["members"])
        assert {name: index.place(number, name) for name in names if index.place(number, name)} == {
            name: tuple(place) for name, place in sample["members"].items()
        }


def test_the_index_of_many_samples_is_small():
    def shard(first):
        places = [(512 + 10**6 * number, 900_000 + number) for number in range(1000)]
        samples = [
            {"key": f"sa_{first + number}", "members": {"jpg": place, "json": (place[0] + 950_000, 40_000)}}
            for number, place in enumerate(places)
        ]
        return MemberIndex.of_shard(samples)

    index = MemberIndex.of_folder([shard(first) for first in range(0, 20_000, 1000)])
    # Key 8, start 2 or 4, and of two members: name 1, offset 4, size 4.
    assert len(pickle.dumps(index)) / len(index) < 32
    assert index.offsets.dtype == np.uint32


def test_only_the_first_annotator_is_evaluated_and_crowds_are_counted(tmp_path):
    mask = rle.encode(np.ones((2, 4), dtype=bool))
    annotations = [
        {"id": 1, "segmentation": mask},
        {"id": 2, "segmentation": mask, "iscrowd": 1},
        {"id": 3, "segmentation": mask, "annotator": 1},
        {"id": 4, "segmentation": mask, "annotator": 2, "iscrowd": 1},
    ]
    record = {**IMAGE, "annotations": annotations, "phrases": PHRASES}
    jpg = image_bytes(np.zeros((2, 4, 3), dtype=np.uint8))
    labelled = labelled_images(ShardReader(write(tmp_path / "shards", {"a": (record, {"jpg": jpg})}, "concept")))
    assert [image.ids for image in labelled] == [[1]]
    assert labelled.num_crowd == 1
