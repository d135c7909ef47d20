"""`phd shards negatives` on the embedded world: a verifier is asked, and what is found is absent."""

import json

import pytest
from asked_scenes import missing
from cli_runs import files, refused
from negative_runs import options
from teacher_cases import stirred
from tiny import tiny_sam

from datamodules.concept_record import is_negative
from datamodules.convert import KINDS, convert
from datamodules.negatives import add_negatives
from datamodules.reader import ShardReader
from datamodules.shapes.asked import asked_scene
from datamodules.shapes.questions import Asking
from datamodules.shapes.saco import write_saco_silver
from phd.cli import main
from phd.commands.shards_negatives import Encoder, Verifier
from phd.teachers import new_toy

SEED, SAMPLES = 7, 24
ASKING = Asking(positives=3, negatives=1.0, hard=0.4, synonyms=0.3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("negatives")
    write_saco_silver(folder / "raw", SAMPLES, SEED, asking=ASKING, crowd=0.5)
    kind = KINDS["saco-silver"]
    convert(kind, kind.options(folder / "raw", folder / "shards", samples_per_shard=10))
    return folder / "shards"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "toy"
    stirred(new_toy(64)).save(folder)
    return folder


def seen_identities(index):
    asked = asked_scene(SEED, index, ASKING, crowd=0.5)
    return [thing.identity for thing, mask in zip(asked.scene.things, asked.masks, strict=True) if mask.any()]


def truth(shards):
    """A verifier that looks at the scenes; it remembers what it was asked."""
    reader, calls = ShardReader(shards), []
    scene_of = {reader.read(number).jpg: number for number in range(SAMPLES)}

    def verify(jpg, true, candidates):
        identities = seen_identities(scene_of[jpg])
        verdicts = [all(missing(text, identity) for identity in identities) for text in candidates]
        calls.append((true, candidates, verdicts))
        return verdicts

    return verify, calls


def test_new_negatives_are_absent(shards, tmp_path):
    verify, calls = truth(shards)
    mined = add_negatives(options(shards, tmp_path / "out", count=6, verify="the truth"), verify=verify)
    before, after = ShardReader(shards), ShardReader(tmp_path / "out")
    added = 0
    for number in range(SAMPLES):
        old, new, identities = before.record(number), after.record(number), seen_identities(number)
        for was, now in zip(old["phrases"], new["phrases"], strict=False):
            assert {name: now[name] for name in was} == was
            if now.get("hard"):  # one attribute away, or another phrase for things of the same head noun
                assert is_negative(now)
                assert now["origin"].startswith("asked; lexical: ")
        fresh = new["phrases"][len(old["phrases"]) :]
        for phrase in fresh:
            assert all(missing(phrase["text"], identity) for identity in identities)
            assert phrase["origin"].startswith("lexical: ")
            assert phrase["origin"].endswith("(verified by the truth)")
            assert phrase["hard"]
        texts = [phrase["text"] for phrase in new["phrases"]]
        assert len({frozenset(text.split()) for text in texts}) == len(texts)
        assert sum(bool(phrase.get("hard")) for phrase in new["phrases"]) <= 6
        added += len(fresh)
    assert added == sum(mined.added.values()) > SAMPLES
    assert sum(mined.marked.values()) >= 3
    for true, candidates, _ in calls:
        assert not any(set(text.split()) <= set(other.split()) for text in candidates for other in true)
    assert not all(all(verdicts) for _, _, verdicts in calls)  # something near was there, and was turned down


def test_a_stopped_run_goes_on_to_the_same_bytes(shards, tmp_path):
    verify, _ = truth(shards)
    whole = tmp_path / "whole"
    add_negatives(options(shards, whole, verify="truth"), verify=verify)
    calls = 0

    def stops(jpg, true, candidates):
        nonlocal calls
        calls += 1
        if calls == 16:
            raise KeyboardInterrupt
        return verify(jpg, true, candidates)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match="go on with --resume"):
        add_negatives(options(shards, out, verify="truth"), verify=stops)
    assert "shards.json" not in files(out)
    assert "shard-000000.tar" in files(out)
    again = add_negatives(options(shards, out, verify="truth", resume=True), verify=verify)
    assert again.summary.resumed == 10
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
    assert add_negatives(options(shards, out, verify="truth", resume=True)).summary.finished


def test_the_command_line(shards, toy, tmp_path, capsys):
    out, numbers = tmp_path / "out", tmp_path / "numbers.json"
    order = ["--count", "4", "--model", str(toy), "--verify", str(toy), "--max-samples", "3", "--json", str(numbers)]
    main(["shards", "negatives", str(shards), "--out", str(out), *order])
    said = capsys.readouterr().out
    found = json.loads(numbers.read_text())
    assert f"new hard negatives: {sum(found['added'].values())}" in said
    assert "of the true phrases" in said
    assert len(ShardReader(out)) == found["summary"]["samples"] == 3
    main(["shards", "verify", str(out)])
    main(["shards", "negatives", str(shards)])
    said = capsys.readouterr().out
    assert "passed over: " in said
    assert "--verify MODEL asks a teacher" in said
    assert (shards.with_name("shards-negatives") / "shards.json").is_file()
    assert "has such negatives already" in refused(capsys, "shards", "negatives", out, "--out", tmp_path / "x")
    folder = tmp_path / "sam"
    tiny_sam().save(folder)
    said = refused(capsys, "shards", "negatives", shards, "--out", tmp_path / "x", "--verify", folder)
    assert "cannot read phrases" in said


def test_a_verifier_counts_what_it_finds(shards, toy):
    sample = ShardReader(shards).read(0)
    for threshold, absent in ((0.0, False), (1.0, True)):
        verify = Verifier(str(toy), "cpu", threshold)
        assert verify.found_share is None
        assert verify(sample.jpg, ["ring", "star", "red ring"], ["moon", "blue disk"]) == [absent] * 2
        assert verify.found_share == (0.0 if absent else 1.0)
        assert verify.asked == 3


def test_an_encoder_gives_unit_vectors_by_phrase(toy):
    encode = Encoder(str(toy), "cpu")
    texts = [f"red ring {number}" for number in range(300)]
    vectors = encode(texts)
    assert vectors.shape[0] == 300
    assert (vectors**2).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert vectors[299] == pytest.approx(encode(texts[299:])[0], abs=1e-5)
