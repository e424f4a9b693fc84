"""Batches: normalised as transformers does, keyed by clip, the same from any number of workers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import transformers
from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch, normalize
from runyoro_ssl.batches.lengths import Piece
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.builtins.augmentations import Noise, Speed
from runyoro_ssl.builtins.collators import CroppedCollator, PaddedCollator
from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.model.draws import derive_generator
from runyoro_ssl.model.forward import num_frames
from runyoro_ssl.model.masking import most_masked
from runyoro_ssl.plugin.spec import Batch, Clip

PLAN = [MicroBatch.of((0, 1)), MicroBatch.of((2, 3), index=1), MicroBatch.of((1, 3), epoch=1)]


def builder(dataset: Path, tiny_model: Path, **changes: Any) -> BatchBuilder:
    """A builder over the prepared synthetic corpus."""
    from datasets import load_from_disk

    defaults: dict[str, Any] = {
        "clips": Clips(load_from_disk(str(dataset))["train"]),
        "model_config": transformers.AutoConfig.from_pretrained(tiny_model),
        "masking": MaskingConfig(),
        "collator": PaddedCollator(),
        "augmentations": (("noise", Noise(probability=1.0)), ("speed", Speed())),
        "do_normalize": True,
        "use_attention_mask": True,
        "seed": 3,
    }
    return BatchBuilder(**{**defaults, **changes})


def same(one: TrainingBatch, other: TrainingBatch) -> bool:
    """Whether two batches agree in every bit."""
    return (
        torch.equal(one.waveforms, other.waveforms)
        and torch.equal(one.masks.time_mask, other.masks.time_mask)
        and torch.equal(one.masks.negatives, other.masks.negatives)
        and one.plan == other.plan
    )


def test_draws_follow_the_clip_not_its_company(dataset: Path, tiny_model: Path) -> None:
    """A clip's augmentation and mask are the same in any batch of an epoch, and differ between epochs."""
    made = builder(dataset, tiny_model, do_normalize=False)
    alone = made[MicroBatch.of((1,), index=9)]
    among = made[PLAN[0]]
    frames, samples = alone.masks.time_mask.shape[1], alone.num_samples
    assert torch.equal(alone.waveforms[0], among.waveforms[1, :samples])
    assert torch.equal(alone.masks.time_mask[0], among.masks.time_mask[1, :frames])
    assert not torch.equal(alone.waveforms[0, :8000], made[MicroBatch.of((1,), epoch=1)].waveforms[0, :8000])


def test_a_clip_that_comes_again_in_an_epoch_is_drawn_for_anew(dataset: Path, tiny_model: Path) -> None:
    """As happens to the clips of a small source: other crop, augmentation, mask and negatives; so with halves."""
    made = builder(dataset, tiny_model)
    for part in (0, 1):
        batches = [made[MicroBatch(0, 0, (Piece(0, part, repeat),), length=24_000)] for repeat in (0, 1, 2)]
        for one, other in ((0, 1), (1, 2), (0, 2)):
            assert not torch.equal(batches[one].waveforms, batches[other].waveforms)
            assert not torch.equal(batches[one].masks.time_mask, batches[other].masks.time_mask)


def test_validation_ignores_seed_and_epoch(dataset: Path, tiny_model: Path) -> None:
    """Held-out masks and negatives are the same in every validation of every run."""
    one = builder(dataset, tiny_model, stage="eval", augmentations=())[MicroBatch.of((0, 1))]
    other = builder(dataset, tiny_model, stage="eval", augmentations=(), seed=99)[MicroBatch.of((0, 1))]
    assert same(one, other)


def test_normalisation_is_that_of_the_feature_extractor() -> None:
    """Padded clips of different lengths agree with Wav2Vec2FeatureExtractor to 1e-5."""
    generator = torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(size, generator=generator) + 0.05 for size in (16_000, 9_999)]
    batch = PaddedCollator()([Clip(index, wave) for index, wave in enumerate(waves)], [])
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    expected = extractor([wave.numpy() for wave in waves], sampling_rate=16_000, padding=True, return_tensors="np")
    np.testing.assert_allclose(normalize(batch).numpy(), expected["input_values"], atol=1e-5)


def test_padding_is_silent_whatever_the_collator_left_there() -> None:
    """A plugin's may leave anything beyond a clip's own samples."""
    batch = Batch(waveforms=torch.arange(20.0).reshape(2, 10).clone(), num_samples=torch.tensor([10, 6]))
    made = normalize(batch)
    assert not made[1, 6:].any()
    assert made[0].abs().min() > 0.1


def test_normalisation_does_not_depend_on_the_number_of_threads() -> None:
    """A worker, which has one, makes the same bits as the main process."""
    wave = 0.1 * torch.randn(240_000, generator=torch.Generator().manual_seed(0))
    made = []
    threads = torch.get_num_threads()
    try:
        for num_threads in (1, 4):
            torch.set_num_threads(num_threads)
            made.append(normalize(PaddedCollator()([Clip(0, wave)], [])))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(made[0], made[1])


def test_cropped_collator_crops_to_the_shortest() -> None:
    """Clips come out at the shortest length, each a contiguous part, drawn from its own generator."""
    clips = [Clip(0, torch.arange(100.0)), Clip(1, torch.arange(30.0))]
    batch = CroppedCollator()(clips, [derive_generator(index) for index in range(2)])
    assert batch.waveforms.shape == (2, 30)
    assert torch.equal(torch.diff(batch.waveforms), torch.ones(2, 29))
    assert batch.num_samples.tolist() == [30, 30]


def test_unpadded_batch_needs_no_attention_mask(dataset: Path, tiny_model: Path) -> None:
    """The mask is absent when all clips are equally long, or when the feature extractor asks for none."""
    cropped = builder(dataset, tiny_model, collator=CroppedCollator(), augmentations=())
    assert cropped[PLAN[0]].attention_mask is None
    assert builder(dataset, tiny_model, use_attention_mask=False)[PLAN[0]].attention_mask is None
    padded = builder(dataset, tiny_model)[PLAN[0]]
    assert padded.attention_mask is not None
    assert not padded.attention_mask.all()
    frames = num_frames(torch.tensor(padded.clip_samples), cropped.model_config)
    assert padded.attention_mask.sum(dim=1).tolist() == frames.tolist()


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_length_by_its_factor(factor: float) -> None:
    """A second at speed 0.9 lasts 1/0.9 s."""
    assert len(Speed(factors=(factor,))(torch.randn(16_000), derive_generator(0))) == pytest.approx(
        16_000 / factor, abs=2
    )


def test_noise_has_the_drawn_ratio() -> None:
    """Added noise stands at the signal-to-noise ratio asked for, to 0.2 dB."""
    signal = torch.sin(torch.arange(48_000) * 0.05)
    noisy = Noise(min_snr_db=10, max_snr_db=10, probability=1)(signal, derive_generator(0))
    ratio = 10 * torch.log10(signal.square().mean() / (noisy - signal).square().mean())
    assert float(ratio) == pytest.approx(10, abs=0.2)


def test_fitted_batches_have_one_shape(dataset: Path, tiny_model: Path) -> None:
    """Every tensor of two micro-batches of one length has one shape; only padded clips need an attention mask."""
    made = builder(dataset, tiny_model, augmentations=())
    lengths = sorted((made.clips.num_samples(clip), clip) for clip in range(6))
    length = lengths[3][0]
    short, long = [clip for _, clip in lengths[:2]], [clip for _, clip in lengths[4:]]
    padded, cropped = (made[MicroBatch(0, 0, tuple(map(Piece, clips)), length)] for clips in (short, long))
    assert padded.waveforms.shape == cropped.waveforms.shape == (2, length)
    for name, tensor in vars(cropped.masks).items():
        assert tensor is None or tensor.shape == getattr(padded.masks, name).shape
    frames = int(num_frames(torch.tensor(length), made.model_config))
    assert cropped.masks.positions.shape[1] == most_masked(frames, made.masking)
    assert cropped.attention_mask is None
    assert padded.attention_mask is not None
    assert padded.attention_mask.shape == padded.masks.time_mask.shape
    assert not padded.waveforms[0, lengths[0][0] :].any()


def test_pieces_are_windows_of_their_clip(dataset: Path, tiny_model: Path) -> None:
    """Halves lie in their half; another epoch takes another window; the same key the same."""
    made = builder(dataset, tiny_model, augmentations=(), do_normalize=False)
    whole = made[MicroBatch.of([0])].waveforms[0]
    length = len(whole) // 2 - 4000
    found = []
    for epoch, part in ((0, 1), (0, 2), (1, 1), (0, 1)):
        (window,) = made[MicroBatch(epoch, 0, (Piece(0, part),), length)].waveforms
        places = (whole.unfold(0, 64, 1) == window[:64]).all(dim=1).nonzero()
        start = int(places[0])
        assert torch.equal(whole[start : start + length], window)
        assert (start >= len(whole) // 2 - 1) == (part == 2)
        found.append(start)
    assert found[0] == found[3] != found[2]
    first, second = (made[MicroBatch(0, 0, (Piece(0, part),), length)].masks for part in (1, 2))
    assert not torch.equal(first.time_mask, second.time_mask)


def test_speed_keeps_the_shape(dataset: Path, tiny_model: Path) -> None:
    """A clip made shorter is padded, one made longer cut: the length is the plan's."""
    made = builder(dataset, tiny_model, augmentations=(("speed", Speed(factors=(0.8, 1.2))),))
    batches = [made[MicroBatch(epoch, 0, (Piece(0), Piece(1)), 30_000)] for epoch in range(8)]
    assert {batch.waveforms.shape for batch in batches} == {(2, 30_000)}
    assert max(max(batch.clip_samples) for batch in batches) == 30_000
    assert {batch.attention_mask is None for batch in batches} == {True, False}


class Unsound:
    """The clips of another reader, one of which is read badly."""

    def __init__(self, clips: Any, row: int, harm: str) -> None:
        self.clips, self.row, self.harm = clips, row, harm

    def num_samples(self, clip: int) -> int:
        """Length of the clip."""
        return 0 if clip == self.row and self.harm == "nothing" else int(self.clips.num_samples(clip))

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Fails, or gives another number of samples than asked for."""
        waveform: np.ndarray = self.clips.waveform(clip, start, num_samples)
        if clip != self.row:
            return waveform
        harms: dict[str, Exception | np.ndarray] = {
            "OSError": OSError(5, "Input/output error"),
            "ValueError": ValueError("no"),
            "IndexError": IndexError("no"),
            "DatasetError": DatasetError("damaged dataset"),
            "short": waveform[:-1],
            "long": np.append(waveform, waveform[:1]),
            "empty": waveform[:0],
            "nothing": waveform,
        }
        harmed = harms[self.harm]
        if isinstance(harmed, Exception):
            raise harmed
        return harmed


@pytest.mark.parametrize("length", [None, 30_000])
@pytest.mark.parametrize(
    "harm", ["OSError", "ValueError", "IndexError", "DatasetError", "short", "long", "empty", "nothing"]
)
def test_clip_that_cannot_be_read_is_left_out(dataset: Path, tiny_model: Path, harm: str, length: int | None) -> None:
    """The others make the very batch that they make without it; alone, it makes an empty one."""
    sound = builder(dataset, tiny_model)
    unsound = replace(sound, clips=Unsound(sound.clips, row=1, harm=harm))
    whole, rest, alone = (MicroBatch(0, 0, tuple(map(Piece, rows)), length) for rows in ((0, 1, 2), (0, 2), (1,)))
    got, expected = unsound[whole], sound[rest]
    assert same(got, expected)
    assert (got.num_masked, got.clip_samples) == (expected.num_masked, expected.clip_samples)
    rest_of = [[batch.attention_mask, *vars(batch.masks).values()] for batch in (got, expected)]
    for one, other in zip(*rest_of, strict=True):
        assert other is None if one is None else torch.equal(one, other)
    assert list(got.unreadable) == [1]
    empty = unsound[alone].to(torch.device("cpu"))
    assert (empty.num_masked, empty.num_samples, empty.clip_samples, list(empty.unreadable)) == (0, 0, (), [1])


@pytest.mark.parametrize(("first", "shift"), [(2, -(1 << 40)), (2, 1 << 40), (2, 800), (1, -400_000), (1, 1 << 40)])
def test_damaged_file_costs_the_clips_it_damages(
    dataset: Path, tiny_model: Path, tmp_path: Path, first: int, shift: int
) -> None:
    """Offsets of the Arrow file overwritten: the clips that meet there are left out, and none reads another's."""
    shutil.copytree(dataset, tmp_path / "dataset")
    sound = builder(dataset, tiny_model)
    (_, offsets), *_ = sound.clips._shards  # type: ignore[attr-defined]
    (path,) = (tmp_path / "dataset" / "train").glob("*.arrow")
    content = path.read_bytes()
    assert content.count(offsets.tobytes()) == 1
    changed = offsets.copy()
    changed[first:3] += shift
    path.write_bytes(content.replace(offsets.tobytes(), changed.tobytes()))
    got = builder(tmp_path / "dataset", tiny_model)[MicroBatch.of((0, 1, 2, 3))]
    assert list(got.unreadable) == list(range(first - 1, 3))
    assert same(got, sound[MicroBatch.of((0, 3) if first == 2 else (3,))])
    assert all("damaged dataset" in why for why in got.unreadable.values())


def test_split_batches_hold_the_same_clips(dataset: Path, tiny_model: Path) -> None:
    """In order, with their masks and their share of masked frames."""
    whole = builder(dataset, tiny_model)[MicroBatch.of([0, 1, 2])]
    parts = whole.split(2)
    assert [len(part.waveforms) for part in parts] == [2, 1]
    assert torch.equal(torch.cat([part.waveforms for part in parts]), whole.waveforms)
    assert torch.equal(torch.cat([part.masks.positions for part in parts]), whole.masks.positions)
    assert sum(part.num_masked for part in parts) == whole.num_masked
    assert sum((part.clip_samples for part in parts), ()) == whole.clip_samples
    assert whole.split(1) == [whole]
