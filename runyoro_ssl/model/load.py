"""The model is loaded and checked here: a plain `Wav2Vec2ForPreTraining`, nothing added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.model.attention import use_fast_attention
from runyoro_ssl.model.checks import DROPOUTS, check_config, check_keys, check_size, mend_config
from runyoro_ssl.model.counts import count_body
from runyoro_ssl.model.draws import derive_seed
from runyoro_ssl.model.folder import SEE_TO_IT, check_folder, check_settings, explain_shadow
from runyoro_ssl.model.precision import cast_once
from runyoro_ssl.model.source import CONFIG, FROM_A_FOLDER, base_folder, cannot_load
from runyoro_ssl.model.trial import check_forward, check_values
from runyoro_ssl.torchaudio_compat import import_transformers

if TYPE_CHECKING:
    from runyoro_ssl.config import (  # the bench runs where there is no pydantic
        FittedConfig,
        FittedHardware,
        ModelConfig,
    )

UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    StrictDataclassError,
)
"""What transformers and torch raise where a config.json makes no model."""


def load_model(config: ModelConfig, hardware: FittedHardware) -> Any:
    """Load the base model in fp32, in training mode.

    Raises:
        CheckpointError: It cannot be reached or read, is no wav2vec 2.0 model, has only pickled weights
            (`model.allow_pickle` accepts those), has weights that do not fit or are no numbers, or lacks the
            pre-training head, without which training would start from noise (`model.allow_new_head` accepts that).
    """
    return _load(config, hardware)[0]


def load_whatever_head(config: ModelConfig, hardware: FittedHardware) -> tuple[Any, bool]:
    """Load a model as `load_model` does, whether it has the pre-training head or not; and say whether it has.

    Raises:
        CheckpointError: As `load_model`.
    """
    model, lacks = _load(config.model_copy(update={"allow_new_head": True}), hardware)
    return model, not lacks


def draw_model(config: ModelConfig, hardware: FittedHardware) -> Any:
    """Make a model of the shape of the base, in training mode, with weights drawn from a seed that is always the same.

    Raises:
        CheckpointError: Its config.json cannot be reached or read, or is no wav2vec 2.0 model's.
    """
    check_folder(config.model_name_or_path)
    shape = load_model_config(config)
    torch.manual_seed(derive_seed("evaluate", "random"))
    model = import_transformers().Wav2Vec2ForPreTraining(shape)
    _set_up(model, hardware)
    return model.train()


def _load(config: ModelConfig, hardware: FittedHardware) -> tuple[Any, list[str]]:
    """The model, and the weights of its head that it lacks."""
    transformers = import_transformers()
    name = config.model_name_or_path
    check_folder(name, weights=True)
    folder = base_folder(config, "config", "weights")
    try:
        with _without_adapters():
            model, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(
                folder,
                config=load_model_config(config),
                dtype=torch.float32,
                attn_implementation=hardware.attention,
                output_loading_info=True,
                # None: safetensors where there are any, else a pickle, read with weights_only: no code of it is run.
                use_safetensors=None if config.allow_pickle else True,
                weights_only=True,
                ignore_mismatched_sizes=True,  # they are refused below, with both shapes
                **FROM_A_FOLDER,
            )
    except (*UNREADABLE, SafetensorError, UnpicklingError) as error:
        raise CheckpointError(_explain_weights(config, error)) from None
    lacks = check_keys(name, info, allow_new_head=config.allow_new_head)
    check_values(name, model)
    check_forward(name, model)
    _set_up(model, hardware)
    return model.train(), lacks


def _set_up(model: Any, hardware: FittedHardware) -> None:
    set_up(
        model,
        device=hardware.device,
        gradient_checkpointing=hardware.gradient_checkpointing,
        compile_layers=hardware.compile,
    )


@contextmanager
def _without_adapters() -> Iterator[None]:
    """Load weights alone: where peft is installed, transformers would also load an adapter that lies beside them."""
    peft: Any = import_module("transformers.integrations.peft")
    asked = peft.is_peft_available
    peft.is_peft_available = lambda: False
    try:
        yield
    finally:
        peft.is_peft_available = asked


def set_up(model: Any, *, device: str, gradient_checkpointing: bool, compile_layers: bool) -> None:
    """Have a model do on its device what a run asks of it, and what MPS needs."""
    on_mps = device == "mps"
    cast_once(model)
    if device == "cpu":
        use_fast_attention(model)
    if gradient_checkpointing:
        # torch stashes no MPS random state: recomputed layers would draw other dropout masks.
        replay = {"context_fn": replay_mps_dropout} if on_mps else {}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **replay})
    if on_mps:
        for module in model.modules():
            if isinstance(module, torch.nn.Conv1d):
                module.register_forward_pre_hook(_contiguous_input)
    if compile_layers:
        for layer in model.wav2vec2.encoder.layers:
            layer.compile(dynamic=True)


def _explain_weights(config: ModelConfig, error: Exception) -> str:
    """Why weights did not load; says so where it is for want of `--allow-pickle`."""
    name = config.model_name_or_path
    if isinstance(error, OSError) and error.errno is not None:  # the system's: rights, a disk that fails
        return f'model "{name}" cannot be read: {error}; {SEE_TO_IT}'
    if not config.allow_pickle and isinstance(error, OSError) and "safetensors" in str(error):
        return (
            f'model "{name}" has no model.safetensors, and model.allow_pickle is false: with --allow-pickle a '
            "pytorch_model.bin, which is a pickle, is read as weights only"
        )
    if isinstance(error, UnpicklingError):
        return f'model "{name}": its .bin file holds more than weights, and was not read; look for one from its authors'
    return cannot_load(name, "model weights and config.json", error)


def load_model_config(config: ModelConfig) -> Any:
    """The Wav2Vec2Config of the base model, with what this run changes of it, and without what must not act here.

    Raises:
        CheckpointError: It cannot be reached or read, or is no wav2vec 2.0 model's.
    """
    return read_model_config(config.model_name_or_path, base_folder(config, "config"), **_overrides(config))


def read_model_config(name: str, folder: Path, **overrides: float) -> Any:
    """The Wav2Vec2Config in a folder, held to what a model of speech can be, and to the weights that lie beside it.

    Raises:
        CheckpointError: As `load_model_config`.
    """
    try:
        settings = check_settings(name, folder)
        kind = import_transformers().Wav2Vec2Config
        if fault := explain_shadow(settings, CONFIG, kind):
            raise CheckpointError(f'model "{name}" {fault}')
        base = kind.from_pretrained(folder, **FROM_A_FOLDER, **overrides)
        check_config(name, base)
        check_size(name, count_body(mend_config(base)), folder)
    except UNREADABLE as error:
        raise CheckpointError(cannot_load(name, CONFIG, error)) from None
    return base


def _overrides(config: ModelConfig) -> dict[str, float]:
    return {key: value for key in DROPOUTS if (value := getattr(config, key)) is not None}


def replay_mps_dropout() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for torch.utils.checkpoint in which the backward pass draws on MPS what the forward pass drew."""
    stashed: list[torch.Tensor] = []

    @contextmanager
    def forward() -> Iterator[None]:
        stashed.append(torch.mps.get_rng_state())
        yield

    @contextmanager
    def recompute() -> Iterator[None]:
        now = torch.mps.get_rng_state()
        torch.mps.set_rng_state(stashed[0])
        yield
        torch.mps.set_rng_state(now)

    return forward(), recompute()


def _contiguous_input(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Convolutions of strided inputs have given silently wrong results on MPS."""
    return (inputs[0].contiguous(),)


def load_weights(config: FittedConfig, name: str, revision: str | None) -> Any:
    """Load the model of a folder or hub id, in training mode; what it lacks is drawn from the run's seed."""
    torch.manual_seed(derive_seed(config.train.seed, "new weights"))
    return load_model(
        config.model.model_copy(update={"model_name_or_path": name, "revision": revision}), config.hardware
    )
