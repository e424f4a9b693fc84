"""Batches: normalised as transformers does, keyed by clip, the same from any number of workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import transformers
from runyoro_ssl.builtins.augmentations import Noise, Speed
from runyoro_ssl.builtins.collators import CroppedCollator, PaddedCollator
from runyoro_ssl.config import Config, MaskingConfig
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.hookspecs import Clip
from runyoro_ssl.plugins import load_plugins
from runyoro_ssl.prepare.reading import Clips
from runyoro_ssl.train.batches import BatchBuilder, TrainingBatch, load_batches, normalize
from runyoro_ssl.train.lengths import Piece
from runyoro_ssl.train.masking import most_masked
from runyoro_ssl.train.model import num_frames
from runyoro_ssl.train.plan import MicroBatch
from runyoro_ssl.train.random import derive_generator

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


def test_workers_change_nothing(dataset: Path, tiny_model: Path) -> None:
    """Two spawned workers build, in order, the very batches this process builds; augmentation is on."""
    made = builder(dataset, tiny_model)
    here, there = (list(load_batches(made, [PLAN[:2], PLAN[2:]], num_workers=number)) for number in (0, 2))
    assert [len(group) for group in here] == [2, 1]
    assert all(map(same, chain(*here), chain(*there)))


def test_draws_follow_the_clip_not_its_company(dataset: Path, tiny_model: Path) -> None:
    """A clip's augmentation and mask are the same in any batch of an epoch, and differ between epochs."""
    made = builder(dataset, tiny_model, do_normalize=False)
    alone = made[MicroBatch.of((1,), index=9)]
    among = made[PLAN[0]]
    frames, samples = alone.masks.time_mask.shape[1], alone.num_samples
    assert torch.equal(alone.waveforms[0], among.waveforms[1, :samples])
    assert torch.equal(alone.masks.time_mask[0], among.masks.time_mask[1, :frames])
    assert not torch.equal(alone.waveforms[0, :8000], made[MicroBatch.of((1,), epoch=1)].waveforms[0, :8000])


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


def test_normalisation_does_not_depend_on_the_number_of_threads() -> None:
    """A worker, which has one, makes the same bits as the main process."""
    wave = 0.1 * torch.randn(240_000, generator=torch.Generator().manual_seed(0))
    made = []
    threads = torch.get_num_threads()
    for num_threads in (1, 4):
        torch.set_num_threads(num_threads)
        made.append(normalize(PaddedCollator()([Clip(0, wave)], [])))
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


def test_plugin_works_inside_spawned_workers(
    train_config: Callable[..., Config], dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """An augmentation dropped into the plugin folder runs in workers, and gives there what it gives here."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "runyoro_invert.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        "class Invert:\n"
        "    def __call__(self, waveform, generator):\n"
        "        return -waveform\n"
        "@hookimpl\n"
        "def runyoro_augmentations(register):\n"
        "    register('invert', Invert)\n"
    )
    config = train_config("run", f"plugins.dir={tmp_path / 'plugins'}", 'plugins.augmentations=["invert"]')
    augmentations = tuple(load_plugins(config).augmentations())
    plain = builder(dataset, tiny_model, augmentations=())[PLAN[0]]
    ((there, *_),) = load_batches(builder(dataset, tiny_model, augmentations=augmentations), [PLAN], num_workers=1)
    assert torch.allclose(there.waveforms, -plain.waveforms, atol=1e-6)


def test_workers_leave_signals_to_the_trainer(dataset: Path, tiny_model: Path) -> None:
    """Ctrl-C and a batch system's SIGTERM reach the whole process group: workers go on, the trainer decides."""
    batches = load_batches(builder(dataset, tiny_model), [PLAN] * 5, num_workers=1)
    next(batches)
    for worker in multiprocessing.active_children():
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(int(worker.pid or 0), number)
    assert len(list(batches)) == 4


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


def test_dead_worker_is_explained(dataset: Path, tiny_model: Path) -> None:
    """Killed, as the kernel does when memory is short: one line, though batches are built in a thread."""
    batches = load_batches(builder(dataset, tiny_model), [PLAN] * 50, num_workers=1)
    next(batches)
    for worker in multiprocessing.active_children():
        worker.kill()
    with pytest.raises(TrainingError, match=r"died.*--dataloader-num-workers 0"):
        list(batches)


class Broken:
    """A reader with a bug."""

    def num_samples(self, _clip: int) -> int:
        """A length."""
        return 16_000

    def waveform(self, *_args: Any) -> Any:
        """Fails as torch does."""
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bug_in_a_worker_stays_a_bug(dataset: Path, tiny_model: Path, num_workers: int) -> None:
    """It is not taken for a worker that died, and no worker outlives it."""
    batches = load_batches(builder(dataset, tiny_model, clips=Broken()), [PLAN], num_workers=num_workers)
    with pytest.raises(RuntimeError, match="size of tensor a"):
        next(batches)
    assert not multiprocessing.active_children()  # they ignore SIGTERM: the process could not end


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
