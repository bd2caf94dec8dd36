"""The command line's promises: exit codes, one sentence, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from convfold import cli
from convfold.errors import InvalidArgument


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """A command line with one verb that does what a test wants."""

    def make(action):
        app = typer.Typer()

        @app.callback()
        def root() -> None:
            """Keep the verb in the command."""

        @app.command("do")
        def do() -> int | None:
            return action()

        monkeypatch.setattr(cli, "app", app)
        monkeypatch.delenv("CONVFOLD_TRACEBACK", raising=False)
        return lambda: cli.run(["do"])

    return make


def raising(error: BaseException):
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (0, 0), (1, 1), (2, 2)])
def test_a_verbs_answer_is_the_exit_code(verb, answer, code) -> None:
    assert verb(lambda: answer)() == code


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidArgument("too small", where="--n", got=1, expected="2"), "--n: too small: got 1, expected 2."),
        (KeyboardInterrupt(), f"{cli.INTERRUPTED}."),
        (ModuleNotFoundError("No module named 'sklearn'", name="sklearn"), "this needs the package sklearn"),
        (RuntimeError("first\n   second"), "RuntimeError: first second (CONVFOLD_TRACEBACK=1 shows where)."),
        (ZeroDivisionError(), "ZeroDivisionError: no message"),
    ],
)
def test_every_error_is_one_sentence_on_stderr(verb, capsys, error, sentence) -> None:
    assert verb(raising(error))() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"convfold: {sentence}")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_markup_in_an_error_is_not_read_as_markup(verb, capsys) -> None:
    verb(raising(InvalidArgument("odd name", got="[bold]x[/] of net:x:")))()
    assert "[bold]x[/] of net:x:" in capsys.readouterr().err


def test_those_who_mend_it_get_the_traceback(verb, monkeypatch) -> None:
    run = verb(raising(RuntimeError("deep inside")))
    monkeypatch.setenv("CONVFOLD_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="deep inside"):
        run()


def test_no_verb_and_an_unknown_verb(capsys) -> None:
    assert cli.run([]) == 2
    assert capsys.readouterr().err == "convfold: no verb was given. Try --help.\n"
    assert cli.run(["demoo"]) == 2
    assert "Did you mean 'demo'? Try --help.\n" in capsys.readouterr().err


def test_help_names_the_demo(capsys) -> None:
    assert cli.run(["--help"]) == 0
    assert "demo" in capsys.readouterr().out


def test_the_exit_code_reaches_the_shell(verb, monkeypatch) -> None:
    verb(lambda: 1)
    monkeypatch.setattr("sys.argv", ["convfold", "do"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--blocks", "repvg"], ("unknown block", "'repvg'", "Did you mean repvgg")),
        (["--blocks", "xyzzy"], ("unknown block", "'xyzzy'", "acnet", "repvgg")),
        (["--seeds", "0"], ("--seeds", "got 0", "1 or more")),
        (["--seeds", "many"], ("--seeds", "integer")),
    ],
)
def test_the_demos_bad_arguments(tmp_path: Path, capsys, arguments, words) -> None:
    out = tmp_path / "out"
    assert cli.run(["demo", "--quick", "--out", str(out), *arguments]) == 2
    err = capsys.readouterr().err
    assert all(word in err for word in words), err
    assert err.count("\n") == 1
    assert not out.exists()


def test_the_demo_without_its_packages(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("convfold.studies.asked.find_spec", lambda name: None if name in ("scipy", "jinja2") else name)
    assert cli.run(["demo", "--quick", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "no scipy, jinja2" in err
    assert "pip install 'convfold[demo,report]'" in err
    assert not (tmp_path / "out").exists()


def test_the_demo_in_a_folder_below_a_file(tmp_path: Path, capsys) -> None:
    for needed in ("sklearn", "scipy", "matplotlib", "jinja2", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed, reason="the demo needs the extras demo, report and onnx")
    (tmp_path / "file").write_text("")
    assert cli.run(["demo", "--quick", "--out", str(tmp_path / "file" / "out")]) == 2
    err = capsys.readouterr().err
    assert "file/out: cannot write" in err
    assert err.count("\n") == 1
