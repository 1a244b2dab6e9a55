"""Damaged files: a sample of what `python tests/mutations.py` tries, and that it finds the faults it looks for."""

import json
import pathlib
import random
import subprocess
import sys

import pytest
from mutations import BYTES, change_value, mutate

TESTS = pathlib.Path(__file__).parent

PLANTED = """
import pathlib, sys, time
import numpy as np
import mutations
from tokenizer.errors import UserError

class Kind:
    damaged = ("**/*",)

    def __init__(self, read, checksummed=True):
        self.read, self.checksummed = read, checksummed

    def make(self, place):
        (place / "file").write_bytes(b"whole" * 10)

def on_damage(react):
    def read(place):
        content = (place / "file").read_bytes()
        return content if content == b"whole" * 10 else react(content)
    return Kind(read)

def refuse(content):
    raise UserError("the file is damaged")

def fail(content):
    raise KeyError("name")

kinds = {
    "refusing": on_damage(refuse),
    "believing": on_damage(lambda content: content),
    "failing": on_damage(fail),
    "crashing": on_damage(lambda content: __import__("os").abort()),
    "hanging": on_damage(lambda content: time.sleep(60)),
    "filling": on_damage(lambda content: np.ones(80 * 2**20).sum()),
}
hanging = {"hanging": kinds.pop("hanging")}
found = [mutations.run(kinds, len(kinds), 0, seconds=60), mutations.run(hanging, 1, 0, seconds=2)]
print({name: list(counts) for findings in found for name, counts in findings.counts.items()})
print(sum(len(findings.faults) for findings in found))
kinds["believing"].checksummed = False
print(len(mutations.run(kinds, 0, 0, only="believing:3").faults))
"""


def test_every_kind_of_fault_is_found():
    done = subprocess.run([sys.executable, "-c", PLANTED], cwd=TESTS, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found, faults, edited = done.stdout.splitlines()
    assert found == (
        "{'refusing': ['refused'], 'believing': ['changed'], 'failing': ['traceback'], 'crashing': ['traceback'], "
        "'filling': ['memory'], 'hanging': ['hang']}"
    )
    assert faults == "5"
    assert edited == "0"


@pytest.mark.parametrize("content", [b"x", b"ab" * 50, bytes(range(256))])
@pytest.mark.parametrize("mutation", BYTES)
def test_damage_follows_from_the_generator_alone(mutation, content):
    made = [mutation(content, random.Random(seed)) for seed in range(20)]
    assert made == [mutation(content, random.Random(seed)) for seed in range(20)]
    assert len(content) == 1 or len(set(made)) > 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"a": 1, "b": [1, 2, {"c": "text"}]}'),
        ("a.jsonl", b'{"a": 1}\n{"b": 2}\n'),
        ("a.yaml", b"a: 1\nb: [1, 2]\n"),
        ("a.csv", b"a,b\n1,2\n3,4\n"),
    ],
)
def test_values_of_text_are_changed_one_at_a_time_and_files_are_always_damaged(tmp_path, name, content):
    path = tmp_path / name
    made = {change_value(content, path.suffix[1:], random.Random(seed)) for seed in range(100)}
    assert len(made) > 10
    for seed in range(50):
        path.write_bytes(content)
        mutate(path, random.Random(seed))
        assert path.read_bytes() != content
    if name == "a.json":
        kept = [json.loads(text) for text in made]
        assert all(
            value["b"] == [1, 2, {"c": "text"}] for value in kept if isinstance(value, dict) and "a" not in value
        )


@pytest.mark.slow
def test_a_sample_of_damaged_files_of_every_kind_is_refused_or_read_as_it_was():
    words = [sys.executable, str(TESTS / "mutations.py"), "--count", "24", "--seed", "7"]
    done = subprocess.run(words, cwd=TESTS.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("\n") >= 24 and "\n0 faults\n" in done.stdout
