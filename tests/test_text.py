"""Phrases to tokens: the two vocabularies, the context, and the text encoders of students."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from teacher_cases import assert_close, stirred
from transformers import Sam3LiteTextConfig, Sam3VideoConfig
from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextModel

from datamodules.shapes.outlines import OUTLINES
from datamodules.shapes.textures import PALETTE, TEXTURES
from phd.errors import UserError
from phd.student import Student, TextStudent
from phd.teachers import Teacher, new_toy
from phd.text import mobileclip, teacher_text, tokenizer_of
from phd.text.words import FIRST_HASHED, IDS, WORDS, word_ids


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return stirred(new_toy(64))


def test_clip_vocabulary() -> None:
    tokens = tokenizer_of(49408)(["a photo of a cat", "Red  Car!"], 8)
    # "a photo of a cat" is the example of CLIP's repository.
    assert tokens.ids.tolist() == [
        [49406, 320, 1125, 539, 320, 2368, 49407, 0],
        [49406, 736, 1615, 256, 49407, 0, 0, 0],
    ]
    assert tokens.mask.sum(dim=1).tolist() == [7, 5]
    assert tokens.cut == 0


@pytest.mark.parametrize("vocabulary", [49408, 512])
def test_long_phrases_are_cut_and_counted(vocabulary: int) -> None:
    tokenizer = tokenizer_of(vocabulary)
    fits, long = "star " * 14, "star " * 15
    tokens = tokenizer([fits, long, "star", long * 3], 16)
    assert tokens.cut == 2
    assert tokens.ids.shape == (4, 16)
    assert tokens.ids[0].tolist() == tokens.ids[1].tolist() == tokens.ids[3].tolist()
    assert tokens.ids[1, -1] == tokenizer.end
    assert tokens.mask.sum(dim=1).tolist() == [16, 16, 3, 16]


@pytest.mark.parametrize("vocabulary", [49408, 512])
@pytest.mark.parametrize("phrase", ["", "  \t"])
def test_empty_phrases(vocabulary: int, phrase: str) -> None:
    with pytest.raises(UserError, match=r"phrase 2 of 2 is empty"):
        tokenizer_of(vocabulary)(["star", phrase], 16)


def test_unknown_vocabularies() -> None:
    with pytest.raises(UserError, match=r"vocabulary of 1000 entries: known are CLIP's \(49408\)"):
        tokenizer_of(1000)


def test_the_embedded_world_is_spoken_word_by_word() -> None:
    words = WORDS.split()
    assert len(words) == len(set(words)) == len(IDS)
    assert max(IDS.values()) < FIRST_HASHED
    named = {" ".join(parts) for parts in product(PALETTE, TEXTURES, OUTLINES)}
    sequences = {tuple(word_ids(phrase)) for phrase in named}
    assert len(sequences) == len(named)
    assert all(3 <= number < FIRST_HASHED for sequence in sequences for number in sequence)
    assert word_ids("Red, striped RING.") == word_ids("red striped ring") == [IDS["red"], IDS["striped"], IDS["ring"]]


def test_ids_of_words_do_not_move() -> None:
    # They are part of the shipped weights; new words go to the end.
    assert (IDS["visual"], IDS["disk"], IDS["red"], IDS["checkered"]) == (3, 46, 129, 175)
    # The check value that defines CRC-32: 0xCBF43926 for these nine digits.
    assert word_ids("123456789") == [FIRST_HASHED + 0x26]
    assert word_ids("zebra") != word_ids("giraffe")


def test_the_teachers_own_reads_what_the_library_reads(teacher: Teacher) -> None:
    detector = teacher.model.detector_model
    tokens = teacher.text.tokenizer(["red ring", "star"], 16)
    with torch.no_grad():
        theirs = detector.get_text_features(input_ids=tokens.ids, attention_mask=tokens.mask.long()).pooler_output
        mine = teacher.encode_text(["red ring", "star"])
        alone = teacher.encode_text(["star"])
    assert_close(mine.tokens, theirs)
    assert torch.equal(mine.mask, tokens.mask)
    assert_close(alone.tokens[0, :3], mine.tokens[1, :3])


@pytest.mark.parametrize("kind", ["mobileclip_s0", "mobileclip_s1"])
def test_mobileclip_is_the_librarys(kind: str) -> None:
    torch.manual_seed(0)
    text = mobileclip(kind, 512, 32, 16).eval()
    small: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    parts = {
        "geometry_encoder_config": {**small, "num_layers": 1},
        "detr_encoder_config": {**small, "num_layers": 1},
        "detr_decoder_config": {**small, "num_layers": 1, "num_queries": 4},
        "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
    }
    vision = Sam3VideoConfig.from_dict(new_toy(64).config).detector_config.vision_config
    library = Sam3LiteTextModel(
        Sam3LiteTextConfig(vision_config=vision, text_config=text.encoder.config, **parts)
    ).eval()
    library.text_encoder.load_state_dict(text.encoder.state_dict())
    library.text_projection.load_state_dict(text.projection.state_dict())
    tokens = text.tokenizer(["red ring", "a small star"], 16)
    with torch.no_grad():
        theirs = library.get_text_features(input_ids=tokens.ids, attention_mask=tokens.mask.long()).pooler_output
        assert_close(text(["red ring", "a small star"]).tokens, theirs)


@pytest.mark.parametrize(
    ("kind", "context", "millions"),
    [
        ("mobileclip_s0", 16, 42.41),
        ("mobileclip_s0", 32, 42.42),
        ("mobileclip_s1", 16, 63.40),
        ("mobileclip_s1", 32, 63.41),
        ("mobileclip2_l", 16, 123.60),
        ("mobileclip2_l", 32, 123.62),
    ],
)
def test_sizes(kind: str, context: int, millions: float) -> None:
    with torch.device("meta"):
        text = mobileclip(kind, 49408, 256, context)
    assert sum(p.numel() for p in text.encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    assert (text.context, text.projection.out_features) == (context, 256)


def test_settings(teacher: Teacher) -> None:
    with pytest.raises(UserError, match="'mobileclip_s9' does not exist; choose one of teacher, mobileclip_s0"):
        mobileclip("mobileclip_s9", 512, 32, 16)
    with pytest.raises(UserError, match="text_context is 24; give 16 or 32"):
        mobileclip("mobileclip_s0", 512, 32, 24)
    with pytest.raises(UserError, match="text_context is 32, but the teacher's text encoder reads at most 16"):
        teacher_text(teacher.config, 32)
    with pytest.raises(UserError, match="text_context is 32, but toy-random reads at most 16"):
        TextStudent.create("mobileclip_s0", teacher, 32)


def test_a_shorter_context_changes_only_what_is_cut(teacher: Teacher) -> None:
    short = teacher_text(teacher.config, 4).eval()
    short.load_state_dict(teacher.text.state_dict())
    with torch.no_grad():
        mine, theirs = short(["red ring", "a red striped ring"]), teacher.encode_text(["red ring"])
    assert (mine.tokens.shape[1], mine.cut) == (4, 1)
    assert_close(mine.tokens[0], theirs.tokens[0, :4])


def student_of(teacher: Teacher, **settings: Any) -> Student:
    torch.manual_seed(0)
    return Student.create("efficientvit_b0", teacher, pretrained=False, **settings).eval()


def test_students_with_text_come_back(teacher: Teacher, tmp_path: Path) -> None:
    student = student_of(teacher, text="mobileclip_s0", text_context=16)
    assert (student.config.text, student.config.text_context) == ("mobileclip_s0", 16)
    assert student.inheritance["text"].inherited == []
    assert all(tensor.isfinite().all() for tensor in student.text.state_dict().values())
    with torch.no_grad():
        before = student.encode_text(["red ring"])
        student.save(tmp_path / "student")
        loaded = Student.from_pretrained(tmp_path / "student")
        assert torch.equal(loaded.encode_text(["red ring"]).tokens, before.tokens)
    assert "| text | " in (tmp_path / "student" / "README.md").read_text()
    # The next stage may give it another one.
    loaded.set_text("teacher", teacher)
    with torch.no_grad():
        assert_close(loaded.encode_text(["star"]).tokens, teacher.encode_text(["star"]).tokens)
    assert (loaded.config.text, loaded.config.text_context) == ("teacher", 16)


def test_a_distilled_text_encoder_joins_a_student(teacher: Teacher, tmp_path: Path) -> None:
    torch.manual_seed(1)
    text = TextStudent.create("mobileclip_s0", teacher).eval()
    assert text.text.context == 16
    text.save(tmp_path / "text", stage="TextDistill", metrics={"val/text_cosine": 0.9})
    student = student_of(teacher, text=str(tmp_path / "text"))
    with torch.no_grad():
        assert torch.equal(student.encode_text(["red ring"]).tokens, text.text(["red ring"]).tokens)
    assert (student.config.text, student.config.text_context) == ("mobileclip_s0", 16)
    assert student.inheritance["text"].new == []
    with pytest.raises(UserError, match=r"text_context is 32, but .* was distilled with 16"):
        student.set_text(str(tmp_path / "text"), context=32)
    with pytest.raises(UserError, match=r"model.text 'nothing': no text encoder and no folder"):
        student.set_text("nothing")
    with pytest.raises(UserError, match="there is no teacher to inherit from"):
        student.set_text("teacher")
    student.save(tmp_path / "student")
    with pytest.raises(UserError, match=r"config.json: no text encoder of this project"):
        student.set_text(str(tmp_path / "student"))
    other = TextStudent({**text.config, "width": 32})
    other.save(tmp_path / "other")
    with pytest.raises(UserError, match="made for a vocabulary of 512 and 32 channels"):
        student.set_text(str(tmp_path / "other"))
