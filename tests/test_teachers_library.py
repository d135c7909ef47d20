"""What a teacher answers, against the library's own forward passes with the same weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from teacher_cases import assert_close, pixels, prompt_kinds, stirred
from tiny import tiny_sam2
from torch import Tensor
from transformers import Sam2Config, Sam2Model, Sam3TrackerConfig, Sam3TrackerModel

from phd.contract import Masks, Prompts
from phd.teachers import Teacher, new_toy

pytestmark = pytest.mark.usefixtures("no_grad")


def library_inputs(prompts: Prompts) -> dict[str, Tensor | None]:
    """The prompt as the library's image forwards take it: one image, one object."""

    def one_object(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.unsqueeze(1)

    return {
        "input_points": one_object(prompts.points),
        "input_labels": one_object(prompts.labels),
        "input_boxes": one_object(prompts.boxes),
        "input_masks": prompts.masks,
    }


@pytest.fixture(scope="module")
def image_model(any_teacher: Teacher) -> Any:
    """The library's image model of the family with the teacher's weights, every one of them given by name."""
    config, own = any_teacher.model.config, any_teacher.model.state_dict()
    if any_teacher.contract.family == "sam":
        return any_teacher.model
    if any_teacher.contract.family == "sam2":
        model: Any = Sam2Model(
            Sam2Config(
                vision_config=config.vision_config,
                prompt_encoder_config=config.prompt_encoder_config.to_dict(),
                mask_decoder_config=config.mask_decoder_config.to_dict(),
            )
        )
    else:
        tracker = copy.deepcopy(config.tracker_config)
        # `Sam3TrackerModel` adds the embedding for "no memory" to its last level: without the unused fourth one that
        # is the level that the decoder reads.
        tracker.vision_config.scale_factors = [4.0, 2.0, 1.0]
        model = Sam3TrackerModel(
            Sam3TrackerConfig(
                vision_config=tracker.vision_config,
                prompt_encoder_config=tracker.prompt_encoder_config.to_dict(),
                mask_decoder_config=tracker.mask_decoder_config.to_dict(),
            )
        )
        places = {
            "detector_model.vision_encoder.backbone.": "vision_encoder.backbone.",
            "tracker_neck.": "vision_encoder.neck.",
            "tracker_model.": "",
        }
        own = {
            new + name.removeprefix(old): tensor
            for old, new in places.items()
            for name, tensor in own.items()
            if name.startswith(old)
        }
    model.load_state_dict({name: own[name] for name in model.state_dict()})
    return model.eval()


def same(ours: Masks, theirs: Any) -> None:
    """All candidates with their scores, and the object score where there is one."""
    assert_close(ours.logits, theirs.pred_masks.squeeze(1))
    assert_close(ours.scores, theirs.iou_scores.squeeze(1))
    if ours.object_logits is not None:
        assert_close(ours.object_logits, theirs.object_score_logits.flatten())


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", prompt_kinds(1))
def test_answers_equal_the_librarys_image_model(
    any_teacher: Teacher, image_model: Any, kind: str, multimask: bool
) -> None:
    prompts = prompt_kinds(any_teacher.contract.mask_size)[kind]
    expected = image_model(pixel_values=pixels(), multimask_output=multimask, **library_inputs(prompts))
    found = any_teacher.segment(any_teacher.encode(pixels()), prompts, multimask)
    assert found.logits.shape[1] == (3 if multimask else 1)
    assert found.logits.std() > 0.1
    same(found, expected)


@pytest.mark.parametrize("kind", ["box", "point", "mask"])
def test_answers_equal_the_librarys_video_model(kind: str) -> None:
    """The path of a first frame, from the features that the whole model computes for its tracker."""
    for make in (tiny_sam2, new_toy):
        teacher = stirred(make())
        model: Any = teacher.model
        tracker = model if make is tiny_sam2 else model.tracker_model
        if make is tiny_sam2:
            maps = model.get_image_features(pixels(), return_dict=True).fpn_hidden_states
        else:
            maps, _ = model.get_vision_features_for_tracker(model.detector_model.get_vision_features(pixels()))
        sizes = [level.size for level in teacher.contract.tracker]
        assert len(maps) == 3
        maps = [x.permute(1, 2, 0).unflatten(2, (size, size)) for x, size in zip(maps, sizes, strict=True)]
        maps[-1] = maps[-1] + tracker.no_memory_embedding.view(1, -1, 1, 1)
        # Where the object seems absent the video model paints the mask over; here it is there.
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias += 100
        prompts = prompt_kinds(teacher.contract.mask_size)[kind]
        expected = tracker._single_frame_forward(
            image_embeddings=maps, multimask_output=prompts.ambiguous, **library_inputs(prompts)
        )
        found = teacher.segment(teacher.encode(pixels()), prompts)
        assert_close(found.best()[0], expected.pred_masks.flatten(0, 1))
        assert_close(found.scores, expected.iou_scores.squeeze(1))
        assert found.object_logits is not None
        assert (found.object_logits > 50).all()
