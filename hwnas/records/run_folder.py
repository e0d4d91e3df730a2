"""The folder of one run, safe against kill -9 at any instant.

    config.yaml  command.txt  environment.json  evaluations.jsonl  state.json  front.csv  front.json
    log.txt

`evaluations.jsonl` is the truth and is only appended to, and so is `real_NAME.jsonl` where a search
evaluates some designs for real; every other file is replaced whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hwnas.errors import RunError
from hwnas.records.closing import Closing
from hwnas.records.environment import describe_environment
from hwnas.records.evaluation import Evaluation
from hwnas.records.files import explained, replace_text
from hwnas.records.journal import Journal
from hwnas.records.lock import FolderLock

__all__ = ["RunFolder", "config_hash"]

_EVALUATIONS = "evaluations.jsonl"
_FIRST_FILES = ("config.yaml", "command.txt", "environment.json")


def config_hash(config: Mapping[str, Any]) -> str:
    """sha256 of the config as canonical JSON: key order does not count, values do."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class RunFolder(Closing):
    """One run on disk, locked against other processes for as long as it is open.

    Make one with `create` or `open`; close it, or use it in a `with` statement.
    """

    def __init__(self, path: Path) -> None:
        """Lock and read the folder; `create` and `open` say more.

        Raises:
            RunError: the folder is in use, damaged or not writable.
        """
        self.path = path
        self._lock = FolderLock(path / "lock")
        self._journals: dict[str, Journal] = {}
        try:
            self.journal(_EVALUATIONS)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        config: Mapping[str, Any],
        command: str,
        seeds: Mapping[str, int],
        inputs: Mapping[str, str],
        environment: Mapping[str, object] | None = None,
    ) -> RunFolder:
        """Make the folder of a new run and open it.

        Args:
            path: must not exist; its parents are made.
            config: the resolved config, plain data, written as `config.yaml`.
            command: the command line that repeats the run.
            seeds: every seed by name.
            inputs: sha256 of every file that decides the result (plug-ins, data, checkpoints).
            environment: versions and machine; detected where not given.

        Raises:
            RunError: it exists, or cannot be written; nothing is left behind then.
        """
        if os.path.lexists(path):
            raise RunError(
                f"{path} exists already; choose another folder with --out, or continue that run "
                f"with: hwnas resume {path}"
            )
        facts = {
            "config_sha256": config_hash(config),
            "seeds": dict(seeds),
            "inputs": dict(inputs),
            "environment": dict(describe_environment() if environment is None else environment),
        }
        texts = (
            yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
            command.rstrip("\n") + "\n",
            json.dumps(facts, indent=2) + "\n",
        )
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        try:
            with explained("create", path):
                draft.mkdir(parents=True)
            for name, text in zip(_FIRST_FILES, texts, strict=True):
                replace_text(draft / name, text)
            with explained("create", path):
                draft.rename(path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier run; a torn last line of its evaluations is cut off.

        Raises:
            RunError: there is no run there, it is in use, or a line of it is damaged.
        """
        missing = [name for name in _FIRST_FILES if not (path / name).is_file()]
        if missing:
            raise RunError(
                f"{path} is not a run folder (no {', '.join(missing)}); name a folder that "
                "`hwnas search` made"
            )
        return cls(path)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, from `config.yaml`."""
        return dict(yaml.safe_load(self.read_text("config.yaml")))

    @property
    def command(self) -> str:
        """The command line that repeats the run."""
        return self.read_text("command.txt").strip()

    @property
    def facts(self) -> dict[str, Any]:
        """`environment.json`: config_sha256, seeds, inputs, environment."""
        return dict(json.loads(self.read_text("environment.json")))

    @property
    def log_path(self) -> Path:
        """Where the command line puts the run's log."""
        return self.path / "log.txt"

    def check_unchanged(self, inputs: Mapping[str, str]) -> None:
        """Refuse to continue a run whose config or inputs are not those that it began with.

        Raises:
            RunError: it names every file that differs.
        """
        facts = self.facts
        problems = []
        if config_hash(self.config) != facts["config_sha256"]:
            problems.append("config.yaml: changed since the run began")
        began = facts["inputs"]
        for name in sorted(began.keys() | inputs.keys()):
            if name not in inputs:
                problems.append(f"{name}: missing; the run began with it")
            elif name not in began:
                problems.append(f"{name}: new; the run began without it")
            elif began[name] != inputs[name]:
                problems.append(f"{name}: changed since the run began")
        if problems:
            raise RunError(
                f"{self.path} cannot be resumed: the same inputs give the same front, and these "
                "differ; put them back, or start a new run with --out:\n  " + "\n  ".join(problems)
            )

    def evaluations(self) -> Sequence[Evaluation]:
        """Every evaluation on disk, in the order of writing."""
        return self.journal(_EVALUATIONS).records

    def append(self, *evaluations: Evaluation) -> None:
        """Append evaluations, all lines in one write.

        Raises:
            RunError: they cannot be written; the file then ends where it ended before.
        """
        self.journal(_EVALUATIONS).append(*evaluations)

    def journal(self, name: str) -> Journal:
        """A further append-only file of evaluations in the folder, opened once.

        Raises:
            RunError: it is damaged or not writable.
        """
        if name not in self._journals:
            self._journals[name] = Journal(self.path / name)
        return self._journals[name]

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace `state.json`, after the evaluations have reached the disk."""
        self.journal(_EVALUATIONS).sync()
        self.write_text("state.json", json.dumps(dict(state), indent=2, allow_nan=False) + "\n")

    def state(self) -> dict[str, Any]:
        """`state.json`; empty where none was written yet."""
        if not (self.path / "state.json").exists():
            return {}
        return dict(json.loads(self.read_text("state.json")))

    def write_text(self, name: str, text: str) -> None:
        """Replace one file of the folder, whole or not at all."""
        replace_text(self.path / name, text)

    def read_text(self, name: str) -> str:
        """One file of the folder.

        Raises:
            RunError: it cannot be read.
        """
        with explained("read", self.path / name):
            return (self.path / name).read_text(encoding="utf-8")

    def close(self) -> None:
        """Close the files and give the lock back; a second call does nothing."""
        for journal in self._journals.values():
            journal.close()
        self._lock.release()
