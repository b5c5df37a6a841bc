"""The page of a run without a browser: what it holds, that it needs nothing else, and mistakes."""

import html.parser
import json
import os
import re
import shutil

import numpy as np
import pytest

from experiments import report
from jaxgan.run import history
from jaxgan.types import UserError
from tests.helpers import runs, told

told.need_library()


class Parsed(html.parser.HTMLParser):
    """A page in parts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._in = [], "", []
        self.scripts = []
        self.raw = page
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in.append(tag)

    def handle_endtag(self, tag):
        if tag in self._in:
            while self._in.pop() != tag:
                pass

    def handle_data(self, data):
        if "script" in self._in:
            self.scripts.append(data)
        elif "style" not in self._in:
            self.text += data

    def data(self):
        return json.loads(self.scripts[0])

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def _page(*workdirs, **settings):
    joined = ",".join(map(str, workdirs))
    return Parsed(report.run(report.Config(workdir=joined, **settings)).read_text("utf-8"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The page of a run that was really trained, and its directory."""
    workdir = tmp_path_factory.mktemp("report") / "trained"
    shutil.copytree(runs.conditional(), workdir)
    return _page(workdir, module=runs.MODULE), workdir


def test_a_trained_run_has_every_part(trained):
    page, _ = trained
    sections = [attrs["id"] for attrs in page.all("section")]
    assert sections == [
        *("summary", "samples", "interpolations", "neighbours", "curves", "events"),
        *("settings", "reproduce"),
    ]
    assert "finished at step 4" in page.text and "among all 40 training examples" in page.text
    alts = [attrs["alt"] for attrs in page.all("img")]
    assert all(alts) and "Samples of trained at step 4" in alts
    assert sum(alt.startswith("Training example at distance") for alt in alts) == 30
    assert any(alt.startswith("Grid of samples of trained. Each row leads") for alt in alts)


def test_the_record_tells_versions_devices_and_memory(trained):
    page, workdir = trained
    events = [line["event"] for line in history.read(workdir)]
    assert events == ["start", "end"]
    assert "x cpu" in page.text and "MiB of the host" in page.text
    assert re.search(r"python 3\.\d+\.\d+, jax \d", page.text)
    assert "not recorded" not in page.text


def test_the_command_reproduces_the_run(trained):
    page, _ = trained
    command = page.text.partition("python -m ")[2].partition("--workdir")[0]
    assert command.startswith("tests.helpers.toy")
    for flag in ("--dataset=arrays", "--conditional=True", "--num_steps=4", "--batch_size=16"):
        assert flag in command
    assert "--seed=" not in command  # the default


def test_nothing_is_fetched_from_anywhere(trained):
    page, _ = trained
    for _, attrs in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attrs.get(name, "#").startswith(("data:image/", "#")), attrs
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy and "'unsafe-inline'" not in policy.split("script-src")[1]
    assert not re.search(r"url\(|@import", page.raw)
    assert all("src" not in attrs for attrs in page.all("script"))


def test_runs_side_by_side_mark_what_differs(tmp_path):
    one = told.image_run(tmp_path / "a" / "run", gen_lr=0.001)
    other = told.image_run(tmp_path / "b" / "run", gen_lr=0.002, shade=50, steps=300)
    page = _page(one, other, out=str(tmp_path / "both.html"))
    settings = page.raw.partition('<section id="settings">')[2].partition("</section>")[0]
    chosen, _, rest = settings.partition("<details")
    assert '<tr class="differs"><th scope="row">gen_lr' in chosen.replace("'", '"')
    assert "batch_size" not in chosen and "batch_size" in rest
    assert "a/run" in page.text and "b/run" in page.text
    assert "ended before its last step, step 300 of 400" in page.text
    assert [len(run["frames"]) for run in page.data()["runs"]] == [4, 3]
    assert page.data()["steps"] == [100, 200, 300, 400]
    assert not (one / "report.html").exists()


def test_text_is_shown_as_sentences(tmp_path):
    page = _page(told.text_run(tmp_path / "run", "a cat sat", "1 < 2 & 3 > 2"))
    assert "a cat sat" in page.text and "1 < 2 & 3 > 2" in page.text
    frames = page.data()["runs"][0]["frames"]
    assert [frame["lines"] for frame in frames][0] == ["early", "words"]
    assert not page.all("img")
    assert "There is no checkpoint yet" in page.text


def test_a_run_directory_cannot_put_code_into_the_page(tmp_path):
    workdir = told.text_run(tmp_path / "run", told.EVIL)
    told.record(
        workdir, experiment="experiments.text", data_dir=told.EVIL, **{told.EVIL: told.EVIL}
    )
    told.append(workdir, "metrics.jsonl", told.line(500, **{told.EVIL: 1.0, "guard/alarms": 1.0}))
    told.append(
        workdir, "metrics.jsonl", told.line(501, **{"guard/alarms": 1, "guard/signs": told.EVIL})
    )
    told.append(
        workdir, history.FILE, {"step": 0, "event": told.EVIL, "time": told.EVIL, "versions": 7}
    )
    (workdir / "evaluation.json").write_text(json.dumps({told.EVIL: 1.0, "protocol": told.EVIL}))
    page = _page(workdir)
    assert len(page.all("script")) == 3 and not page.all("img")
    assert page.text.count("window.evil") >= 6
    assert page.data()["runs"][0]["frames"][1]["lines"] == [told.EVIL]


def test_a_run_that_still_trains_tells_what_there_is(tmp_path, capsys):
    workdir = told.image_run(tmp_path / "run", steps=200)
    (workdir / ".lock").write_text(f"process {os.getpid()} on {os.uname().nodename}\n")
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 300, "gen/lo')  # a line that is being written
    page = _page(workdir)
    assert "still training, step 200 of 400" in page.text
    assert page.data()["reload"] == 0
    assert "no checkpoint yet" in capsys.readouterr().out


def test_watching_writes_again_until_the_run_is_finished(tmp_path, monkeypatch, capsys):
    workdir = told.image_run(tmp_path / "run", steps=200)
    reloads = []

    def train_on(seconds):
        reloads.append(Parsed((workdir / "report.html").read_text()).data()["reload"])
        told.append(workdir, "metrics.jsonl", told.line(200 + 100 * len(reloads)))

    monkeypatch.setattr(report.time, "sleep", train_on)
    page = _page(workdir, watch=5.0)
    assert reloads == [5, 5] and page.data()["reload"] == 0
    assert "finished at step 400" in page.text
    assert "again in 5 s" in capsys.readouterr().out


def test_a_watch_that_is_interrupted_leaves_a_page_that_stays(tmp_path, monkeypatch):
    workdir = told.image_run(tmp_path / "run", steps=200)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(report.time, "sleep", interrupt)
    assert _page(workdir, watch=5.0).data()["reload"] == 0


def test_numbers_that_cannot_be_drawn_are_left_out(tmp_path):
    workdir = told.image_run(tmp_path / "run")
    told.append(workdir, "metrics.jsonl", told.line(500, huge=10**400, text="x", **{"disc/r1": 1}))
    (workdir / "evaluation.json").write_text('{"kl": 1e999, "modes": NaN, "fine": 2}')
    page = _page(workdir)
    assert page.data()["runs"][0]["train"]["disc/r1"] == [None, None, None, None, 1]
    assert "huge" not in page.data()["runs"][0]["train"] and "fine2" in page.text


def test_alarms_rollbacks_and_dropped_steps_are_on_the_axis_of_time(tmp_path):
    workdir = told.image_run(tmp_path / "run", changes=[])
    signs = "D is right about every image"
    for step in (410, 420, 430):
        more = {"guard/alarms": 1.0, "guard/signs": signs} if step < 430 else {"guard/skipped": 3.0}
        told.append(workdir, "metrics.jsonl", told.line(step, **more))
    why = "step 77: NaN or infinity in the generator"
    told.append(workdir, history.FILE, {"step": 50, "event": "rollback", "why": why})
    page = _page(workdir)
    events = page.data()["runs"][0]["events"]
    assert events == [
        {"kind": "rollback", "step": 77, "until": 77},
        {"kind": "alarm", "step": 410, "until": 420},
        {"kind": "dropped", "step": 430, "until": 430},
    ]
    for text in (signs, f"{why}; back to step 50", "3 steps were dropped"):
        assert text in page.text


def test_alarms_of_older_runs_are_named_too(tmp_path):
    workdir = told.image_run(tmp_path / "run")
    more = {"guard/alarms": 1.0, "gen/diversity": 0.001}
    told.append(workdir, "metrics.jsonl", told.line(500, **more))
    assert "G's samples are all alike" in _page(workdir).text


def test_scores_stand_beside_their_floors_with_intervals(tmp_path):
    workdir = told.image_run(tmp_path / "run")
    scored = {"eval/frechet_distance": 2.0, "eval/frechet_distance/interval": 0.25}
    told.append(workdir, "metrics.jsonl", {"step": 400, **scored, "eval/protocol": "1 sample"})
    (workdir / "evaluation.json").write_text(
        json.dumps({"step": 400, "frechet_distance": 1.5, "floor": {"frechet_distance": 0.5}})
    )
    psnr = {"protocol": "denoise", "psnr": [28.0, 30.0], "input_psnr": [20.0, 20.0], "floor": {}}
    (workdir / "results.json").write_text(json.dumps({**psnr, "modes": ["x"], "kl": [None]}))
    page = _page(workdir)
    assert "frechet distance (lower is better)1.5 (floor 0.5)" in page.text
    assert "psnr (higher is better)29 ± 13 (input 20)" in page.text
    run = page.data()["runs"][0]
    assert run["floors"] == {"frechet_distance": 0.5}
    assert run["eval"]["frechet_distance/interval"] == [0.25] and run["eval"]["seconds"] == [40]


def test_only_the_data_of_the_run_are_called_training_examples(trained, tmp_path):
    _, workdir = trained
    out = str(tmp_path / "page.html")
    np.savez(tmp_path / "other.npz", **runs.images(num=30))
    page = _page(workdir, module=runs.MODULE, data_dir=str(tmp_path / "other.npz"), out=out)
    assert "No nearest training examples: the data are not those of the run" in page.text
    page = _page(workdir, module=runs.MODULE, data_dir=str(tmp_path / "gone.npz"), out=out)
    assert "No nearest training examples:" in page.text and "interpolations" in page.raw


def test_a_checkpoint_of_another_version_leaves_the_rest_of_the_page(trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained[1], copy)
    changed = json.loads((copy / "config.json").read_text())
    changed["config"]["from_the_future"] = 1
    (copy / "config.json").write_text(json.dumps(changed))
    page = _page(copy, module=runs.MODULE)
    assert "it has the setting from_the_future" in page.text
    assert "Samples of run at step 4" in page.raw


def test_a_damaged_picture_is_left_out(tmp_path):
    workdir = told.image_run(tmp_path / "run")
    (workdir / "samples" / "step_00000200.png").write_bytes(b"\x89PNG, cut off")
    frames = _page(workdir).data()["runs"][0]["frames"]
    assert [frame["step"] for frame in frames] == [100, 300, 400]


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    workdir = told.image_run(tmp_path / "run")
    empty, old = told.record(tmp_path / "empty"), told.record(tmp_path / "old")
    (old / "metrics.jsonl").write_text("step,loss\n1,0.5\n")
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "config.json").write_text('{"config": 1}')
    mistakes = [
        ({"workdir": ""}, "--workdir is empty"),
        ({"workdir": f"{workdir},{workdir}"}, "twice"),
        ({"workdir": str(tmp_path / "none")}, "there is no such directory"),
        ({"workdir": str(tmp_path)}, "holds no run: there is no config.json"),
        ({"workdir": str(empty)}, "holds neither samples nor logs yet; train past --sample_every"),
        ({"workdir": str(old)}, "holds no line of this version's logs"),
        ({"workdir": str(tmp_path / "record")}, "is not the record of a run"),
        ({"out": str(tmp_path / "page.png")}, "name a file that ends in .html"),
        ({"out": str(tmp_path / "gone" / "page.html")}, "cannot be written"),
        ({"module": "no.such.module"}, "--module=no.such.module has no Config"),
    ]
    for settings, text in mistakes:
        with pytest.raises(UserError) as caught:
            report.run(report.Config(**{"workdir": str(workdir), **settings}))
        assert text in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="--watch=0.5 is less than a second"):
        report.Config(watch=0.5)
    monkeypatch.setattr(report._page, "LIBRARY", "not-installed")
    with pytest.raises(UserError, match=r"pip install 'jaxgan\[report\]'"):
        report.run(report.Config(workdir=str(workdir)))
