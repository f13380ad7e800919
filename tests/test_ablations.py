"""Ablation tables: the paper's settings, trainings that are shared but never mistaken, reports."""

import csv
import json
import sys
from threading import Thread

import pytest
from programs import ROOT, run_program

from scripts.ablation_report import (
    COLUMNS,
    PUBLISHED,
    line,
    paired,
    published,
    write_csv,
    write_markdown,
)
from scripts.ablation_runs import base_flags, effective, last_words, locked, plan, slug, train
from scripts.ablation_tables import TABLES, described
from scripts.ablations import possible_rows, requested
from tvr.utils.errors import UserError

SMALL = (
    *("--base_encoder", "tiny", "--epochs", 1, "--num_hidden_layers", 1, "--max_frames", 1),
    *("--max_words", 8, "--batch_size", 40, "--allow_partial_gallery", 1, "--device", "cpu"),
)


def ablate(shapes, output, table, *flags, **environment):
    paths = {"ANNO_PATH": str(shapes / "anns"), "VIDEO_PATH": str(shapes / "videos_3fps")}
    return run_program(
        *("bash", ROOT / "scripts/ablations.sh", table, *SMALL, "--workers", 0, *flags),
        **{**paths, "OUTPUT": str(output), "SEEDS": "1 2", **environment},
    )


@pytest.fixture(scope="module")
def query(shapes, tmp_path_factory):
    """The folder of a finished table, and what the program said."""
    output = tmp_path_factory.mktemp("ablations")
    done = ablate(shapes, output, "query")
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_a_table_is_written_with_its_command(query, shapes):
    output, said = query
    table = (output / "query.md").read_text()
    # in the heading, ten numbers a row, and the second row's two differences to the first
    assert table.count("±") == 1 + 2 * 10 + 2
    assert "paper" not in table  # a gallery of 13 is not the paper's
    assert f'OUTPUT={output} SEEDS="1 2" bash scripts/ablations.sh query --base_encoder' in table
    assert f"ANNO_PATH={shapes / 'anns'} " in table
    for name in ("default", "query-text"):
        assert f"{output}/runs/{name}/seed-2/output.txt" in said
    rows = list(csv.DictReader((output / "query.csv").open()))
    assert [row["row"] for row in rows] == ["gap", "text"]
    runs = [
        json.loads((output / f"runs/default/seed-{s}/metrics.json").read_text()) for s in (1, 2)
    ]
    first, second = (run["results"][0]["t2v"]["MnR"] for run in runs)
    assert float(rows[0]["t2v MnR mean"]) == pytest.approx((first + second) / 2, abs=1e-4)
    assert float(rows[0]["t2v MnR sd"]) == pytest.approx(abs(first - second) / 2**0.5, abs=1e-4)


def test_trainings_keep_their_output_but_not_their_checkpoints(query):
    folder = query[0] / "runs/query-text/seed-1"
    assert "epoch 1/1" in (folder / "output.txt").read_text()
    assert json.loads((folder / "flags.json").read_text())["temp"] == 3
    assert not list(folder.glob("*.pt"))


def test_a_second_call_trains_nothing(query, shapes):
    output, _ = query
    before = (output / "runs/default/seed-1/metrics.json").stat().st_mtime_ns
    # the number of decoding processes makes no other training
    done = ablate(shapes, output, "query", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "training:" not in done.stdout
    assert (output / "runs/default/seed-1/metrics.json").stat().st_mtime_ns == before


def test_other_flags_are_refused_before_anything_changes(query, shapes):
    output, _ = query
    before = (output / "query.md").read_text()
    done = ablate(shapes, output, "query", "--temp", 5)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {output}/runs/default/seed-1 was trained with other")
    assert "--temp 3.0, now 5.0" in done.stderr
    assert "--workers" not in done.stderr
    assert done.stderr.endswith("Choose another OUTPUT.\n")
    assert (output / "query.md").read_text() == before


def test_another_data_set_is_refused(query, shapes):
    done = ablate(shapes, query[0], "query", DATATYPE="vatex")
    assert done.returncode == 2
    assert "--datatype msrvtt, now vatex" in done.stderr


def test_tables_share_a_training(query, shapes):
    output, _ = query
    done = ablate(shapes, output, "anchor", SEEDS="1", KEEP="1")
    assert done.returncode == 0, done.stderr
    trained = [row for row in done.stdout.splitlines() if "training:" in row]
    assert len(trained) == 1  # the other row is the default
    assert "kl_anchor-text/seed-1" in trained[0]
    assert (output / "runs/kl_anchor-text/seed-1/checkpoint_last.pt").exists()
    table = (output / "anchor.md").read_text()
    assert "±" not in table  # one seed has no deviation
    assert "nan" not in table
    assert "KEEP=1" in table


def test_a_mistake_that_only_training_sees_ends_with_its_message(shapes, tmp_path):
    done = ablate(shapes, tmp_path, "query", ANNO_PATH=str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --anno_path {tmp_path}/nowhere: does not exist")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs/default/seed-1/finished").exists()


def test_an_interrupted_training_is_run_again(tmp_path):
    launcher = tmp_path / "launcher.py"  # in the place of training: fails the first time
    launcher.write_text(
        "import sys, pathlib\n"
        "folder = pathlib.Path(sys.argv[-1])\n"
        "again = (folder / 'checkpoint_last.pt').exists()\n"
        "(folder / 'checkpoint_last.pt').touch()\n"
        "sys.exit(0 if again else 'killed')\n"
    )
    training = plan(base_flags("msvd"), ["--alpha", "3"], 5, tmp_path)
    assert training.folder == tmp_path / "runs/alpha-3.0/seed-5"
    with pytest.raises(UserError, match=r"output.txt ends with:\nkilled\n.* exit code 1"):
        train(training, [sys.executable, str(launcher)], keep=False)
    assert not training.finished
    train(training, [sys.executable, str(launcher)], keep=False)
    assert training.finished
    assert not (training.folder / "checkpoint_last.pt").exists()


def test_a_folder_is_trained_in_by_one_process_at_a_time(tmp_path):
    def enter():
        with locked(tmp_path):
            pass

    second = Thread(target=enter)
    with locked(tmp_path):
        second.start()
        second.join(0.3)
        assert second.is_alive()
    second.join(10)
    assert not second.is_alive()


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "no table named: choose one of loss, "),
        (["los"], {}, "no table los"),
        (["loss"], {"SEEDS": ""}, 'SEEDS="": give whole numbers'),
        (["loss"], {"SEEDS": "1 two"}, "give whole numbers"),
        (["loss"], {"SEEDS": "1 01"}, "twice"),
        (["loss", "--seed", "1"], {}, "set SEEDS"),
        (["loss", "--output_dir", "x"], {}, "set OUTPUT"),
        (["loss", "--epoch", "1"], {}, "unrecognized arguments: --epoch"),
        (["loss"], {"DATATYPE": "msr-vtt"}, "DATATYPE msr-vtt: choose one of msrvtt"),
        (["loss"], {"LAUNCHER": "no-such-program -n 2"}, "no program no-such-program"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(arguments, environment, message):
    with pytest.raises(UserError, match=message):
        requested(arguments, environment)


def test_help_lists_the_environment_and_every_row():
    done = run_program("bash", ROOT / "scripts/ablations.sh", "--help")
    assert done.returncode == 0
    for word in ("SEEDS", "OUTPUT", "LAUNCHER", "KEEP", "DATATYPE", described()):
        assert word in done.stdout
    assert "--kl_prior 100" in described()


@pytest.mark.parametrize("named", [{"DATATYPE": "activitynet"}, {"flag": "activitynet"}])
def test_the_settings_are_those_of_the_benchmark_and_later_flags_win(named):
    flags = ["--datatype", named["flag"]] if "flag" in named else []
    request = requested(["loss", "--epochs", "2", *flags], named)
    assert str(request.output) == "ckpts/ablations/activity"
    used = plan(request.flags, ["--correct", "text"], 7, request.output).settings
    expected = {
        **{"datatype": "activity", "max_words": 64, "max_frames": 64, "context": "words"},
        **{"temp": 3, "batch_size": 128, "epochs": 2, "correct": "text", "seed": 7},
    }
    assert {name: used[name] for name in expected} == expected


def test_the_data_set_of_the_command_line_wins():
    request = requested(["loss", "--datatype", "didemo"], {"DATATYPE": "msvd"})
    assert effective(request.flags)["max_frames"] == 64


def test_rows_that_are_the_default_have_one_name():
    base = base_flags("msrvtt")
    for flags in ([], ["--query", "gap"], ["--alpha", "2.0"], ["--kl_prior", "1"]):
        assert slug(flags, base) == "default"
    assert slug(["--alpha", "3", "--eta", "-1"], base) == "eta--1_alpha-3.0"


def row(table, name):
    return next(row for row in TABLES[table] if row.name == name)


@pytest.mark.parametrize(
    ("datatype", "table", "name", "t2v"),
    [
        ("msrvtt", "loss", "all", "49.1"),
        ("msrvtt", "loss", "Δ + direction", "47.0 to 47.4"),
        ("msrvtt", "context", "text, frames, η +1", "49.1"),
        ("msrvtt", "context", "text, words, η +1", "48.2"),
        ("msrvtt", "attended", "words", "47.4"),
        ("msrvtt", "query", "gap", "49.1"),
        ("didemo", "attended", "words", "46.5"),
        ("activity", "attended", "words", "42.6"),
        ("activitynet", "attended", "frames", "40.2"),
        ("activity", "context", "video, words, η +1", "42.6"),
        ("msvd", "loss", "baseline", "45.0"),
        ("lsmdc", "loss", "all", None),
        ("didemo", "alpha", "α 3", None),
    ],
)
def test_the_papers_number_is_found(datatype, table, name, t2v):
    assert published(datatype, table, row(table, name)).get("t2v R@1") == t2v


def test_every_published_number_belongs_to_a_row():
    with PUBLISHED.open(encoding="utf-8") as file:
        for entry in csv.DictReader(file):
            if entry["row"] != "GARE":
                assert row(entry["table"], entry["row"])
                assert not slug_is_default(entry)


def slug_is_default(entry):
    flags = row(entry["table"], entry["row"]).flags.split()
    return slug(flags, base_flags(entry["datatype"])) == "default"


def metrics(value, complete=True, protocol=None, complete_training=True):
    measured = dict.fromkeys(("R@1", "R@5", "R@10", "MdR", "MnR"), value)
    return {
        "settings": {"datatype": "msrvtt", "protocol": protocol},
        "protocol": {"complete_gallery": complete, "complete_training": complete_training},
        "results": [{"t2v": measured, "v2t": measured}, {"t2v": {}, "v2t": {}}],
    }


def test_the_papers_line_stands_under_ours(tmp_path):
    lines = [
        line("loss", row("loss", name), [metrics(40.0), metrics(44.0)])
        for name in ("Δ + radius", "all")
    ]
    write_markdown(tmp_path / "loss.md", lines, [1, 2], "the command")
    table = (tmp_path / "loss.md").read_text().splitlines()
    assert table[4].startswith("| Δ + radius | 42.0 ± 2.8 | 42.0 ± 2.8 |")
    assert table[5].startswith("| (paper) | 47.0 to 47.4 |  |")
    gare = "49.1 | 74.7 | 83.6 | 2 | 12.0 | 48.6 | 75.3 | 85.3 | 2 | 8.5"
    assert table[7] == f"| (paper) | {gare} |  |  |"
    write_csv(tmp_path / "loss.csv", lines)
    first = next(csv.DictReader((tmp_path / "loss.csv").open()))
    assert (first["t2v R@1 mean"], first["t2v R@1 sd"]) == ("42.0000", "2.8284")
    assert first["t2v R@1 paper"] == "47.0 to 47.4"
    assert len(first) == 1 + 3 * len(COLUMNS) + 2 * len(COLUMNS)


def test_differences_to_the_first_row_are_paired_by_their_seeds(tmp_path):
    """By hand: differences 1, 3 and 2 have the mean 2, the deviation 1, and t(2) is 4.303."""
    values = {"Δ + radius": [40.0, 44.0, 12.0], "all": [41.0, 47.0, 14.0]}
    lines = [line("loss", row("loss", name), list(map(metrics, v))) for name, v in values.items()]
    assert paired(lines[1], lines[0], "t2v R@1") == pytest.approx((2.0, 4.303 / 3**0.5))
    write_markdown(tmp_path / "loss.md", lines, [1, 2, 3], "the command")
    table = [text.split(" | ") for text in (tmp_path / "loss.md").read_text().splitlines()]
    assert table[2][-2:] == ["Δ t2v R@1", "Δ v2t R@1 |"]
    assert (table[4][-2:], table[6][-2:]) == (["", " |"], ["+2.0 ± 2.5", "+2.0 ± 2.5 |"])
    write_csv(tmp_path / "loss.csv", lines)
    second = list(csv.DictReader((tmp_path / "loss.csv").open()))[1]
    assert (second["v2t R@1 difference"], second["v2t R@1 ±"]) == ("2.0000", "2.4843")


def test_one_seed_has_no_differences(tmp_path):
    lines = [line("loss", row("loss", name), [metrics(40.0)]) for name in ("Δ + radius", "all")]
    write_markdown(tmp_path / "loss.md", lines, [1], "the command")
    assert "Δ t2v" not in (tmp_path / "loss.md").read_text()


@pytest.mark.parametrize(
    "other", [{"complete": False}, {"protocol": "7k"}, {"complete_training": False}]
)
def test_other_data_has_no_line_of_the_papers(other):
    assert line("loss", row("loss", "all"), [metrics(1.0)]).paper
    assert line("loss", row("loss", "all"), [metrics(1.0, **other)]).paper == {}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("12:00 loading\nerror: no such file\n  a.mp4\n", "no such file\n  a.mp4"),
        ("error: bad\nE0102 10:00 launcher: failed\nTraceback …\n", "bad"),
    ],
)
def test_the_message_of_a_failed_training_is_found(tmp_path, output, expected):
    (tmp_path / "output.txt").write_text(output)
    assert last_words(tmp_path / "output.txt") == expected


def test_a_crash_shows_the_end_of_its_output(tmp_path):
    file = tmp_path / "output.txt"
    file.write_text("\n".join(f"line {n}" for n in range(20)))
    assert last_words(file).splitlines() == [
        f"{file} ends with:",
        *(f"line {n}" for n in range(10, 20)),
    ]


def test_what_takes_hours_on_a_cpu_is_left_out_and_named(capsys):
    request = requested(["fidelity", "--device", "cpu"], {})
    rows = possible_rows(request)
    left = [row.name for row in TABLES["fidelity"] if row not in rows]
    assert left == ["CLIP's weights in fp16"]
    assert capsys.readouterr().out.count("CLIP's weights in fp16: left out, it needs a GPU") == 1
