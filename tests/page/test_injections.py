"""Names that try to be more than names, in both pages, in a real browser: nothing of them runs, or leaves the page.

Twice: with the page's policy, and with a copy that has none, where only the escaping holds. That the browser would run
them is shown by a page that does not escape.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runyoro_ssl.page.render import POLICY
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.publish.report.write import write_report
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train.health import journal
from support.browser import Browser
from support.evaluations import full_evaluation, hostile, unit_examples
from support.preparation import write_lines
from support.runs import log_steps

RUN = "document.documentElement.dataset.ran=1"
INJECTIONS = {
    "a script": f"<script>{RUN}</script>",
    "out of an attribute": f'"><script>{RUN}</script>',
    "out of a quoted attribute": f"'><img src=x onerror='{RUN}'>",
    "a handler in an attribute": f'" onmouseover="{RUN}" style="position:fixed;inset:0" x="',
    "a picture that fails": f"<img src=x onerror={RUN}>",
    "a drawing": f"<svg onload={RUN}></svg>",
    "details that open": f"<details open ontoggle={RUN}>x</details>",
    "a focus": f"<input autofocus onfocus={RUN}>",
    "out of the title": f"</title><script>{RUN}</script>",
    "out of the style": f"</style><script>{RUN}</script>",
    "out of the script": f"</script><script>{RUN}</script>",
    "out of a comment": f"--><script>{RUN}</script><!--",
    "a frame": f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    "an address": f"javascript:{RUN}",
    "an address of data": f"data:text/html,<script>{RUN}</script>",
    "a template": "{{ 7 * '7' }}{% print 'ran' %}",
    "another base": "<base href=//example.org/>",
    "elsewhere, at once": "<meta http-equiv=refresh content=0;url=//example.org/>",
    "a form": "<form action=//example.org/ id=f><input name=x></form><script>f.submit()</script>",
    "a style sheet": "<style>@import '//example.org/x.css';*{background:url(//example.org/y)}</style>",
    "half a tag": f"<img src=x onerror={RUN} ",
    "entities": f"&lt;script&gt;{RUN}&lt;/script&gt;&#60;script&#62;{RUN}&#60;/script&#62;",
    "separators of lines": f"x\u2028{RUN}\u2029//",
}
PAGES = 6
"""Of a run, each with some of them in every place."""
POLICY_TAG = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def look(chromium: Browser, page: Path, *, width: int = 1200) -> tuple[bool, list[str]]:
    """Open a page and move over it: whether something of a name ran, and what else than the page was asked for."""
    chromium.open(page, width=width)
    chromium.run("document.querySelectorAll('*').forEach(one => one.dispatchEvent(new MouseEvent('mouseover')))")
    chromium.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    ran = chromium.run("return document.documentElement.dataset.ran === '1'")
    return bool(ran), [url for url in chromium.requests() if url != page.as_uri()]


def check_harmless(chromium: Browser, page: Path, scripts: Sequence[str]) -> None:
    """With its policy and without; the only scripts are these, and no name has become an element."""
    html = page.read_text(encoding="utf-8")
    bare = page.with_name("without policy.html")
    without, count = POLICY_TAG.subn("", html)
    assert count == 1
    bare.write_text(without, encoding="utf-8")
    for one in (page, bare):
        assert look(chromium, one) == (False, [])
        assert chromium.run("return [...document.scripts].map(one => one.text)") == list(scripts)
        foreign = (
            "return document.querySelectorAll('iframe, base, form, object, embed, meta[http-equiv=refresh]').length"
        )
        assert chromium.run(foreign) == 0
    assert chromium.complaints() == []


def test_the_browser_runs_what_is_not_escaped(chromium: Browser, tmp_path: Path) -> None:
    """So that what follows proves something; and a page's policy alone stops all of it."""
    active = [name for name, text in INJECTIONS.items() if RUN in text]
    ran: list[str] = []
    stopped: list[str] = []
    for name in active:
        head = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        places = f'<title>{INJECTIONS[name]}</title><p title="{INJECTIONS[name]}">{INJECTIONS[name]}</p>'
        for answers, first in ((ran, ""), (stopped, head)):
            page = tmp_path / "control.html"
            page.write_text(f"<!doctype html><meta charset=utf-8>{first}{places}", encoding="utf-8")
            if look(chromium, page)[0]:
                answers.append(name)
    assert len(ran) >= 12, set(active) - set(ran)
    assert stopped == []


def test_names_of_a_corpus_do_nothing(chromium: Browser, corpus: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Of files, recordings, speakers, languages, licences and other fields, and of the dataset."""
    waves = sorted(corpus.rglob("*.wav"))
    lines = []
    for number, text in enumerate(INJECTIONS.values()):
        name = f"{number}{text.replace('/', chr(0x2215))}.wav"[:200]
        shutil.copy(waves[number % len(waves)], tmp_path / name)
        named = dict.fromkeys(("speaker", "language", "recording", "licence", "license", "text", text), text)
        lines.append({**named, "audio_filepath": name, "duration": 2.5})
    config = load_config(
        profile="cpu-smoke",
        settings=["prepare.segment=fixed"],
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(tiny_model)},
            "prepare": {
                "manifest_path": write_lines(tmp_path / "m.jsonl", lines),
                "output_dir": tmp_path / INJECTIONS["a picture that fails"],
            },
        },
    )
    prepare(config, load_plugins(config))
    page = config.prepare.output_dir / "prepare_report.html"
    html = page.read_text(encoding="utf-8")
    assert html.count("dataset.ran") > len(INJECTIONS)
    [script] = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    check_harmless(chromium, page, [script])


def test_names_of_a_run_do_nothing(chromium: Browser, tmp_path: Path) -> None:
    """Of models, measures, verdicts, phones, alarms, units and clips."""
    every = list(INJECTIONS.values())
    for number in range(PAGES):
        text = " ".join(every[number::PAGES])
        folder = log_steps(tmp_path / f"{number}{text.replace('/', chr(0x2215))}"[:200], 20)
        journal.record(
            folder, dict.fromkeys(("kind", "seen", "means", "done", "try"), text) | {"step": 1, "action": "stop"}
        )
        units = [
            replace(unit, words=text, phones=[(text, 1.0)], clips=[replace(clip, words=text) for clip in unit.clips])
            for unit in unit_examples(1)
        ]
        page = write_report(folder, evaluation=hostile(full_evaluation(), text), units=units)
        check_harmless(chromium, page, [])
