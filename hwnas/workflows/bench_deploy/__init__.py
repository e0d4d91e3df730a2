"""Designs in three runtimes of this machine, beside the full network in float and at 8 bits."""

from hwnas.workflows.bench_deploy.bench import DeployBench, bench_deploy
from hwnas.workflows.bench_deploy.subjects import DesignChoice

__all__ = ["DeployBench", "DesignChoice", "bench_deploy"]
