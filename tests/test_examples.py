"""The examples run, and the front door gives what it promises, lazily."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeflow as ef

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_quickstart_goes_from_recordings_to_verdicts(sounds: Path, tmp_path: Path, capsys):
    load("quickstart").main(str(sounds), str(tmp_path), epochs=2)
    said = capsys.readouterr().out
    assert said.count("nats/dim") == 4
    assert "fan_id_00: trained, 2 epochs" in said
    assert (tmp_path / "fan_id_00.edgeflow").exists()


def test_a_stream_is_followed_second_by_second(bundle_path: Path, capsys):
    samples = np.random.default_rng(0).normal(0, 2000, 16000 * 3).astype("<i2")
    load("score_stream").main(str(bundle_path), io.BytesIO(samples.tobytes()))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1.0", "2.0", "3.0"]


def test_a_bundle_is_evaluated_without_torch(bundle_path: Path, sounds: Path):
    code = (
        "import runpy, sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('torch', 'onnx'): raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "sys.argv[:] = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code, EXAMPLES / "evaluate_bundle.py", bundle_path, sounds]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:4]) == (0, "AUC "), done.stderr


def test_every_example_is_tried_here():
    text = Path(__file__).read_text()
    assert all(path.stem in text for path in EXAMPLES.glob("*.py"))


def test_the_front_door_loads_nothing_before_it_is_used():
    code = "import sys, edgeflow; assert not {'numpy', 'torch', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ef.__all__)
def test_every_name_is_there_and_typed(name: str):
    assert getattr(ef, name) is not None
    stub = (Path(ef.__file__).parent / "__init__.pyi").read_text()
    assert f" as {name}\n" in stub or f"{name}: str" in stub


def test_what_is_not_there_says_so():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ef.trian  # noqa: B018


@pytest.mark.parametrize(("name", "extra"), [("train", "train"), ("export", "export")])
def test_a_missing_extra_is_one_line_with_its_mend(name: str, extra: str):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import edgeflow as ef\n"
        f"try: ef.{name}\n"
        "except ef.EdgeflowError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert "'torch' is not installed" in line
    assert f"[{extra}]" in line
