"""Train and measure the blocks of a space on the features of its teacher."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from hwnas.blocks.building import Builder, load_slot, save_slot
from hwnas.blocks.distilling import Distillation
from hwnas.blocks.library import BlockRecord, Library, read_library, trunk_key, weights_path
from hwnas.blocks.noise import EPS
from hwnas.blocks.options import BlockOption, option_of, slot_gene
from hwnas.blocks.slot import SlotModule
from hwnas.blocks.teacher import check_images
from hwnas.errors import ConfigError
from hwnas.space import SearchSpace, load_space
from hwnas.supernet.identity import supernet_identity
from hwnas.supernet.sam_supernet import build
from hwnas.workflows.blocks.material import digest_of, read_sets, remarks_on, teach
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.watch import Silent, Watch

__all__ = ["BlocksBuilt", "build_blocks", "slot_macs", "slots_of_space"]

Task = tuple[int, BlockOption]


@dataclass(frozen=True, slots=True)
class BlocksBuilt:
    """The library, how many blocks were trained now, and remarks on the data."""

    library: Library
    trained: int
    remarks: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, object]]:
        """For each slot and kind: how many blocks, the least and the largest loss, seconds."""
        groups: dict[tuple[int, str], list[BlockRecord]] = {}
        for record in self.library.blocks.values():
            groups.setdefault((record.slot, option_of(record.block).kind), []).append(record)
        return [
            {
                "slot": slot, "kind": kind, "blocks": len(found),
                "least_nsr": min(r.nsr for r in found), "largest_nsr": max(r.nsr for r in found),
                "seconds": round(sum(r.seconds for r in found), 1),
            }
            for (slot, kind), found in groups.items()
        ]  # fmt: skip


def build_blocks(  # noqa: D417, PLR0913 - one keyword for each option of the command
    space: str | SearchSpace = "sam-vit-t-blocks",
    *,
    data: str | Path,
    out: Path,
    supernet: str | None = None,
    blocks: Sequence[str] = (),
    images: int = 128,
    held_out: int = 32,
    how: Distillation | None = None,
    split_seed: int | None = None,
    seed: int = 0,
    resume: bool = False,
    watch: Watch | None = None,
) -> BlocksBuilt:
    """Build a library, or go on with one (`resume`); what is on disk is not trained again.

    Args:
        space: a space of slots of blocks.
        data: folder of annotated images with the splits `train` and `val`.
        out: folder of the library.
        supernet: the teacher, a name or a file; the model of the space's geometry by default.
        blocks: patterns of the blocks to train, such as `vit-*-w8a8`; all by default.
        images: training images at most, drawn with `seed`.
        held_out: validation images at most, which losses are measured on.
        how: steps, learning rate and the like.
        split_seed: draw the splits with this seed.
        seed: of draws of images, batches and fresh weights.

    Raises:
        HwnasError: an option, the data or the library cannot be used.
    """
    how, watch = how or Distillation(), watch or Silent()
    _check(how, images, held_out)
    found = load_space(space)
    facts, tasks = slots_of_space(found), _tasks(found, blocks)
    resolution = int(str(facts["resolution"]))
    source = supernet or str(facts["geometry"])
    teacher = build(source)
    sets = read_sets(data, images, held_out, split_seed, seed)
    for images_of in sets:
        check_images(images_of, teacher.geometry, resolution)
    settings = {
        "space": found.name, **facts, "slots": teacher.geometry.stages,
        "supernet": source, "identity": supernet_identity(teacher),
        "images": len(sets[0]), "held_out": len(sets[1]),
        "image_names": digest_of(sets[0]), "held_out_names": digest_of(sets[1]),
        **asdict(how), "eps": EPS, "seed": seed,
    }  # fmt: skip
    with StudyLog(out, settings, resume=resume) as log:
        missing = [task for task in tasks if not _is_done(log, task)]
        remarks: tuple[str, ...] = ()
        if missing:
            passes = teach(teacher, sets, resolution, seed, watch)
            remarks = tuple(remarks_on(sets[0], passes[0]))
            for remark in remarks:
                watch.remark(remark)
            macs_of = partial(slot_macs, found)
            _train(Builder(teacher, resolution, *passes, how, seed, macs_of), missing, log, watch)
    return BlocksBuilt(read_library(out), len(missing), remarks)


def slots_of_space(space: SearchSpace) -> dict[str, Any]:
    """The geometry and the resolution of a space of slots of blocks.

    Raises:
        ConfigError: it is a space of another kind.
    """
    facts = space.extras.get("blocks")
    if not facts:
        raise ConfigError(
            f"{space.name} is no space of slots of blocks; expected sam-vit-t-blocks or one made "
            "by search_spaces.sam_blocks.sam_blocks_space"
        )
    return dict(facts)


def slot_macs(space: SearchSpace, slot: int, option: BlockOption) -> int:
    """Multiply-accumulates of an option of a slot, for one image."""
    part = next(p for p in space.slots if p.name == f"slots.{slot}")
    return sum(layer.macs for layer in part.layers(option.name))


def _train(builder: Builder, tasks: Sequence[Task], log: StudyLog, watch: Watch) -> None:
    watch.begin("training blocks", len(tasks))
    for number, (slot, option) in enumerate(tasks, start=1):
        trunk = _trunk(builder, slot, option, log)
        record, tensors = builder.build(slot, option, trunk)
        # the weights first: a line says that they are there
        save_slot(log.path, slot, option.name, tensors)
        log.add(record.key, record.to_dict())
        watch.advance(number, slot=slot, nsr=record.nsr)


def _trunk(builder: Builder, slot: int, option: BlockOption, log: StudyLog) -> SlotModule:
    """The trained shape of an option, read from its file even where it was trained just now."""
    name, key = f"{option.shape}-trunk", trunk_key(slot, option.shape)
    if key not in log or not weights_path(log.path, slot, name).is_file():
        started = time.perf_counter()
        save_slot(log.path, slot, name, builder.trunk(slot, option))
        log.add(key, {"seconds": round(time.perf_counter() - started, 3)})
    return load_slot(
        log.path, builder.supernet, builder.resolution, slot, option.in_float, name=name
    )


def _tasks(space: SearchSpace, patterns: Sequence[str]) -> list[Task]:
    """What to train, slot by slot."""
    tasks: list[Task] = []
    slots = sum(1 for gene in space.genes if gene.name.startswith("slots."))
    used: set[str] = set()
    for slot in range(slots):
        for name in space.gene(slot_gene(slot)).options:
            fits = {pattern for pattern in patterns if fnmatchcase(str(name), pattern)}
            used |= fits
            if patterns and not fits:
                continue
            tasks.append((slot, option_of(str(name))))
    idle = [pattern for pattern in patterns if pattern not in used]
    if idle:
        raise ConfigError(
            f"--blocks {', '.join(idle)}: no block of {space.name} is called like that; expected "
            "patterns of KIND-dDEPTH-rRATIO-BITS, such as vit-*-w8a8 or conv-d1-*"
        )
    return tasks


def _is_done(log: StudyLog, task: Task) -> bool:
    slot, option = task
    known = f"block/{slot}/{option.name}" in log
    return known and weights_path(log.path, slot, option.name).is_file()


def _check(how: Distillation, images: int, held_out: int) -> None:
    numbers = {
        "steps": how.steps,
        "finish": how.finish,
        "batch": how.batch,
        "images": images,
        "held-out": held_out,
    }
    wrong = [f"--{name} {value}" for name, value in numbers.items() if value < 1]
    wrong += [f"--lr {how.lr:g}"] if how.lr <= 0 else []
    if wrong:
        raise ConfigError(f"{', '.join(wrong)}: expected 1 or more, and a learning rate above 0")
