"""The folder of a TVM module: libraries, parameters, a description, and its runner.

    module.json              what the programs read and return, hashes of all files
    encoder.so               bytecode and kernels of one program each, for the device's processor
    box.so, point.so
    parameters.safetensors   every constant once, as the kernels want it
    runner.py                loads and runs all this with numpy and TVM's runtime

The libraries are what `hwnas.measure.executor.export` links for a measurement over RPC, so the
exported encoder is the measured one. A library for another machine is linked by its cross compiler.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hwnas.errors import DeviceError
from hwnas.export.folder_draft import drafted
from hwnas.export.tvm import runner
from hwnas.export.tvm.decoder import decoder_program, token_table
from hwnas.export.tvm.encoder import encoder_program
from hwnas.export.tvm.writer import BoundProgram
from hwnas.measure.builder import Builder, linker_of
from hwnas.measure.executor import export
from hwnas.measure.kernels.family import Array
from hwnas.measure.kernels.isa import Isa

if TYPE_CHECKING:
    from hwnas.supernet.subnet import Subnet

__all__ = ["TvmExport", "export_tvm", "programs_of"]

_FORMAT: Final = "hwnas-tvm-1"
_PARAMETERS: Final = "parameters.safetensors"
_PROMPTS: Final = {"box": "box", "foreground": "point", "background": "point"}
_INSTRUCTIONS: Final = {  # as Linux names them
    "avx512": (("avx512f", "avx512bw", "avx512vl"), ("avx512_vnni",), ("avx512_fp16",)),
    "avx2": (("avx2", "fma"), ("avx_vnni",), ()),
    "neon": (("asimd",), ("asimddp",), ("asimdhp",)),
}


@dataclass(frozen=True)
class TvmExport:
    """A module that was written.

    Attributes:
        folder: Where.
        programs: What it runs, by name; kernels of another machine can be read but not run here.
        file_bytes: Bytes of each file.
    """

    folder: Path
    programs: Mapping[str, BoundProgram]
    file_bytes: Mapping[str, int]


def programs_of(
    subnet: Subnet, builder: Builder, *, sam: Any = None, decoder_bits: int = 16
) -> dict[str, BoundProgram]:
    """Write the programs of a subnet: the encoder, and with `sam` the decoders of its prompts.

    Raises:
        DeviceError: the device cannot run the subnet as it is defined; the message names the layer.
    """
    programs = {"encoder": encoder_program(subnet, builder)}
    if sam is not None:
        for name in ("box", "point"):
            programs[name] = decoder_program(
                sam, subnet.plan.grid, builder, box=name == "box", bits=decoder_bits
            )
    return programs


def export_tvm(
    folder: str | Path, subnet: Subnet, builder: Builder, *, sam: Any = None,
    decoder_bits: int = 16,
) -> TvmExport:  # fmt: skip
    """Write the module of a subnet for the builder's device; the folder appears whole or not.

    Args:
        folder: Must not exist.
        subnet: Whose encoder; `SamSupernet.subnet(arch)`.
        builder: Whose device and cache of kernels.
        sam: The model whose prompt encoder and mask decoder go with it; None: the encoder alone.
        decoder_bits: Of the decoder's weights, as in the search space; 16 runs as fp16 or fp32.

    Raises:
        RunError: the folder exists, or cannot be written.
        Interrupted: Ctrl-C; nothing is left behind.
        DeviceError: the device cannot run the subnet, its linker is not installed, or it is a
            graphics processor, whose kernels are no object files.
    """
    folder = Path(folder)
    with drafted(folder) as draft:
        linker = _linker(builder)
        programs = programs_of(subnet, builder, sam=sam, decoder_bits=decoder_bits)
        kinds = () if sam is None else _PROMPTS
        tokens = {f"tokens.{kind}": token_table(sam, kind) for kind in kinds}
        names = _write_parameters(draft / _PARAMETERS, programs, tokens)
        for name, bound in programs.items():
            export(bound.program, builder.target, draft / f"{name}.so", linker)
        shutil.copyfile(runner.__file__, draft / "runner.py")
        files = {file.name: file.read_bytes() for file in sorted(draft.iterdir())}
        description = _description(subnet, builder, programs, names, sam is not None)
        description["files"] = {n: hashlib.sha256(data).hexdigest() for n, data in files.items()}
        text = json.dumps(description, indent=1)
        (draft / "module.json").write_text(text, encoding="utf-8")
    sizes = {name: len(data) for name, data in files.items()}
    return TvmExport(folder, programs, {**sizes, "module.json": len(text)})


def _linker(builder: Builder) -> Any:
    if builder.on_gpu:
        raise DeviceError(
            f"{builder.device.id} is a graphics processor, whose kernels are linked where they "
            "run; export the ONNX file for it"
        )
    linker = linker_of(builder.target, builder.runs_here)
    if linker is None:
        triple = builder.target.attrs.get("mtriple", "")
        raise DeviceError(
            f"no compiler links libraries for {triple}, the target of {builder.device.id}; install "
            f"{triple}-gcc (Debian: gcc-{triple})"
        )
    return linker


def _write_parameters(
    file: Path, programs: Mapping[str, BoundProgram], tokens: Mapping[str, Array]
) -> dict[str, list[str]]:
    """Write each constant once; returns the names of each program's, in its order.

    Programs share a constant of the same name and value.
    """
    from safetensors.numpy import save

    tensors = {name: table.ravel() for name, table in tokens.items()}
    names: dict[str, list[str]] = {}
    for program, bound in programs.items():
        names[program] = []
        for name, value in bound.values.items():
            shared = tensors.setdefault(name, value)
            kept = name
            if not np.array_equal(shared, value):
                kept = f"{program}/{name}"
                tensors[kept] = value
            names[program].append(kept)
    file.write_bytes(save(tensors))  # save_file would let nobody but its owner read the file
    return names


def _description(
    subnet: Subnet, builder: Builder, programs: Mapping[str, BoundProgram],
    names: Mapping[str, list[str]], prompts: bool,
) -> dict[str, Any]:  # fmt: skip
    device, plan = builder.device, subnet.plan
    target = builder.target
    triple = str(target.attrs.get("mtriple", ""))
    taken = {kind: {"program": p, "tokens": f"tokens.{kind}"} for kind, p in _PROMPTS.items()}
    return {
        "format": _FORMAT,
        "device": device.id,
        "machine": {
            "architecture": triple.partition("-")[0],
            "target": f"{triple}, {target.attrs.get('mcpu', 'generic')}",
            "instructions": _instructions(builder.isa),
        },
        "built_with": builder.version,
        "threads": device.threads or 1,
        "geometry": plan.geometry.name,
        "resolution": plan.resolution,
        "patch": plan.geometry.patch,
        "parameters": _PARAMETERS,
        "programs": {
            name: {
                "library": f"{name}.so",
                "inputs": list(bound.program.inputs.items()),
                "constants": names[name],
                "outputs": list(bound.program.outputs),
                "calls": [[call.layer, call.kernel.key] for call in bound.calls],
                "added": [call.layer for call in bound.added],
                "changed": [call.layer for call in bound.changed],
            }
            for name, bound in programs.items()
        },
        "prompts": taken if prompts else {},
    }


def _instructions(isa: Isa) -> list[str]:
    base, dot, half = _INSTRUCTIONS.get(isa.name, ((), (), ()))
    return [*base, *(dot if isa.dot != "none" else ()), *(half if isa.float16 else ())]
