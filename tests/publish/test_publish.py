"""What is sent to the hub: four files, byte for byte, in one commit; and what is refused before."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import build_tiny_model
from runyoro_ssl import publish
from runyoro_ssl.errors import PublishError, RunyoroError
from runyoro_ssl.publish.card import CARD, write_model_card
from support.hub_double import Fault, HubDouble
from support.hub_writing import ARRIVALS
from support.runs import finished

RunTask = Callable[[str], tuple[int, str, str]]
NAME = "akiiki/runyoro"
FILES = {"model.safetensors", "config.json", "preprocessor_config.json", CARD}
XLSR, COMMIT = "facebook/wav2vec2-xls-r-300m", "12ab" * 10
OPEN = {"seconds": 3600.0, "recordings": 12, "speakers": 3, "licences": [["CC BY 4.0", 3600.0]]}
TOKEN = "hf_" + "aB3" * 10


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run from XLS-R on recordings under CC BY, with what else lies in its folder."""
    made = finished(tmp_path_factory.mktemp("runs") / "run", XLSR, COMMIT, material=OPEN)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "_name_or_path": "/home/akiiki/base"}, indent=2))
    for name in ("metrics.jsonl", "report.html", "journal.jsonl", "tensorboard/events", "checkpoint-2/optimizer.bin"):
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text("private")
    write_model_card(made)
    return made


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(original, tmp_path / "run"))


@pytest.fixture
def member(hub: HubDouble, monkeypatch: pytest.MonkeyPatch) -> HubDouble:
    """The hub, for somebody who is logged in."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def on_hub(hub: HubDouble, branch: str = "main") -> dict[str, bytes]:
    """The files of the model on the hub."""
    found = hub.root / "models" / NAME / branch
    return {path.name: path.read_bytes() for path in found.iterdir()} if found.is_dir() else {}


def complaint(folder: Path, **given: object) -> str:
    """What is said where it is refused: one line, without the token."""
    with pytest.raises(RunyoroError) as raised:
        publish(**{"run": folder, "repo_id": NAME, "yes": True, **given})
    said = str(raised.value)
    assert "\n" not in said
    assert TOKEN not in said
    return said


def test_four_files_arrive_byte_for_byte(member: HubDouble, folder: Path) -> None:
    """In one commit, to a model that all may see; config.json without the path it was loaded from."""
    sent = publish(run=folder, repo_id=NAME, yes=True, message="First")
    found = on_hub(member)
    assert found.keys() - {".gitattributes"} == FILES == sent.sizes.keys()
    for name in ("model.safetensors", "preprocessor_config.json"):
        assert found[name] == (folder / name).read_bytes()
    config = json.loads((folder / "config.json").read_text())
    assert json.loads(found["config.json"]) == {name: config[name] for name in config if name != "_name_or_path"}
    assert f'from_pretrained("{NAME}")'.encode() in found[CARD]
    assert (
        found[CARD].replace(NAME.encode(), b"this folder").splitlines()[:-1]
        == ((folder / CARD).read_bytes().splitlines()[:-1])
    )
    assert member.writing.messages == ["First"]
    assert NAME not in member.writing.private
    assert sent.licence == "apache-2.0"
    assert sent.address == f"{member.address}/{NAME}"
    assert not any(content == b"private" for content in found.values())


def test_changed_card_is_sent_as_it_is(member: HubDouble, folder: Path) -> None:
    """With the licence that is given, if one is."""
    text = (folder / CARD).read_text().replace("## Limits", "## Thanks\n\nTo all who spoke.\n\n## Limits")
    (folder / CARD).write_text(text)
    publish(run=folder, repo_id=NAME, yes=True)
    assert on_hub(member)[CARD].decode() == text
    publish(run=folder, repo_id=NAME, yes=True, licence="cc-by-4.0")
    assert b"license: cc-by-4.0" in on_hub(member)[CARD]
    assert b"To all who spoke." in on_hub(member)[CARD]


def test_private_is_private(member: HubDouble, folder: Path) -> None:
    """It is asked for when the model is made; one that is public does not become so by itself."""
    publish(run=folder, repo_id=NAME, yes=True, private=True)
    assert member.writing.private == {NAME}
    publish(run=folder, repo_id=NAME, yes=True)
    assert member.writing.private == {NAME}
    member.writing.private.clear()
    assert "public" in complaint(folder, private=True)


def test_dry_run_asks_nothing(member: HubDouble, folder: Path) -> None:
    """No request at all; nor does it need a token."""
    found = publish(run=folder, repo_id=NAME, dry_run=True)
    assert found.sizes.keys() == FILES
    assert found.sizes["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert found.address is None
    assert member.requests == []


def test_dry_run_says_that_a_licence_is_to_be_settled(member: HubDouble, tmp_path: Path) -> None:
    """Beside what would be sent."""
    found = publish(run=finished(tmp_path / "run", "facebook/mms-300m", COMMIT), repo_id=NAME, dry_run=True)
    assert found.must_decide
    assert found.sizes.keys() == FILES
    assert member.requests == []


def test_branch_is_made(member: HubDouble, folder: Path) -> None:
    """And main is left as it is."""
    publish(run=folder, repo_id=NAME, yes=True)
    before = on_hub(member)
    publish(run=folder, repo_id=NAME, yes=True, branch="second", licence="cc-by-4.0")
    assert on_hub(member) == before
    assert b"license: cc-by-4.0" in on_hub(member, "second")[CARD]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("repos/create", "POST", status=401), "does not know your token (401"),
        (Fault("repos/create", "POST", status=403), "may not write to it (403"),
        (Fault("repos/create", "POST", status=404), "knows no akiiki"),
        (Fault("commit/main", "POST", status=413), "no room for it (413"),
        (Fault("commit/main", "POST", status=409), "somebody else changed it"),
        (Fault("commit/main", "POST", status=500), "the hub is in trouble (500)"),
        (Fault("models/akiiki", "GET", status=503), "the hub is in trouble (503)"),
        (Fault(ARRIVALS, "PUT", status=403), "may not write to it (403"),
        (Fault(ARRIVALS, "PUT", cut_after=1000), "the connection broke off"),
    ],
    ids=lambda value: value.match if isinstance(value, Fault) else "",
)
def test_failure_of_the_hub_is_a_line(member: HubDouble, folder: Path, fault: Fault, said: str) -> None:
    """And no half of a model is visible."""
    member.faults.append(fault)
    line = complaint(folder)
    assert line.startswith(f"{NAME}: ")
    assert said in line
    assert not on_hub(member).keys() & FILES


@pytest.mark.parametrize(
    "fault",
    [
        Fault("commit/main", "POST", status=500, times=1),
        Fault("preupload", "POST", status=503, times=1),
        Fault("repos/create", "POST", status=500, times=1),
        Fault(ARRIVALS, "PUT", status=500, times=1),
        Fault(ARRIVALS, "PUT", cut_after=1000, times=1),
    ],
    ids=lambda fault: fault.match,
)
def test_what_passes_is_waited_for(member: HubDouble, folder: Path, fault: Fault) -> None:
    """The whole model is there after one failure; what has arrived is not sent twice."""
    member.faults.append(fault)
    publish(run=folder, repo_id=NAME, yes=True)
    assert on_hub(member)["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    arrived = [one for one in member.requests if one.method == "PUT" and one.status == 200]
    assert len(arrived) == 1


def test_organisation_of_others(member: HubDouble, folder: Path) -> None:
    """The hub's own words are in the line."""
    line = complaint(folder, repo_id="others/runyoro")
    assert "rights to create a model under the namespace" in line
    assert member.writing.arrived == {}


def test_bad_token(member: HubDouble, folder: Path) -> None:
    """Whatever is asked for first."""
    member.bad_tokens.add(TOKEN)
    assert "does not know your token (401" in complaint(folder)


def test_nobody_is_logged_in(hub: HubDouble, folder: Path) -> None:
    """Nothing is asked."""
    assert "hf auth login" in complaint(folder)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pytorch_model.bin": "x"}, "files of somebody else (pytorch_model.bin)"),
        ({"config.json": "{}", CARD: "---\ntags: [theirs]\n---\n# Theirs\n"}, "another model"),
    ],
)
def test_other_model_is_not_replaced(member: HubDouble, folder: Path, files: dict[str, str], said: str) -> None:
    """Unless that is asked for; what else is there stays."""
    theirs = member.folder(NAME, kind="models")
    for name, text in files.items():
        (theirs / name).write_text(text)
    line = complaint(folder)
    assert said in line
    assert "--overwrite" in line
    assert on_hub(member) == {name: text.encode() for name, text in files.items()}
    publish(run=folder, repo_id=NAME, yes=True, overwrite=True)
    assert on_hub(member).keys() == FILES | files.keys()


def test_nobody_to_ask(member: HubDouble, folder: Path, run_task: RunTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, `--yes` is needed; the list of files comes before."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    status, out, err = run_task(f"publish --run {folder} --repo-id {NAME}")
    assert status == 1
    assert "add --yes" in " ".join(err.split())
    assert all(name in out for name in FILES)
    assert on_hub(member) == {}


@pytest.mark.parametrize(("answer", "is_sent"), [("y\n", True), ("\n", False), ("no\n", False), ("", False)])
def test_whoever_sits_there_is_asked(
    member: HubDouble, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, *, is_sent: bool
) -> None:
    """What is no yes is a no."""
    asked = io.StringIO(answer)
    monkeypatch.setattr(asked, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", asked)
    if is_sent:
        publish(run=folder, repo_id=NAME)
    else:
        with pytest.raises(PublishError, match="nothing was sent"):
            publish(run=folder, repo_id=NAME)
    assert bool(on_hub(member)) is is_sent


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"repo_id": None}, "--repo-id is not given"),
        ({"repo_id": "runyoro"}, '--repo-id is "runyoro"'),
        ({"repo_id": "https://host/a/b"}, "ORG/NAME"),
        ({"run": Path("nowhere")}, "no such folder"),
        ({"licence": "appache-2.0"}, 'did you mean "apache-2.0"'),
        ({"branch": "a b"}, "--branch"),
        ({"message": ""}, "--message"),
    ],
    ids=str,
)
def test_wrong_options(hub: HubDouble, folder: Path, given: dict[str, object], said: str) -> None:
    """One line, before anything is asked."""
    assert said in complaint(folder, **given)
    assert hub.requests == []


def test_unfinished_and_broken_models(hub: HubDouble, folder: Path, tmp_path: Path) -> None:
    """What is missing or cut short is named."""
    (folder / "model.safetensors").rename(tmp_path / "kept")
    assert "no final model" in complaint(folder)
    (folder / "model.safetensors").write_bytes((tmp_path / "kept").read_bytes()[:-100])
    assert "model.safetensors" in complaint(folder)
    shutil.copy(tmp_path / "kept", folder / "model.safetensors")
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in complaint(folder)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Made in /home/akiiki/models.", "names a place on a machine (/home/akiiki/models.)"),
        ("See C:\\Users\\akiiki\\x", "names a place"),
        (f"My token is {TOKEN}.", "password or a token"),
        ("Trained on kagadi-lab7.", "names this machine or account (kagadi-lab7)"),
    ],
)
def test_card_that_tells_too_much(
    hub: HubDouble, folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    """The line is named, and nothing goes."""
    monkeypatch.setattr("socket.gethostname", lambda: "kagadi-lab7.example.org")
    (folder / CARD).write_text((folder / CARD).read_text() + f"\n{line}\n")
    found = complaint(folder)
    assert said in found
    assert f"{CARD} line {len((folder / CARD).read_text().splitlines())}" in found
    assert hub.requests == []


def test_model_without_a_run(member: HubDouble, tmp_path: Path) -> None:
    """Any folder with a model and a card that states a licence."""
    model = build_tiny_model(tmp_path / "model")
    assert "no card" in complaint(model)
    (model / CARD).write_text("# Mine\n")
    assert "licence is not settled" in complaint(model)
    (model / CARD).write_text("---\nlicense: my own\n---\n# Mine\n")
    assert 'license is "my own"' in complaint(model)
    (model / CARD).write_text("---\nlicense: [\n---\n# Mine\n")
    assert "metadata cannot be read" in complaint(model)
    (model / CARD).write_text("---\nlicense: mit\n---\n# Mine\n")
    publish(run=model, repo_id=NAME, yes=True)
    assert on_hub(member)[CARD] == (model / CARD).read_bytes()


def test_licence_that_is_not_settled(member: HubDouble, tmp_path: Path) -> None:
    """Not for everybody, unless one is given; one that gives more away than the base model's is refused."""
    folder = finished(tmp_path / "run", "facebook/mms-300m", COMMIT)
    line = complaint(folder)
    assert "as far as is known: cc-by-nc-4.0" in line
    assert "--licence" in line
    assert "forbids commercial use" in complaint(folder, licence="apache-2.0")
    publish(run=folder, repo_id=NAME, yes=True, licence="cc-by-nc-4.0")
    assert b"license: cc-by-nc-4.0" in on_hub(member)[CARD]
    (folder / CARD).write_text("---\nlicense: mit\n---\n# Mine\n")
    assert "forbids commercial use, which mit allows" in complaint(folder)
    publish(run=finished(tmp_path / "other", "nobody/base", COMMIT), repo_id="akiiki/other", yes=True, private=True)
    assert "akiiki/other" in member.writing.private
