"""A base model from a double of the hub: what is asked, what is taken, what is said where it cannot be had."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from conftest import PLAIN, build_tiny_model
from runyoro_ssl.commands.doctor import doctor
from runyoro_ssl.config import Config, ModelConfig
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.hub.cached import ModelPart, cached_commit
from runyoro_ssl.hub.fetch import _ask, fetched_folder
from runyoro_ssl.hub.known import KNOWN, pinned_revision
from runyoro_ssl.hub.place import cache_folder, hub_reachable, repository_folder
from runyoro_ssl.hub.transfer import part_of
from runyoro_ssl.model.extractor import load_sampling_rate
from runyoro_ssl.model.load import load_model
from runyoro_ssl.model.source import pin_base
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.shards.job import describe_job
from runyoro_ssl.publish.card import write_model_card
from runyoro_ssl.resolve import load_config
from support.hub_double import STORE, Fault, HubDouble
from support.trainer import run

XLSR = "facebook/wav2vec2-xls-r-300m"
OTHER = "akiiki/runyoro-base"
BIN = "pytorch_model.bin"
TOKEN = "hf_" + "aB3" * 10
ALL: tuple[ModelPart, ...] = ("config", "extractor", "weights")


def as_on_the_hub(folder: Path, tiny_model: Path) -> None:
    """A model as XLS-R stands on the hub: `pytorch_model.bin` with old names, and no safetensors."""
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    weights = folder / "model.safetensors"
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, value in load_file(weights).items():
        found = next((new for new in old if new in name), None)
        renamed[name.replace(found, old[found]) if found else name] = value
    assert any("weight_g" in name for name in renamed)
    torch.save(renamed, folder / BIN)
    weights.unlink()


@pytest.fixture
def xlsr(hub: HubDouble, tiny_model: Path) -> HubDouble:
    """The hub with XLS-R in miniature, and beside it what a bot has proposed."""
    folder = hub.folder(XLSR, kind="models")
    as_on_the_hub(folder, tiny_model)
    hub.commits[folder] = pinned_revision(XLSR) or ""
    build_tiny_model(hub.folder(XLSR, "refs/pr/7", kind="models"), hidden_size=64)
    as_on_the_hub(hub.folder(OTHER, kind="models"), tiny_model)
    return hub


def fetch(name: str = XLSR, revision: str | None = None) -> Path:
    """The folder of all of a model."""
    return fetched_folder(name, revision, *ALL)


def complaint(name: str = XLSR, revision: str | None = None) -> str:
    """What is said of a model that cannot be had: one line, without a token, and nothing half taken for whole."""
    with pytest.raises(CheckpointError) as raised:
        fetch(name, revision)
    said = str(raised.value)
    assert "\n" not in said
    assert TOKEN not in said
    assert said.startswith(f'model "{name}"')
    assert not list(repository_folder(name).glob(f"snapshots/*/{BIN}"))
    return said


def requests_of(hub: HubDouble) -> list[tuple[str, str, int]]:
    """Method, last part of the path, and status of each, in order."""
    return [(one.method, one.path.rpartition("/")[2].partition("?")[0], one.status) for one in hub.requests]


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_reachable.cache_clear()


class TestWhatIsAsked:
    """No request but the ones needed, and no weights but those of the main branch."""

    def test_first_time(self, xlsr: HubDouble) -> None:
        """What there is; then each file once. Nothing of pull requests, nothing is asked to be converted."""
        folder = fetch()
        commit = pinned_revision(XLSR)
        assert folder.name == commit
        assert requests_of(xlsr) == [
            ("GET", commit, 200),
            ("HEAD", "preprocessor_config.json", 200),
            ("GET", "preprocessor_config.json", 200),
            ("HEAD", "config.json", 200),
            ("GET", "config.json", 200),
            ("GET", BIN, 302),
            ("GET", BIN, 200),
            ("HEAD", BIN, 302),
        ]
        assert not xlsr.asked(r"refs|discussions|commits|safetensors")
        assert xlsr.sent(BIN) == (folder / BIN).stat().st_size

    def test_loading_asks_nothing(self, xlsr: HubDouble, tiny_model: Path) -> None:
        """Transformers loads a folder: it has nobody to ask; and the weights are those of the bin with old names."""
        config = pin_base(ModelConfig())
        assert config.revision == pinned_revision(XLSR)
        before = len(xlsr.requests)
        _ask.cache_clear()
        model = load_model(config, PLAIN)
        assert len(xlsr.requests) == before
        state = model.state_dict()
        assert all(
            torch.equal(state[name], value) for name, value in load_file(tiny_model / "model.safetensors").items()
        )

    def test_a_pinned_model_is_not_asked_for_again(self, xlsr: HubDouble) -> None:
        """Its commit cannot change."""
        first = fetch()
        before = len(xlsr.requests)
        _ask.cache_clear()  # as in another process
        assert fetch() == first
        assert len(xlsr.requests) == before

    @pytest.mark.parametrize("name", [XLSR, OTHER])
    def test_afterwards_no_network_is_needed(self, name: str, xlsr: HubDouble, monkeypatch: pytest.MonkeyPatch) -> None:
        """The cache does, a branch's name included."""
        first = fetch(name)
        before = len(xlsr.requests)
        offline(monkeypatch)
        assert fetch(name) == first
        assert len(xlsr.requests) == before

    def test_what_is_not_pinned_follows_its_branch(self, xlsr: HubDouble, tiny_model: Path) -> None:
        """And says which commit that is; a network that breaks then costs nothing."""
        first = fetch(OTHER)
        assert cached_commit(first) == xlsr.commit(xlsr.folder(OTHER, kind="models"))
        as_on_the_hub(xlsr.folder(OTHER, kind="models"), tiny_model)
        (xlsr.folder(OTHER, kind="models") / "README.md").write_text("changed")
        _ask.cache_clear()
        second = fetch(OTHER)
        assert second != first
        assert second.joinpath(BIN).read_bytes() == first.joinpath(BIN).read_bytes()
        _ask.cache_clear()
        xlsr.faults.append(Fault("/api/", status=503))
        assert fetch(OTHER) == second

    @pytest.mark.usefixtures("xlsr")
    def test_read_only_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is whole in it is used, and nothing is written."""
        first = fetch()

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(cache_folder()))

        for name in ("mkdir", "write_text", "open"):
            monkeypatch.setattr(Path, name, refuse)
        assert fetch() == first

    def test_revision_is_what_is_asked_for(self, xlsr: HubDouble) -> None:
        """Also one that somebody has proposed, if it is named."""
        folder = fetch(revision="refs/pr/7")
        assert (folder / "model.safetensors").exists()
        assert cached_commit(folder) == xlsr.commit(xlsr.folder(XLSR, "refs/pr/7", kind="models"))

    def test_pin_that_is_gone(self, xlsr: HubDouble) -> None:
        """A hub that has lost the commit still gives the model."""
        xlsr.commits.clear()
        assert cached_commit(fetch()) == xlsr.commit(xlsr.folder(XLSR, kind="models"))

    def test_preparing_with_a_known_model_asks_nobody(self, xlsr: HubDouble) -> None:
        """Its sampling rate is known."""
        assert {load_sampling_rate(name) for name in KNOWN} == {16_000}
        assert not xlsr.requests


class TestBrokenDownloads:
    """What has come is kept; what is not what it should be is not."""

    def test_goes_on_in_the_process(self, xlsr: HubDouble) -> None:
        """From where it broke off, over and over."""
        size = (xlsr.folder(XLSR, kind="models") / BIN).stat().st_size
        xlsr.faults.append(Fault(STORE, cut_after=size // 9, times=7))
        folder = fetch()
        assert (folder / BIN).stat().st_size == size
        assert xlsr.sent(STORE) == size

    def test_goes_on_in_the_next_run(self, xlsr: HubDouble) -> None:
        """After a process that could not go on."""
        size = (xlsr.folder(XLSR, kind="models") / BIN).stat().st_size
        xlsr.faults += [Fault(STORE, cut_after=60_000, times=1), Fault(STORE, status=503)]
        assert "in trouble (503)" in complaint()
        parts = list((repository_folder(XLSR) / "blobs").glob("*.part"))
        assert [part.stat().st_size for part in parts] == [60_000]
        xlsr.faults.clear()
        fetch()
        assert xlsr.sent(STORE) - xlsr.sent(STORE + ".*503") == size + sum(
            one.num_bytes for one in xlsr.requests if one.status == 503
        )
        assert not list((repository_folder(XLSR) / "blobs").glob("*.part"))

    def test_a_hub_that_begins_anew(self, xlsr: HubDouble) -> None:
        """One that knows no ranges sends all of it again."""
        fetch_part = part_of(repository_folder(XLSR) / "blobs" / _sha256(xlsr))
        fetch_part.parent.mkdir(parents=True)
        fetch_part.write_bytes(b"x" * 100)  # of another file
        assert (fetch() / BIN).read_bytes() == (xlsr.folder(XLSR, kind="models") / BIN).read_bytes()

    def test_damaged_on_the_way(self, xlsr: HubDouble) -> None:
        """Once is mended; twice is said, and nothing of it is kept."""
        xlsr.faults.append(Fault(STORE, damage=True, times=1))
        folder = fetch()
        assert (folder / BIN).read_bytes() == (xlsr.folder(XLSR, kind="models") / BIN).read_bytes()
        shutil.rmtree(cache_folder())
        xlsr.faults.append(Fault(STORE, damage=True))
        assert "not what the hub says" in complaint()
        assert not list((repository_folder(XLSR) / "blobs").glob("*.part"))

    def test_length_that_lies(self, xlsr: HubDouble) -> None:
        """Of a body that ends early, by what it says or not, the rest is fetched."""
        size = (xlsr.folder(XLSR, kind="models") / BIN).stat().st_size
        xlsr.faults.append(Fault(STORE, says_length=size // 2, times=1))
        assert (fetch() / BIN).stat().st_size == size
        shutil.rmtree(cache_folder())
        xlsr.faults[:] = [Fault(STORE, says_length=10_000_000, times=1)]
        assert (fetch() / BIN).stat().st_size == size

    def test_wait_that_is_asked_for(self, xlsr: HubDouble, monkeypatch: pytest.MonkeyPatch) -> None:
        """As long as the hub says; a long one is left to the person."""
        waited: list[float] = []
        monkeypatch.setattr(time, "sleep", waited.append)
        xlsr.faults.append(Fault("/api/", status=429, headers={"ratelimit": '"api";r=0;t=55'}, times=1))
        xlsr.faults.append(Fault("resolve.*bin", status=429, headers={"Retry-After": "7"}, times=1))
        fetch()
        assert waited == [56.0, 8.0]
        shutil.rmtree(cache_folder())
        _ask.cache_clear()
        xlsr.faults.append(Fault("/api/", status=429, headers={"Retry-After": "3000"}))
        assert "wait 3000 s" in complaint()


class TestRefusals:
    """Each has its line, and its remedy."""

    @pytest.mark.usefixtures("xlsr")
    def test_unknown_name(self) -> None:
        """The nearest known one is named."""
        said = complaint("facebook/wav2vec2-xlsr-300m")
        assert "the hub has no such model" in said
        assert said.endswith(f'did you mean "{XLSR}"?')
        assert "did you mean" not in complaint("nobody/nothing")

    @pytest.mark.usefixtures("xlsr")
    def test_unknown_revision(self) -> None:
        """Nothing else is taken for it."""
        assert 'no revision "nope"' in complaint(revision="nope")

    @pytest.mark.parametrize(
        ("gate", "token", "said"),
        [
            ("log in", None, "accept its terms"),
            ("ask", TOKEN, r"not among those who are let in \(403\)"),
        ],
    )
    def test_gated(
        self, gate: str, token: str | None, said: str, xlsr: HubDouble, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where to ask."""
        xlsr.gated[XLSR] = gate  # type: ignore[assignment]
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(CheckpointError, match=said):
            fetch()

    def test_old_token(self, xlsr: HubDouble, monkeypatch: pytest.MonkeyPatch) -> None:
        """It does not bar what is open to all; where it does, it is named as the reason."""
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        xlsr.bad_tokens.add(TOKEN)
        assert (fetch() / BIN).exists()
        assert all(one.token is None for one in xlsr.requests if one.status == 200)
        said = complaint("akiiki/private")
        assert "refuses your token (401)" in said
        assert "HF_TOKEN" in said

    @pytest.mark.parametrize(
        "name",
        [
            f"https://me:{TOKEN}@huggingface.co/{XLSR}",
            f"https://huggingface.co/{XLSR}/tree/main",
            f"hf://{XLSR}",
        ],
    )
    def test_address(self, name: str) -> None:
        """The name in it is given back, and no token."""
        with pytest.raises(CheckpointError) as raised:
            fetch(name)
        assert str(raised.value).endswith(f'"{XLSR}"')
        assert TOKEN not in str(raised.value)

    @pytest.mark.parametrize("name", ["a b", "-x", "x" * 200, "a//b", "a..b"])
    def test_no_name(self, name: str) -> None:
        """What cannot be one is not asked for."""
        with pytest.raises(CheckpointError, match=r"no such folder"):
            fetch(name)

    def test_no_weights(self, xlsr: HubDouble) -> None:
        """A repository without any that PyTorch reads."""
        (xlsr.folder(OTHER, kind="models") / BIN).unlink()
        assert "no weights" in complaint(OTHER)

    def test_no_feature_extractor(self, xlsr: HubDouble) -> None:
        """It is named before gigabytes are fetched."""
        (xlsr.folder(OTHER, kind="models") / "preprocessor_config.json").unlink()
        assert "no preprocessor_config.json" in complaint(OTHER)
        assert not xlsr.asked(BIN)

    def test_disk_without_room(self, xlsr: HubDouble, monkeypatch: pytest.MonkeyPatch) -> None:
        """How much, where, and what moves it; before the first byte."""
        monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 9, 9))
        said = complaint()
        assert "needs 140 kB more" in said
        assert "9 bytes are free" in said
        assert "HF_HOME" in said
        assert not xlsr.asked("resolve")

    @pytest.mark.usefixtures("xlsr")
    def test_cache_that_cannot_be_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whose it is may be mended, or another taken."""
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert "cannot be written to" in complaint()

    @pytest.mark.usefixtures("xlsr")
    def test_hub_that_names_no_commit(self, xlsr: HubDouble) -> None:
        """Nothing that a hub says becomes a path."""
        xlsr.commits[xlsr.folder(XLSR, kind="models")] = "../../../out"
        assert "names no commit" in complaint(revision="main")
        assert not list(cache_folder().rglob("out"))

    def test_no_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is put into a folder named ~."""
        monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
        with pytest.raises(CheckpointError, match=r"no home folder.*HF_HOME"):
            fetch()

    @pytest.mark.usefixtures("xlsr")
    def test_offline_without_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What fetches it, where there is a network."""
        offline(monkeypatch)
        assert "doctor --fetch" in complaint()

    def test_offline_with_another_commit(self, xlsr: HubDouble, monkeypatch: pytest.MonkeyPatch) -> None:
        """What other software has fetched of it does, unless a revision is asked for."""
        xlsr.commits.clear()
        found = fetch(revision="main")
        offline(monkeypatch)
        assert fetch() == found
        with pytest.raises(CheckpointError, match="not in the cache"):
            fetch(revision="12ab" * 10)


class TestPickles:
    """Weights as .bin are read as weights only."""

    def test_refused_where_they_are_not_wanted(self, tiny_model: Path, tmp_path: Path) -> None:
        """`model.allow_pickle=false`."""
        as_on_the_hub(tmp_path, tiny_model)
        load_model(ModelConfig(model_name_or_path=str(tmp_path)), PLAIN)
        with pytest.raises(CheckpointError, match="allow_pickle is false"):
            load_model(ModelConfig(model_name_or_path=str(tmp_path), allow_pickle=False), PLAIN)

    def test_one_that_holds_more_is_refused(self, tiny_model: Path, tmp_path: Path) -> None:
        """And none of its code is run."""
        as_on_the_hub(tmp_path, tiny_model)
        torch.save({"x": _Trap(tmp_path / "sprung"), "y": torch.zeros(50_000)}, tmp_path / BIN)
        with pytest.raises(CheckpointError, match="more than weights"):
            load_model(ModelConfig(model_name_or_path=str(tmp_path)), PLAIN)
        assert not (tmp_path / "sprung").exists()


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


def _sha256(hub: HubDouble) -> str:
    return hashlib.sha256((hub.folder(XLSR, kind="models") / BIN).read_bytes()).hexdigest()


class TestTasks:
    """What the tasks do with it."""

    @pytest.mark.usefixtures("xlsr")
    def test_doctor_fetches_ahead_of_time(self) -> None:
        """And says where it is, for a place without a network."""
        found = dict(doctor(fetch=True).fetched)
        assert found["revision"] == pinned_revision(XLSR)
        assert (Path(found["folder"]) / BIN).exists()
        assert found["folder"] in found["without a network"]

    @pytest.mark.usefixtures("xlsr")
    def test_run_says_what_it_began_from(self, train_config: Callable[..., Config]) -> None:
        """The commit, in its settings, its result and its card; also once it was resumed, when the hub is not asked."""
        settings = (f"model.model_name_or_path={XLSR}", "train.max_steps=2", "train.save_steps=1")
        folder = run(train_config("run", *settings)).output_dir
        shutil.rmtree(cache_folder())
        for name in ("result.json", "model.safetensors", "checkpoint-2"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        again = run(train_config("run", *settings, "train.resume_from_checkpoint=last"))
        assert again.start_step == 1
        write_model_card(folder)
        assert not cache_folder().exists()
        for name in ("run.toml", "result.json", "README.md"):
            assert str(pinned_revision(XLSR)) in (folder / name).read_text(), name

    @pytest.mark.usefixtures("xlsr")
    def test_prepared_dataset_needs_no_hub(
        self, dataset: Path, corpus_manifest: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a model that is not known; but a folder that is not there is still said to be wrong."""
        offline(monkeypatch)
        read = {"manifest_path": corpus_manifest, "output_dir": dataset}

        def rate(name: str) -> int:
            config = load_config(flags={"model": {"model_name_or_path": name}, "prepare": read})
            return describe_job(
                config, load_plugins(config), corpus_manifest, read_manifest(corpus_manifest)
            ).maker.sample_rate

        assert rate(OTHER) == 16_000
        with pytest.raises(CheckpointError, match="no such folder"):
            rate("./not/here")
